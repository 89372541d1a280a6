"""Spoil a file's content: by its structure where it has one, by its bytes where it has not.

Every function takes a `random.Random`: the same seed spoils the same file in the same way.
"""

from __future__ import annotations

import copy
import json
import struct
from collections.abc import Callable
from random import Random
from typing import Any

from benchmarks.fuzzing import values

_DEEP = "nested deeper than a parser goes"  # stands for brackets until the document is text


def written(rng: Random, value: Any) -> str:
    """JSON, with nests that no recursion can write."""
    levels = rng.choice((101, 990, 100_000))
    return json.dumps(value).replace(json.dumps(_DEEP), "[" * levels + "]" * levels)


def scalar(rng: Random) -> Any:
    """A value that is likely to be of the wrong type or out of range."""
    return rng.choice(values.TEXTS) if rng.random() < 0.4 else rng.choice(values.SCALARS)


def _nested(rng: Random) -> Any:
    value: Any = scalar(rng)
    for _ in range(rng.choice((1, 2, 5, 60))):
        value = [value] if rng.random() < 0.5 else {"a": value}
    return value


def _anything(rng: Random) -> Any:
    if rng.random() < 0.75:
        return scalar(rng)
    return rng.choice(([], {}, [scalar(rng)], {"": scalar(rng)}, [[]] * 50, _nested(rng), _DEEP))


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of a document, the outer ones first."""
    found: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting:
        container = waiting.pop(0)
        keys = list(container) if isinstance(container, dict) else range(len(container))
        for key in keys:
            found.append((container, key))
            if isinstance(container[key], dict | list):
                waiting.append(container[key])
    return found


def _near(rng: Random, value: Any) -> Any:
    """A value of the same type, not far away: what passes a check of types."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return rng.choice((value + 1, value - 1, -value, value * 2, value // 2, value * 10**6))
    if isinstance(value, float):
        return rng.choice((-value, value * 1e6, value / 1e6, 0.0, value + 0.5))
    if isinstance(value, str):
        return rng.choice(
            (value + "x", value[:-1], value.upper(), value * 3, value + "\x1b[31m", "é" + value)
        )
    return value


def document(rng: Random, value: Any) -> Any:
    """A deep copy of plain data with one to four places changed, added, doubled or taken away."""
    spoilt = copy.deepcopy(value)
    if rng.random() < 0.02:
        return _anything(rng)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        places = _places(spoilt)
        if not places:
            break
        container, key = rng.choice(places)
        what = rng.random()
        if what < 0.35:
            container[key] = _anything(rng)
        elif what < 0.65:
            container[key] = _near(rng, container[key])
        elif what < 0.8:
            del container[key]
        elif what < 0.9:
            other_container, other_key = rng.choice(places)
            container[key] = (
                copy.deepcopy(other_container.get(other_key))
                if isinstance(other_container, dict)
                else copy.deepcopy(
                    other_container[min(other_key, len(other_container) - 1)] if other_container else None
                )
            )
        elif isinstance(container, dict):
            container[rng.choice(values.NAMES)] = _anything(rng)
        else:
            container.insert(rng.randrange(len(container) + 1), _anything(rng))
    return spoilt


def octets(rng: Random, raw: bytes) -> bytes:
    """Bytes changed, cut, doubled or put in, in one to six places."""
    data = bytearray(raw)
    for _ in range(rng.choice((1, 1, 2, 6))):
        at = rng.randrange(len(data) + 1)
        length = rng.choice((1, 1, 2, 8, 64))
        what = rng.randrange(6)
        if what == 0 and data:
            data[min(at, len(data) - 1)] ^= 1 << rng.randrange(8)
        elif what == 1:
            data[at : at + length] = rng.randbytes(length)
        elif what == 2:
            del data[at : at + length]
        elif what == 3:
            data[at:at] = data[at : at + length] * rng.choice((1, 2, 50))
        elif what == 4:
            data[at:at] = rng.choice(values.WORDS)
        elif rng.random() < 0.3:
            del data[at:]
    return bytes(data)


def json_text(rng: Random, raw: bytes) -> bytes:
    """A JSON file: mostly its values, at times its text."""
    if rng.random() < 0.15:
        return octets(rng, raw)
    text = written(rng, document(rng, json.loads(raw)))
    if rng.random() < 0.05:  # the same key twice
        text = text.replace("{", '{"model_type": "x", ', 1) if rng.random() < 0.5 else text + text
    return text.encode("utf-8", "surrogatepass")


