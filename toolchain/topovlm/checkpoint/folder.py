"""Which files of a model's folder are read and carried along: those that lie in it, and are files.

A folder may come from anywhere. What a link in it points at would be published with the next model, and a
pipe or a device never ends. Only the hub's cache is laid out in links: to blobs of the same repository.
"""

from __future__ import annotations

import functools
import stat
from fnmatch import fnmatchcase
from pathlib import Path

from topovlm.errors import InputError, explain
from topovlm.records import Strict, convert
from topovlm.toml import read_toml

# What makes up a checkpoint besides its weights; other files of a repository are not ours to carry along.
SIDE_FILES = ("*.json", "*.jinja", "*.model", "*.txt", "LICENSE*", "NOTICE*", "USE_POLICY*")
_WEIGHTS = "*.safetensors"
_TEMPLATES = "additional_chat_templates"  # a folder that transformers reads
_READ = (*SIDE_FILES, _WEIGHTS, "README.md", _TEMPLATES)
_MOST_BYTES = 200_000_000  # of one file that is no weights: the largest vocabularies take a tenth
_RESULTS = Path(__file__).with_name("data") / "results.toml"


class _Results(Strict, frozen=True, kw_only=True):
    names: tuple[str, ...]


@functools.lru_cache(maxsize=1)
def _results() -> tuple[str, ...]:
    content = read_toml(_RESULTS, field="results")
    return convert(content, _Results, field="results", name=str(_RESULTS)).names


def side_files(folder: Path) -> list[Path]:
    """Configuration, tokenizer, processor, template and licence files, without weights and their index, and
    without results of the model's training, which are no part of it."""
    found = {path for pattern in SIDE_FILES for path in folder.glob(pattern) if path.is_file()}
    skipped = ("*.index.json", *_results())
    return sorted(path for path in found if not _fits(path.name, skipped))


def check_folder(folder: Path) -> None:
    """Raise `InputError` naming a file that is read or carried along and is not the folder's own."""
    home = folder.resolve()
    homes = (home, *_blobs(home))
    try:
        entries = [path for path in folder.iterdir() if _fits(path.name, _READ)]
        templates = folder / _TEMPLATES
        if templates.is_dir():
            _check(templates, homes)
            entries += templates.iterdir()
        for path in sorted(entries):
            _check(path, homes)
    except OSError as error:
        raise InputError(explain("--model", str(folder), f"cannot be read ({error.strerror})")) from None


def _fits(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _blobs(home: Path) -> tuple[Path, ...]:
    """Where the hub's cache keeps the files of a snapshot: its repository's blobs, or those of all."""
    if home.parent.name != "snapshots":
        return ()
    repository = home.parent.parent
    return repository / "blobs", repository.parent / "blobs"


def _check(path: Path, homes: tuple[Path, ...]) -> None:
    if path.is_symlink():
        try:
            target = path.resolve(strict=True)
        except (OSError, RuntimeError):  # nothing is there, or links in a circle
            rule, remedy = "is a link that leads nowhere", "Download or copy the file again"
            raise InputError(explain("--model", str(path), rule, remedy)) from None
        if not any(target.is_relative_to(home) for home in homes):
            rule, remedy = "is a link that leads out of the model's folder", "Put the file itself there"
            raise InputError(explain("--model", str(path), rule, remedy))
    facts = path.stat()
    if stat.S_ISDIR(facts.st_mode):
        return
    if not stat.S_ISREG(facts.st_mode):
        raise InputError(explain("--model", str(path), "is a pipe or a device, not a file"))
    if facts.st_size > _MOST_BYTES and not fnmatchcase(path.name, _WEIGHTS):
        rule = f"has {facts.st_size} bytes, and a file beside weights has at most {_MOST_BYTES}"
        raise InputError(explain("--model", str(path), rule))
