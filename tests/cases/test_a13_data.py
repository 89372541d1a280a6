"""Data that waits, explodes or starts programs: refused before anything is made."""

from __future__ import annotations

import json
import os
import socket
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.cases.command import topovlm
from tests.pipeline import deploying


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return deploying.build_model(tmp_path_factory.mktemp("model") / "tiny")


def bomb(bits: int = 8) -> bytes:
    """A picture of 268 million pixels in some kilobytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 2**14, 2**14, bits, 0, 0, 0, 0)
    packed = zlib.compress(bytes((2**14 * bits // 8 + 1) * 2**10))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def questions(folder: Path, **change: Any) -> None:
    """48 questions about 24 pictures; the last is changed."""
    rng = np.random.default_rng(0)
    for number in range(24):
        Image.fromarray(rng.integers(0, 255, (48, 48, 3), dtype=np.uint8)).save(folder / f"p{number}.png")
    rows = [{"image": f"p{n % 24}.png", "prompt": f"What {n}?", "answer": "red"} for n in range(48)]
    rows[-1].update(change)
    (folder / "d.jsonl").write_text("\n".join(map(json.dumps, rows)))


@pytest.mark.parametrize(
    "kind",
    [
        "eps",
        "pipe",
        "device",
        "socket",
        "link to a pipe",
        "large",
        "many bits",
        "truncated",
        "empty",
        "folder",
    ],
)
def test_pictures(model: Path, tmp_path: Path, kind: str) -> None:
    """In ten seconds and a gigabyte beside the libraries; Ghostscript is not started, nothing is written."""
    questions(tmp_path, image="x.png")
    picture = tmp_path / "x.png"
    server = socket.socket(socket.AF_UNIX)
    if kind == "eps":
        picture.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n")
    elif kind == "pipe":
        os.mkfifo(picture)
    elif kind == "device":
        picture.symlink_to("/dev/zero")
    elif kind == "socket":
        before = Path.cwd()
        os.chdir(tmp_path)
        server.bind("x.png")
        os.chdir(before)
    elif kind == "link to a pipe":
        os.mkfifo(tmp_path / "pipe")
        picture.symlink_to("pipe")
    elif kind == "folder":
        picture.mkdir()
    elif kind == "empty":
        picture.touch()
    elif kind == "truncated":
        picture.write_bytes((tmp_path / "p0.png").read_bytes()[:2000])
    else:
        picture.write_bytes(bomb(16 if kind == "many bits" else 8))
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/started\nexit 1\n")
    (programs / "gs").chmod(0o755)
    words = (*deploying.arguments(model, tmp_path / "o"), "--data", "d.jsonl")
    env = {"PATH": f"{programs}:{os.environ['PATH']}"}
    done = topovlm(*words, cwd=tmp_path, limit_s=60, memory_bytes=2**32, env=env)
    server.close()
    assert done.refused, (done.code, done.err[-500:])
    assert "d.jsonl:48" in done.last
    assert "x.png" in done.last
    assert not (tmp_path / "started").exists()
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("field", ["prompt", "answer", "id"])
def test_lone_surrogates_are_found_before_the_export(model: Path, tmp_path: Path, field: str) -> None:
    """By line and field."""
    questions(tmp_path, **{field: "\ud800"})
    words = (*deploying.arguments(model, tmp_path / "o"), "--data", "d.jsonl")
    done = topovlm(*words, cwd=tmp_path)
    assert done.refused
    assert "d.jsonl:48" in done.last
    assert f"{field} holds half" in done.last
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    "line",
    [
        '{"prompt": "a", "answer": "red", "answer": "blue"}',
        '{"prompt": "a", "chance": NaN}',
        '{"prompt": "a", "id": null, "image": "a\\u0000b.png"}',
        '{"prompt": "a", "image": {"a": 1}}',
        '{"prompt": ["a"]}',
        '{"prompt": "a"} {"prompt": "b"}',
        "x" * 5_000_000,
    ],
)
def test_lines(tmp_path: Path, line: str) -> None:
    """One that could be read in two ways, or not at all."""
    questions(tmp_path)
    with (tmp_path / "d.jsonl").open("a") as file:
        file.write("\n" + line)
    done = topovlm("score", "--data", "d.jsonl", "--samples", 8, cwd=tmp_path)
    assert done.refused, (done.code, done.err[-300:])
    assert "49" in done.last
