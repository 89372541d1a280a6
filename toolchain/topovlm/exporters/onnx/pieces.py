"""Traced pieces are kept, in memory and on disk, under everything that they depend on.

A piece holds no weights: it follows from the checkpoint's config, our own modules and the versions of the
libraries that trace and lower it. All of that is in its key, so a kept piece is never stale; and whatever is
made from it still has to pass the parity gate. `TOPOVLM_CACHE` names another folder, or `off`.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import shutil
from collections.abc import Callable, Mapping
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from topovlm.workers.kept import user_folder

if TYPE_CHECKING:
    import onnx_ir as ir

_LIBRARIES = ("torch", "transformers", "onnx", "onnx-ir", "onnxscript")
_SOURCES = ("modules.py", "rules.py", "experts.py", "trace.py", "decoder.py", "graphs.py", "pieces.py")
_memory: dict[str, dict[str, ir.Model]] = {}


def remembered(
    facts: str,
    names: tuple[str, ...],
    make: Callable[[], Mapping[str, ir.Model]],
    kind: type[object] | None = None,
) -> dict[str, ir.Model]:
    """The models called `names` that `make()` returns, from memory, else from disk, else made and kept.

    `kind`: the class that is traced, where it is not one of ours here: its source, that of the classes that
    it is made from, and what lies beside them, is a part of the key.
    """
    code = "" if kind is None else f"{kind.__qualname__} {' '.join(_sources(kind))}"
    key = hashlib.sha256("\n".join((facts, code, *names, *_circumstances())).encode()).hexdigest()
    if key not in _memory:
        folder = cache_folder()
        held = None if folder is None else _read(folder / key, names)
        if held is None:
            held = dict(make())
            if folder is not None:
                _write(folder / key, held)
        _memory[key] = held
    return _memory[key]


def cache_folder() -> Path | None:
    """Where pieces are kept on disk; None when that is switched off."""
    return user_folder("traced")


def _sources(kind: type[object]) -> list[str]:
    """Of a class and its bases, but those of Python and torch, whose version is in the key."""
    bases = (base for base in kind.__mro__ if base.__module__.partition(".")[0] not in ("builtins", "torch"))
    return [_source(inspect.getfile(base)) for base in bases]


@lru_cache(maxsize=8)
def _source(file: str) -> str:
    """Of a module and those beside it, which it may use."""
    whole = hashlib.sha256()
    for path in sorted(Path(file).parent.glob("*.py")):
        whole.update(path.read_bytes())
    return whole.hexdigest()


@lru_cache(maxsize=1)
def _circumstances() -> tuple[str, ...]:
    here = Path(__file__).parent
    sources = (hashlib.sha256((here / name).read_bytes()).hexdigest() for name in _SOURCES)
    return (*(f"{name} {version(name)}" for name in _LIBRARIES), *sources)


def _read(folder: Path, names: tuple[str, ...]) -> dict[str, ir.Model] | None:
    import onnx_ir as ir

    try:
        return {name: ir.load(folder / f"{name}.onnx") for name in names}
    except Exception:  # absent, cut short, of another format: it is traced again
        return None


def _write(folder: Path, models: Mapping[str, ir.Model]) -> None:
    """All files under a temporary name, then one rename. A disk that refuses costs time later, no more."""
    import onnx_ir as ir

    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
        for name, model in models.items():
            ir.save(model, temporary / f"{name}.onnx")
        if not folder.exists():
            temporary.rename(folder)
    except OSError:
        pass
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
