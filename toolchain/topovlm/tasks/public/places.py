"""Where a benchmark's files are: the user's folder, the hub's cache, the Arrow cache. No network."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from topovlm.errors import InputError, explain
from topovlm.tasks.public.record import Benchmark

TABLES = (".parquet", ".arrow", ".jsonl", ".json", ".csv", ".tsv")
_MOST_FILES = 200_000  # below one folder


@dataclass(frozen=True)
class Table:
    """A file of rows: `config` is the part of the benchmark that it holds."""

    path: Path
    config: str


@dataclass(frozen=True)
class Place:
    """A folder that holds the benchmark; `what` says which, for the report, without a path."""

    root: Path
    tables: tuple[Table, ...]
    what: str


def find(record: Benchmark, folder: Path | None, *, uncut: bool = False) -> Place:
    """The first place that has tables of the split. Raises `InputError` naming all places and a remedy.

    `uncut`: in the hub's cache, a revision with whole clips comes after the benchmark's own.
    """
    searched: list[str] = []
    other = record.videos.uncut_revision if uncut and record.videos else ""
    for root, what in _roots(record, folder, [record.revision, *([other] if other else [])]):
        searched.append(str(root))
        tables = tables_in(record, root)
        if tables:
            return Place(root if root.is_dir() else root.parent, tables, what)
    rule = f"{record.title} is in none of {', '.join(searched)}"
    raise InputError(explain("--bench", record.name, rule, f"Get it with `{fetch_command(record)}`"))


def fetch_command(record: Benchmark) -> str:
    """What downloads it into the hub's cache, where it is found then."""
    revision = "" if record.revision == "main" else f" --revision {record.revision}"
    return f"hf download --repo-type dataset {record.ids[0]}{revision}"


def _roots(record: Benchmark, folder: Path | None, revisions: Sequence[str]) -> Iterator[tuple[Path, str]]:
    if folder is not None:
        folder = folder.expanduser()
        if not folder.exists():
            raise InputError(explain("--data", str(folder), "does not exist", "Name a folder or a file"))
        names = dict.fromkeys((record.name, *(name.partition("/")[2] for name in record.ids)))
        for name in (*names, ""):
            if (folder / name).exists():
                yield folder / name, f"the folder {name or folder.name}"
        return
    for revision, name in itertools.product(revisions, record.ids):
        repo = hub_cache() / f"datasets--{name.replace('/', '--')}"
        snapshot = _snapshot(repo, revision)
        if snapshot is None:  # another revision's may be there: its questions may be cut otherwise
            yield repo / "refs" / revision, name
        else:
            yield snapshot, f"{name}, revision {snapshot.name[:12]}"
    for name in record.ids:
        yield arrow_cache() / name.replace("/", "___"), f"{name}, Arrow cache"
        lower = name.replace("/", "___").lower()
        if lower != name.replace("/", "___"):
            yield arrow_cache() / lower, f"{name}, Arrow cache"


def _home() -> Path:
    return Path(os.environ.get("HF_HOME") or "~/.cache/huggingface").expanduser()


def hub_cache() -> Path:
    """As huggingface_hub resolves it, at the time of asking."""
    given = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    return Path(given).expanduser() if given else _home() / "hub"


def arrow_cache() -> Path:
    given = os.environ.get("HF_DATASETS_CACHE")
    return Path(given).expanduser() if given else _home() / "datasets"


def _snapshot(repo: Path, revision: str) -> Path | None:
    """The revision's own snapshot; else the newest one that is there, if there is no record of revisions."""
    reference = repo / "refs" / revision
    try:
        commit = reference.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        commit = ""
    snapshots = repo / "snapshots"
    if commit and "/" not in commit and (snapshots / commit).is_dir():
        return snapshots / commit
    if (repo / "refs").is_dir() and any((repo / "refs").iterdir()):
        return None
    found = sorted(snapshots.glob("*"), key=lambda path: path.stat().st_mtime) if snapshots.is_dir() else []
    return found[-1] if found else None


def tables_in(record: Benchmark, root: Path) -> tuple[Table, ...]:
    """Tables of the split below a folder, in the order of the configurations; all of one kind."""
    if root.is_file():
        return (Table(root, record.configs[0]),) if root.suffix in TABLES else ()
    if not root.is_dir():
        return ()
    files = [path for path in _files(root) if path.suffix in TABLES]
    for suffix in TABLES:
        found = _chosen(record, root, [path for path in files if path.suffix == suffix])
        if found:
            return found
    return ()


def _files(root: Path) -> list[Path]:
    found = []
    for folder, folders, names in os.walk(root, followlinks=False):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(folder, name) for name in sorted(names)]
        if len(found) > _MOST_FILES:
            rule = f"holds more than {_MOST_FILES} files"
            raise InputError(explain("--data", str(root), rule, "Name the benchmark's own folder"))
    return found


def _chosen(record: Benchmark, root: Path, files: list[Path]) -> tuple[Table, ...]:
    split = [path for path in files if _is_of_split(path.relative_to(root), record.split)]
    if record.configs == ("*",):  # merged in one table, or a folder for each subject
        merged = [path for path in split if path.parent in (root, root / "data")]
        return tuple(Table(path, path.parent.name) for path in (merged or split))
    found = []
    for config in record.configs:
        own = [path for path in split if _is_of_config(path.relative_to(root), config)]
        if not own:  # one table named by its part, as MVBench's json/PART.json
            own = [path for path in files if path.stem == config]
        found += [Table(path, config) for path in own]
    if not found and len(record.configs) == 1:
        found = [Table(path, record.configs[0]) for path in split if path.parent in (root, root / "data")]
    return tuple(found)


def _is_of_split(path: Path, split: str) -> bool:
    """`test-00000-of-00002.parquet`, `test.json`, `ai2d-test.arrow`, or any file in a folder `test`."""
    stem = path.stem
    named = stem == split or stem.startswith((f"{split}-", f"{split}_")) or f"-{split}-" in stem
    return named or stem.endswith(f"-{split}") or path.parent.name == split


def _is_of_config(path: Path, config: str) -> bool:
    """In a folder of that name, or one that begins with it (Arrow caches add a hash)."""
    if config == "default":
        return not set(path.parts[:-1]) - {"data", "default"} or "default" in path.parts[:-1]
    return any(part == config or part.startswith(f"{config}-") for part in path.parts[:-1])
