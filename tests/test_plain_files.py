"""Files that others made: a regular file within its bound, or a sentence; never a wait."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from topovlm import toml
from topovlm.artifacts import inside, read_json
from topovlm.errors import InputError
from topovlm.pictures import load_image
from topovlm.plain_files import read_plain
from topovlm.predict.profile import load_profile
from topovlm.report.store import read_report
from topovlm.samples import read_jsonl

READERS = {
    "json": read_json,
    "toml": lambda path: toml.read_toml(path, field="file"),
    "profile": load_profile,
    "report": read_report,
    "samples": read_jsonl,
    "picture": load_image,
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("pipe", "is a pipe"),
        ("/dev/zero", "is a device"),
        ("socket", "is a socket"),
        ("folder", "is a folder|has no report.json"),
        ("to-pipe", "is a pipe"),
        ("loop", "cannot be read"),
        ("missing", "does not exist"),
        ("n" * 300, "cannot be read"),
        ("a\0b", "NUL"),
    ],
)
def test_every_reader_refuses_what_is_no_file(tmp_path: Path, reader: str, name: str, words: str) -> None:
    """At once: nobody writes into the pipe, and the device has no end."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "to-pipe").symlink_to(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        before = Path.cwd()
        os.chdir(tmp_path)  # a socket's path has a bound of its own
        try:
            server.bind("socket")
        finally:
            os.chdir(before)
        with pytest.raises(InputError, match=words):
            READERS[reader](tmp_path / name)


def test_the_bound_is_the_last_size_that_is_read(tmp_path: Path) -> None:
    """One byte more is refused, before it is all in memory."""
    file = tmp_path / "file"
    file.write_bytes(b"x" * 2**20)
    assert len(read_plain(file, most_bytes=2**20)) == 2**20
    with pytest.raises(InputError, match="more than 0 MiB"):
        read_plain(file, most_bytes=2**20 - 1)


@pytest.mark.parametrize(
    "name", ["", "/etc", "..", "a/../../b", "a\0b", "a\\b", "out", "out/file", "loop/file"]
)
def test_names_that_lead_out_of_a_folder(tmp_path: Path, name: str) -> None:
    """By themselves or through links."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "out").symlink_to(tmp_path)
    (folder / "loop").symlink_to(folder / "loop")
    assert inside(folder, name) is None


@pytest.mark.parametrize("name", [".", "a", "a/b.json", "..a", "in/b"])
def test_names_that_stay_in_a_folder(tmp_path: Path, name: str) -> None:
    """Links within it too."""
    (tmp_path / "a").mkdir()
    (tmp_path / "in").symlink_to(tmp_path / "a")
    assert inside(tmp_path, name) == tmp_path / name


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"x = " + b"[" * 20_000, "nested too deeply"),
        (b"x = " + b"[" * 60 + b"]" * 60, "nested too deeply"),
        (b"a" + b".a" * 150 + b" = 1", "nested too deeply"),
        (b"a" + b".a" * 5_000 + b" = 1", "parts"),
        (b"x = " + b"9" * 5_000, "more than 64 bits"),
        (b"x = 0x" + b"f" * 5_000, "more than 64 bits"),
        (b"x = nan", "no figure"),
        (b"x = [1.0, -inf]", "no figure"),
        (b"x = 'a\0b'", "is not TOML"),
        (b"x = '\xff'", "is not UTF-8"),
        ("x = 1".encode("utf-16"), "is not UTF-8"),
        (b"x = 1\nx = 2", "is not TOML"),
        (b"#" * 2**19, "more than"),
    ],
)
def test_toml_that_is_refused(tmp_path: Path, text: bytes, words: str) -> None:
    """Each with a rule, in no time."""
    (tmp_path / "a.toml").write_bytes(text)
    with pytest.raises(InputError, match=words):
        toml.read_toml(tmp_path / "a.toml", field="target file")


def test_toml_of_other_systems(tmp_path: Path) -> None:
    """Windows' line ends and the mark that its editors write in front."""
    (tmp_path / "a.toml").write_bytes("\ufeffname = 'é'\r\nlist = [\r\n 1]\r\n".encode())
    assert toml.read_toml(tmp_path / "a.toml", field="file") == {"name": "é", "list": [1]}