def json_lines(rng: Random, raw: bytes) -> bytes:
    """One line of JSONL spoilt."""
    lines = raw.splitlines()
    at = rng.randrange(len(lines))
    lines[at] = json_text(rng, lines[at])
    if rng.random() < 0.1:
        lines.insert(at, rng.choice((b"", b"null", b"\xef\xbb\xbf{}", b"[]", lines[at])))
    return b"\n".join(lines)


def toml_text(rng: Random, raw: bytes) -> bytes:
    """A TOML file: one value replaced by another of TOML's spellings, a line doubled or lost, or bytes."""
    if rng.random() < 0.15:
        return octets(rng, raw)
    lines = raw.decode().splitlines()
    for _ in range(rng.choice((1, 1, 2))):
        at = rng.randrange(len(lines))
        name, equals, value = lines[at].partition("=")
        what = rng.random()
        if equals and what < 0.7:
            lines[at] = f"{name}= {_toml_value(rng, value.strip())}"
        elif what < 0.8:
            del lines[at]
        elif what < 0.9:
            lines.insert(at, rng.choice(lines))
        else:
            lines.insert(
                at, f"{rng.choice(('x', 'id', 'schema', 'a.b', '[x]', '[[mode]]'))} = {_toml_value(rng, '1')}"
            )
        if not lines:
            break
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def _toml_value(rng: Random, value: str) -> str:
    choices: list[Callable[[], str]] = [
        lambda: json.dumps(rng.choice(values.TEXTS), ensure_ascii=rng.random() < 0.5),
        lambda: rng.choice(
            ("0", "-1", "1", "nan", "inf", "-inf", "1e308", "9" * 40, "true", "1979-05-27", "0x7f")
        ),
        lambda: rng.choice(("[]", "{}", "[1, 'a']", "[[]]", "[" * 500 + "]" * 500, "{a = 1}")),
        lambda: f"-{value}",
        lambda: f"{value}0",
        lambda: f"[{value}]",
    ]
    return rng.choice(choices)()


def safetensors(rng: Random, raw: bytes) -> bytes:
    """The header of a safetensors file: its JSON, the length before it, or what follows."""
    length = struct.unpack("<Q", raw[:8])[0]
    header, rest = raw[8 : 8 + length], raw[8 + length :]
    what = rng.random()
    if what < 0.6:
        header = written(rng, document(rng, json.loads(header))).encode("utf-8", "surrogatepass")
        length = len(header)
    elif what < 0.75:
        length = rng.choice((0, 1, length - 1, length + 1, 2**31, 2**62, 2**64 - 1, 100_000_001))
    elif what < 0.9:
        header = octets(rng, header)
        length = len(header)
    else:
        rest = rest[: rng.randrange(len(rest) + 1)] + rng.randbytes(rng.choice((0, 1, 100)))
    return struct.pack("<Q", length) + header + rest


def template(rng: Random, raw: bytes) -> bytes:
    """A chat template with a piece put in, taken out, or its bytes spoilt."""
    if rng.random() < 0.3:
        return octets(rng, raw)
    text = raw.decode()
    at = rng.randrange(len(text) + 1)
    if rng.random() < 0.2:
        return (text[:at] + text[at + rng.randrange(1, 40) :]).encode()
    return (text[:at] + rng.choice(values.TEMPLATE_PIECES) + text[at:]).encode()


def picture(rng: Random, raw: bytes) -> bytes:
    """A picture file: bytes, or the size that its header states (PNG)."""
    if raw.startswith(b"\x89PNG") and rng.random() < 0.4:
        import zlib

        sizes = (0, 1, 48, 65535, 2**31 - 1, 2**31, 10**6)
        header = struct.pack(">II", rng.choice(sizes), rng.choice(sizes)) + raw[24:29]
        chunk = b"IHDR" + header
        return raw[:12] + chunk + struct.pack(">I", zlib.crc32(chunk)) + raw[33:]
    if rng.random() < 0.1:
        starts = (
            b"%!PS-Adobe-3.0 EPSF-3.0\n",
            b"GIF89a",
            b"II*\x00",
            b"8BPS",
            b"<svg/>",
            b"RIFF\x00\x00\x00\x00WEBP",
            b"",
        )
        return rng.choice(starts) + raw[rng.choice((0, 8)) :]
    return octets(rng, raw)
