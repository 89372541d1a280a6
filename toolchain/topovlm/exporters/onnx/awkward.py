"""Words that tokenizers and templates treat differently: the runtime must write the processor's own ids.

Blanks and newlines at the ends, nothing at all, marks that join the letter before them, the text of special
tokens, and words drawn from a seed. Oracle: the model's own processor, as scoring and judging use it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from topovlm.checkpoint.processors import processed, tokenizer_of
from topovlm.errors import InputError, VerificationError, explain
from topovlm.runtime.prompt import prompter_of

if TYPE_CHECKING:
    from topovlm.checkpoint.live import Live

WORDS: tuple[str, ...] = (
    "",
    " ",
    "\n",
    "\t \n\n ",
    "  two  blanks\tand\n\na line\n",
    " leading",
    "trailing ",
    "\n\nlines around\n\n",
    "\r\nold line ends\r",
    "caf\u00e9 is cafe\u0301",
    "a\u0300\u0301\u0302 o\u0308",
    "\u4fa1\u683c\u306f\uff1f \u0645\u0631\u062d\u0628\u0627 \u05e9\u05dc\u05d5\u05dd",
    "\U0001f642 \U0001f469\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea \u2764\ufe0f",
    "\u202eright to left\u202c\u00a0\u200b\ufeff",
    "\uff21\uff22\uff23 \u2460 \ufb01 \u00bd \u00df \u0130",
    "{{ bos_token }} {% if x %} {# no #}",
    "'one' \"two\" \\n \\ <b>&amp;</b> [INST] ### </think>",
    "<s>x</s> <|im_end|>\n<|endoftext|> <|eot_id|><end_of_turn>",
    "1234567890 3.14 1,000 -7 0x1F 2^10",
    "\x00\x07\x1b[31m\x7f\x85\u2028\u2029",
    "word " * 400,
    "\u00e4" * 700,
)
_SEED, _DRAWN, _LONGEST = 20261, 12, 24
_ALPHABET = "ab Z\n\t.,'?<|>/_19\u00e9\u0301\u00df\u4fa1\u0645\U0001f642\u200d\u00a0\u2581\u0120"


def check_words(live: Live, folder: Path) -> int:
    """Prompts compared, with and without a picture. Raises `VerificationError` naming the words.

    Words that the processor refuses, and those that hold the mark of a picture, are passed over.
    """
    prompter = prompter_of(folder)
    family, compared = live.parts.family, 0
    pictures = [Image.new("RGB", (48, 32), (200, 90, 30))] if prompter.manifest.file.strategy else []
    for words in (*WORDS, *drawn_words(), *_special(live)):
        if any(mark in words for mark in prompter.marks):
            continue
        for shown in [pictures, []] if pictures else [[]]:
            try:
                wanted = processed(live.processor, family, shown, words)["input_ids"][0].numpy()
            except InputError:
                continue
            _compare(wanted, prompter.prepare(shown, words).ids, words, len(shown))
            compared += 1
    return compared


def drawn_words() -> list[str]:
    """Texts over a small alphabet of trouble; the same in every run."""
    rng = np.random.default_rng(_SEED)
    letters = list(_ALPHABET)
    return ["".join(rng.choice(letters, rng.integers(1, _LONGEST))) for _ in range(_DRAWN)]


def first_difference(wanted: np.ndarray, found: np.ndarray) -> int | None:
    """The first place at which token ids differ, or that one alone has; None where they are the same."""
    if np.array_equal(wanted, found):
        return None
    shortest = min(len(wanted), len(found))
    return int(np.argmin(np.append(wanted[:shortest] == found[:shortest], False)))


def _special(live: Live) -> Sequence[str]:
    """The tokenizer's own special tokens, in the middle of words and with blanks around."""
    own = map(str, tokenizer_of(live.processor).all_special_tokens)
    return [text for token in sorted(set(own)) for text in (f"a{token}b", f" {token} ")]


def _compare(wanted: np.ndarray, found: np.ndarray, words: str, pictures: int) -> None:
    place = first_difference(wanted, found)
    if place is None:
        return
    rule = (
        f"with {pictures} pictures becomes {len(found)} tokens here and {len(wanted)} in the model's own "
        f"processor; place {place} is the first that differs"
    )
    raise VerificationError(explain("prompt", words[:60], rule))
