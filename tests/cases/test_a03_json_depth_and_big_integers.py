"""JSON and TOML that are deep, huge, of another kind or no text: bad input wherever they are read."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from tests.cases.command import mini, topovlm

PLAN = ("plan", "--target", "jetson-orin", "--max-latency", "60%")
PRUNE = ("prune", "--no-verify", "--model", "m", "--drop", 1, "-o", "o")
DEPLOY = ("deploy", "--target", "jetson-orin", "--max-latency", "200ms")
# file -> the command that reads it.
READERS = {
    "m/config.json": (*PLAN, "--model", "m"),
    "m/preprocessor_config.json": (*PLAN, "--model", "m"),
    "m/processor_config.json": (*PLAN, "--model", "m"),
    "m/model.safetensors.index.json": PRUNE,
    "p.json": ("plan", "--target", "local", "--profile", "p.json", "--max-latency", "60%"),
    "report.json": ("report", "report.json"),
    "baseline.json": ("check", "baseline.json", "--baseline", "baseline.json"),
    "e/topovlm_runtime.json": ("run", "e", "--prompt", "x"),
    "d.jsonl": (*DEPLOY, "--data", "d.jsonl", "-o", "o"),
}
SPOILT = {
    "deep": b"[" * 100_000,
    "deep objects": b'{"a":' * 100_000,
    "closed": b"[" * 5_000 + b"]" * 5_000,
    "big": b'{"schema": 2, "schema_version": 2, "model_type": "llava", "a": ' + b"9" * 5_000 + b"}",
    "nan": b'{"schema": 2, "schema_version": 2, "model_type": "llava", "a": NaN}',
    "infinite": b'{"schema": 2, "schema_version": 2, "model_type": "llava", "a": 1e999}',
    "surrogate": b'{"schema": 2, "schema_version": 2, "model_type": "llava", "a": "\\ud800"}',
    "a list": b"[1]",
    "a text": b'"config"',
    "nothing": b"null",
    "empty": b"",
    "nul": b"\0\0\0\0",
    "utf-16": '{"model_type": "llava"}'.encode("utf-16"),
    "latin-1": b'{"model_type": "\xe9"}',
}

EVERY_KIND = ("m/config.json", "report.json", "d.jsonl")


def spoil(folder: Path, name: str) -> Path:
    """The folder's models, and the place of the file that is spoilt."""
    mini(folder / "m", sharded="index" in name)
    (folder / "e").mkdir()
    (folder / name).unlink(missing_ok=True)
    return folder / name


@pytest.mark.parametrize("name", READERS)
def test_each_is_one_sentence_that_names_the_file(tmp_path: Path, name: str) -> None:
    """Never an internal error."""
    file = spoil(tmp_path, name)
    kinds = SPOILT if name in EVERY_KIND else ("deep", "big", "latin-1")
    for kind in kinds:
        file.write_bytes(SPOILT[kind])
        done = topovlm(*READERS[name], cwd=tmp_path)
        assert done.refused, (kind, done.code, done.err[-300:])
        assert file.name in done.last, (kind, done.last)
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("name", ["m/config.json", "p.json", "report.json", "d.jsonl", "t.toml"])
def test_what_is_no_file_is_not_waited_for(tmp_path: Path, name: str) -> None:
    """Pipes and devices, directly and through links."""
    readers = {**READERS, "t.toml": ("targets", "./t.toml")}
    file = spoil(tmp_path, name)
    os.mkfifo(tmp_path / "pipe")
    for target in ("/dev/zero", tmp_path / "pipe"):
        file.symlink_to(target)
        done = topovlm(*readers[name], cwd=tmp_path, limit_s=30)
        assert done.refused, (target, done.code, done.err[-300:])
        file.unlink()


@pytest.mark.parametrize(
    "header",
    [
        b'{"z":' + b"[" * 100_000 + b"}",
        b'{"z":' + b"9" * 5_000 + b"}",
        b"[1]",
        b'{"z":{"dtype":"F16","shape":[%s],"data_offsets":[0,8]}}' % (b"9" * 30),
        b'{"z":{"dtype":"F16","shape":[true,4],"data_offsets":[0,8]}}',
        b'{"z":{"dtype":"F16","shape":[4],"data_offsets":[-8,0]}}',
        b'{"z":{"dtype":"F16","shape":[4],"data_offsets":["0",8]}}',
        b'{"__metadata__":{"a":1}}',
        b'{"__metadata__":7}',
        b'{"z":{},"z":{}}',
        b'{"z":{"dtype":["F16"],"shape":[4],"data_offsets":[0,8]}}',
    ],
)
def test_headers_of_weights(tmp_path: Path, header: bytes) -> None:
    """The JSON in front of a safetensors file."""
    mini(tmp_path / "m")
    raw = struct.pack("<Q", len(header)) + header + bytes(8)
    (tmp_path / "m" / "model.safetensors").write_bytes(raw)
    done = topovlm(*PRUNE, cwd=tmp_path)
    assert done.refused
    assert "model.safetensors" in done.last


def test_a_header_that_says_it_is_huge(tmp_path: Path) -> None:
    """Its length alone is no reason to read on."""
    mini(tmp_path / "m")
    file = tmp_path / "m" / "model.safetensors"
    with file.open("wb") as opened:
        opened.write(struct.pack("<Q", 90_000_000))
        opened.truncate(2**33)  # no room is taken on the disk
    done = topovlm(*PRUNE, cwd=tmp_path, limit_s=30, memory_bytes=2**33)
    assert done.refused
    assert "header" in done.last


@pytest.mark.parametrize(
    ("key", "words"), [("x", ("targets", "./a.toml")), ("seed", (*DEPLOY, "--dry-run", "--config", "a.toml"))]
)
def test_toml(tmp_path: Path, key: str, words: tuple[str, ...]) -> None:
    """Of a target and of a configuration: deep, big, no figure, NUL, other encodings."""
    for value in ("[" * 20_000, "9" * 5_000, "0x" + "f" * 5_000, "nan", "'a\0b'", "'\u00e9'"):
        (tmp_path / "a.toml").write_bytes(f"{key} = {value}".encode("latin-1"))
        done = topovlm(*words, cwd=tmp_path)
        assert done.refused, (value[:20], done.code, done.err[-300:])
        assert "a.toml" in done.last
