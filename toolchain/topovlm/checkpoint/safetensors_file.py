"""The safetensors format by hand: headers are read and files written without loading a tensor.

Layout: 8 bytes little-endian header length, JSON header, then the tensors' bytes without gaps.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from topovlm import json_text
from topovlm.errors import InputError, explain
from topovlm.plain_files import MEBIBYTE, open_plain

_CHUNK_BYTES = 1 << 22
# The format allows 100 MB; 100,000 tensors, more than any file has, take 13 MB.
_MAX_HEADER_BYTES = 16 * MEBIBYTE
_MOST_AXES = 64
_BITS = {
    "BOOL": 8,
    "U8": 8,
    "I8": 8,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "F4": 4,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "I64": 64,
    "U64": 64,
    "F64": 64,
    "C64": 64,
}


@dataclass(frozen=True)
class TensorEntry:
    """Where one tensor's bytes are: `offset_bytes` counts from the start of `file`."""

    name: str
    file: Path
    dtype: str
    shape: tuple[int, ...]
    offset_bytes: int
    size_bytes: int

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


def read_header(path: Path) -> tuple[list[TensorEntry], dict[str, str]]:
    """Tensors (in the order of their bytes) and metadata. Raises `InputError` when the file is damaged."""

    def damaged(rule: str) -> InputError:
        return InputError(explain("weights", str(path), rule, "Download or copy the file again"))

    try:
        size = path.stat().st_size
        with open_plain(path, field="weights") as file:
            start = file.read(8)
            if len(start) < 8:
                raise damaged(f"is truncated ({size} bytes)")
            (length,) = struct.unpack("<Q", start)
            if length > _MAX_HEADER_BYTES or length < 2:
                raise damaged("is not a safetensors file (its header length is impossible)")
            if 8 + length > size:
                raise damaged(f"is truncated inside its header ({size} of at least {8 + length} bytes)")
            raw = file.read(length)
    except OSError as error:
        raise InputError(explain("weights", str(path), f"cannot be read ({error.strerror})")) from None
    try:
        header = json_text.parse(raw, unique_keys=True)
        metadata = _metadata(header.pop("__metadata__", {}))
        entries = [_entry(path, 8 + length, name, facts) for name, facts in header.items()]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise damaged(f"has a corrupt header ({error})") from None
    entries.sort(key=lambda entry: (entry.offset_bytes, entry.size_bytes))
    expected = 8 + length
    for entry in entries:
        if entry.offset_bytes != expected:
            raise damaged(f"is corrupt: the bytes of {entry.name} do not follow the tensor before it")
        expected += entry.size_bytes
    if expected > size:
        raise damaged(f"is truncated ({size} of {expected} bytes)")
    if expected < size:
        raise damaged(f"is corrupt: {size - expected} bytes belong to no tensor")
    return entries, metadata


def _metadata(held: object) -> dict[str, str]:
    """The format allows texts only."""
    if not isinstance(held, dict) or not all(isinstance(text, str) for text in held.values()):
        raise ValueError("__metadata__ must hold texts")
    return held


def _entry(path: Path, base: int, name: str, facts: Mapping[str, object]) -> TensorEntry:
    dtype, shape, offsets = facts["dtype"], facts["shape"], facts["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _BITS:
        raise ValueError(f"{name}: unknown dtype {dtype!r}")
    if not isinstance(shape, list) or len(shape) > _MOST_AXES or not all(map(_is_length, shape)):
        raise ValueError(f"{name}: bad shape {shape!r:.200}")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(_is_length, offsets)):
        raise ValueError(f"{name}: bad offsets {offsets!r:.200}")
    begin, end = offsets
    if (end - begin) * 8 != math.prod(shape) * _BITS[dtype]:
        raise ValueError(f"{name}: {end - begin} bytes do not fit shape {shape} of {dtype}")
    return TensorEntry(name, path, dtype, tuple(shape), base + begin, end - begin)


def _is_length(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and 0 <= number < 2**63


def read_tensor_bytes(entry: TensorEntry) -> bytes:
    """The raw little-endian bytes of one tensor."""
    with entry.file.open("rb") as file:
        file.seek(entry.offset_bytes)
        return file.read(entry.size_bytes)


def write_file(
    path: Path,
    tensors: Iterable[tuple[str, TensorEntry]],
    metadata: Mapping[str, str],
    replacements: Mapping[str, bytes] | None = None,
    on_bytes: Callable[[int], None] | None = None,
) -> int:
    """Write tensors under their new names, copying bytes in chunks; returns the bytes of tensor data.

    `replacements` gives new bytes (same length) by new name. The order given is the order written, which
    keeps the alignment that the source's writer chose.
    """
    rows = list(tensors)
    replacements = replacements or {}
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    position = 0
    for name, entry in rows:
        end = position + entry.size_bytes
        header[name] = {"dtype": entry.dtype, "shape": list(entry.shape), "data_offsets": [position, end]}
        position = end
    raw = json.dumps(header, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)
    with path.open("wb") as target:
        target.write(struct.pack("<Q", len(raw)))
        target.write(raw)
        for name, entry in rows:
            if name in replacements:
                if len(replacements[name]) != entry.size_bytes:
                    raise ValueError(f"{name}: {len(replacements[name])} bytes for {entry.size_bytes}")
                target.write(replacements[name])
            else:
                with entry.file.open("rb") as source:
                    _copy(source, target, entry)
            if on_bytes:
                on_bytes(entry.size_bytes)
    return position


def _copy(source: BinaryIO, target: BinaryIO, entry: TensorEntry) -> None:
    source.seek(entry.offset_bytes)
    left = entry.size_bytes
    while left:
        chunk = source.read(min(left, _CHUNK_BYTES))
        if not chunk:
            raise OSError(f"{entry.file} ended inside {entry.name}")
        target.write(chunk)
        left -= len(chunk)
