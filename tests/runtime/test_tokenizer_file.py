"""tokenizer.json: those that multiply words are refused before they are run, published ones are not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from topovlm.errors import InputError
from topovlm.runtime.tokenizer_file import check_tokenizer, read_tokenizer


def replaced(pattern: str, content: str, kind: str = "String") -> dict[str, Any]:
    return {"type": "Replace", "pattern": {kind: pattern}, "content": content}


def file(tmp_path: Path, *steps: dict[str, Any]) -> Path:
    """A tokenizer of two words with these steps."""
    held = {
        "version": "1.0",
        "truncation": {"max_length": 2, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
        "padding": None,
        "added_tokens": [],
        "normalizer": {"type": "Sequence", "normalizers": list(steps)} if steps else None,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": {"<unk>": 0, "a": 1}, "unk_token": "<unk>"},
    }
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(held))
    return path


@pytest.mark.parametrize(
    "steps",
    [
        [replaced("a", "a" * 1000)],
        [replaced("a", "aaa")] * 6,
        [replaced("a", "bb"), *[replaced("b", "bbb")] * 6],
        [replaced(".", "x" * 100, "Regex")],
        [replaced(".", "xyz", "Regex")] * 5,
        [{"type": "Sequence", "normalizers": [replaced("ab", "abab")] * 9}],
        [replaced("a", "b")] * 300,
    ],
)
def test_steps_that_multiply_are_refused(tmp_path: Path, steps: list[dict[str, Any]]) -> None:
    """By the file's name, in one sentence."""
    with pytest.raises(InputError, match=r"tokenizer\.json.*multiply words"):
        check_tokenizer(file(tmp_path, *steps))


def test_steps_of_published_tokenizers_are_run(tmp_path: Path) -> None:
    """Many replacements of a few letters each, none of what another wrote; truncation is taken away."""
    letters = [replaced(chr(0xC0 + number), "xyz") for number in range(60)]
    path = file(tmp_path, replaced(" {2,}", " ", "Regex"), {"type": "Prepend", "prepend": "\u2581"}, *letters)
    assert len(read_tokenizer(path).encode("a a a a a a").ids) == 6


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"model": 1}', b"[" * 100_000])
def test_a_file_that_is_no_tokenizer(tmp_path: Path, content: bytes) -> None:
    """One sentence that names it."""
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"tokenizer\.json.*cannot be read"):
        read_tokenizer(path)
