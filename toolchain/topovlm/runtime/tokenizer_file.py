"""tokenizer.json opened: what its library raises said in one sentence, and steps that explode refused.

Steps before the words are split may replace each character by a text of any length, one after the other: a
small file makes any prompt larger than memory.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from topovlm.errors import InputError, explain
from topovlm.plain_files import read_plain

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_MOST_GROWTH = 64  # characters behind all steps for one before them; Unicode's own forms need 18
_MOST_STEPS, _DEEPEST = 256, 64
_LONGEST_FILE = 256 << 20  # bytes; published ones have up to 35 MB


Replacement = tuple[str, str]


class _Steps(msgspec.Struct):
    """The parts of tokenizer.json that change words before they are looked up, and answers afterwards."""

    normalizer: Any = None
    pre_tokenizer: Any = None
    decoder: Any = None


def read_tokenizer(file: Path) -> Tokenizer:
    """Without truncation and padding, whatever was saved. Raises `InputError` naming the file."""
    from tokenizers import Tokenizer

    check_tokenizer(file)
    with tokenizer_errors(file):
        tokenizer = Tokenizer.from_file(str(file))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def check_tokenizer(file: Path) -> None:
    """Raises `InputError` for a file that is no tokenizer, and for steps that multiply words."""
    if not file.is_file():
        return
    remedy = "Give the model's own"
    data = read_plain(file, field="tokenizer", most_bytes=_LONGEST_FILE, remedy=remedy)
    try:
        steps = msgspec.json.decode(data, type=_Steps)  # passes over the vocabulary, which may be large
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(explain("tokenizer", str(file), f"cannot be read: {error}", remedy)) from None
    before = [*_replacements(steps.normalizer), *_replacements(steps.pre_tokenizer)]
    for replaced in (before, _replacements(steps.decoder)):
        if len(replaced) > _MOST_STEPS or _multiplies(replaced):
            rule = f"its steps multiply words: more than {_MOST_GROWTH} characters for one"
            raise InputError(explain("tokenizer", str(file), rule, "Give the model's own"))


@contextlib.contextmanager
def tokenizer_errors(file: Path | str) -> Iterator[None]:
    """Whatever the Rust side raises is about that file: bare exceptions, and panics, which are none."""
    try:
        yield
    except InputError:
        raise
    except BaseException as error:  # see above: everything else but its panics goes on
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        words = " ".join(str(error).split())[:300]
        rule = f"cannot be read: {words}"
        raise InputError(explain("tokenizer", str(file), rule, "Give the model's own")) from None


def _multiplies(steps: Sequence[Replacement]) -> bool:
    """Whether what one step writes grows beyond bounds in those behind it.

    Each is tried on its own pattern. Of a regular expression nobody knows what it meets: taken to meet every
    character wherever it writes more than one.
    """
    for first, (pattern, content) in enumerate(steps):
        text, most = content, _MOST_GROWTH * max(1, len(pattern))
        for later, written in steps[first + 1 :]:
            if len(text) > most:
                break
            if later:
                text = text.replace(later, written)
            elif len(written) > 1:
                text = written * len(text)
        if len(text) > most:
            return True
    return False


def _replacements(step: Any, depth: int = 0) -> list[Replacement]:
    """(text that is replaced, by what) in their order; the first is empty for a regular expression."""
    if not isinstance(step, dict) or depth > _DEEPEST:
        return []
    found: list[Replacement] = []
    pattern, content = step.get("pattern"), step.get("content")
    if isinstance(content, str):
        fixed = pattern.get("String") if isinstance(pattern, dict) else None
        found.append((fixed if isinstance(fixed, str) else "", content))
    for name in ("normalizers", "pretokenizers", "decoders"):
        held = step.get(name)
        for inner in held if isinstance(held, list) else ():
            found += _replacements(inner, depth + 1)
    return found
