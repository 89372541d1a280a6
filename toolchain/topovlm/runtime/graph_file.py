"""Where an ONNX file keeps its weights, read from its bytes alone: the packages of a device have no `onnx`.

A protobuf message is a run of fields (number, wire type, value). Tensors lie in graphs, in the attributes of
nodes, in the graphs of those, and in functions; each may name a file of its own.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

from topovlm.errors import InputError, explain

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
# Message -> field number -> the message that lies in it (onnx.proto).
_INSIDE: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
    "entry": {},
}
_DEEPEST = 64


def external_files(path: Path) -> set[str]:
    """Locations of tensors outside the file, as it spells them. Raises `InputError`: it is no ONNX."""
    if path.stat().st_size == 0:
        raise _broken(path, "is empty")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            return set(_locations(data, 0, len(data), "model", 0))
        except (ValueError, IndexError, UnicodeDecodeError) as error:
            raise _broken(path, f"is no ONNX model: {error}") from None


def _broken(path: Path, rule: str) -> InputError:
    return InputError(explain("graph", str(path), rule, "Export again"))


def _locations(data: mmap.mmap, start: int, end: int, kind: str, depth: int) -> Iterator[str]:
    if depth > _DEEPEST:
        raise ValueError("it is nested too deeply")
    for number, begin, stop in _fields(data, start, end):
        inner = _INSIDE[kind].get(number)
        if inner == "entry":
            held = {n: data[b:s] for n, b, s in _fields(data, begin, stop)}
            if held.get(1) == b"location":
                yield held.get(2, b"").decode()
        elif inner is not None:
            yield from _locations(data, begin, stop, inner, depth + 1)


def _fields(data: mmap.mmap, place: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(number, begin, stop) of each field that holds bytes."""
    while place < end:
        key, place = _varint(data, place)
        wire = key & 7
        if wire == _VARINT:
            _, place = _varint(data, place)
        elif wire == _FIXED64:
            place += 8
        elif wire == _FIXED32:
            place += 4
        elif wire == _BYTES:
            length, place = _varint(data, place)
            if place + length > end:
                raise ValueError("it is cut short")
            yield key >> 3, place, place + length
            place += length
        else:
            raise ValueError(f"a field of kind {wire} is in it")
    if place > end:
        raise ValueError("it is cut short")


def _varint(data: mmap.mmap, place: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 70:
        byte = data[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
        shift += 7
    raise ValueError("a number in it has no end")
