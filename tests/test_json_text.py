"""JSON that others wrote: plain data, or one rule that it breaks."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topovlm import json_text
from topovlm.json_text import MOST_LEVELS, NotJsonError, half_character, parse

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@given(JSON.map(lambda value: json.dumps(value, ensure_ascii=True)))
def test_sound_json_is_what_the_standard_library_reads(text: str) -> None:
    """As text and as bytes, escapes of whole pairs included."""
    assert parse(text) == parse(text.encode()) == json.loads(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("\x00", "not JSON"),
        (b"\xff\xfe{\x00}\x00", "not UTF-8"),
        ("\ufeff{}", "byte order mark"),
        ("NaN", "NaN is no number"),
        ('{"a": -Infinity}', "-Infinity is no number"),
        ("1e999", "too large"),
        ("9" * 41, "41 digits"),
        ("-" + "9" * 5000, "5001 digits"),
        ("[" * 100_000, "nested too deeply"),
        ("[" * 200 + "]" * 200, "nested too deeply"),
        ('{"a":' * 200 + "1" + "}" * 200, "nested too deeply"),
        (r'{"a": ["x", "\ud800"]}', r"a\[1\] holds half of a surrogate pair \(\\ud800\)"),
        (r'{"\udfff": 1}', "half of a surrogate pair"),
    ],
)
def test_what_cannot_be_handled_later_is_refused_now(text: str | bytes, words: str) -> None:
    """One kind of error, whose text is the rule."""
    with pytest.raises(NotJsonError, match=words):
        parse(text)


def test_keys_that_stand_twice() -> None:
    """Readers of one file would take another of the two; where that matters it is refused."""
    text = '{"a": {"answer": 1, "answer": 2}}'
    assert parse(text) == {"a": {"answer": 2}}
    with pytest.raises(NotJsonError, match="'answer' twice"):
        parse(text, unique_keys=True)


def test_bounds_are_where_they_say() -> None:
    """The deepest text and the longest integer that are read."""
    deep = "[" * MOST_LEVELS + "]" * MOST_LEVELS
    assert json.dumps(parse(deep)) == deep
    assert parse("1" * json_text.MOST_DIGITS) == int("1" * json_text.MOST_DIGITS)


@given(st.binary(max_size=60) | st.text('[]{}",:\\ud8 0123eE.-', max_size=60))
def test_nothing_but_one_error(data: Any) -> None:
    """Whatever is read, and what is read can be written again."""
    with contextlib.suppress(NotJsonError):
        json.dumps(parse(data), allow_nan=False, ensure_ascii=False).encode()


def test_half_a_character_is_found() -> None:
    """Also what a terminal of another encoding makes of a byte."""
    assert half_character("caf\udce9") == "\\udce9"
    assert half_character("café \U0001f600") is None
