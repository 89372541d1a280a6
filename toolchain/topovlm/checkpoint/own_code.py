"""Code that comes with a model is never run: files that name some are refused, whatever would load them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from topovlm.artifacts import read_json
from topovlm.errors import InputError, explain

# Fields that name Python files of the model's own.
_FIELDS = frozenset({"auto_map", "custom_pipelines", "custom_generate"})
# A file that has none of this in it, in letters or as escapes, is not parsed: vocabularies are large.
_TRACES = (*(field.encode() for field in _FIELDS), b"\\u00")


def refuse_own_code(folder: Path) -> None:
    """Raise `InputError` naming the JSON file, at the top of a model's folder, and the field in it."""
    for file in sorted(folder.glob("*.json")):
        for path, value in named_code(file):
            rule, remedy = "needs code of its own to load", "Convert it to a stock model type"
            raise InputError(explain(f"{file.name}: {path}", value, rule, remedy).at(str(folder)))


def without_own_code(content: Any) -> Any:
    """The same without the fields that name code, at any depth; what transformers reads needs none."""
    if isinstance(content, Mapping):
        return {key: without_own_code(value) for key, value in content.items() if key not in _FIELDS}
    return [without_own_code(value) for value in content] if isinstance(content, list) else content


def named_code(file: Path) -> list[tuple[str, Any]]:
    """(path, value) of the fields of a JSON file that name code."""
    if not file.is_file() or not any(trace in file.read_bytes() for trace in _TRACES):
        return []
    return list(_named(read_json(file)))


def _named(content: Any) -> Iterator[tuple[str, Any]]:
    """(path, value) of the fields that name code; no recursion."""
    waiting: list[tuple[str, Any]] = [("", content)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, Mapping):
            before = f"{path}." if path else ""
            for key, inner in value.items():
                # In a vocabulary the same word is a token, with a number.
                if key in _FIELDS and inner and isinstance(inner, (str, list, Mapping)):
                    yield f"{before}{key}", inner
                waiting.append((f"{before}{key}", inner))
        elif isinstance(value, list):
            waiting += [(f"{path}[{place}]", inner) for place, inner in enumerate(value)]
