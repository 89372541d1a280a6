"""Short English words in real fonts: to read, to choose, their letters, their length.

No word is in two splits.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from PIL import ImageDraw

from benchmarks.smol.assets import FOLDER
from benchmarks.smol.pictures import SIDE, canvas, dark, finish, font, lettered, split_among, written
from topovlm.reference.scenes import Question, Region, Scene, pick

FACES = ("DejaVuSansMono-Bold", "DejaVuSansMono", "DejaVuSans-Bold", "DejaVuSerif-Bold")
WORDS = tuple((FOLDER / "words.txt").read_text(encoding="utf-8").split())


@cache
def pool(split: str) -> tuple[str, ...]:
    """Words that a split may use."""
    return tuple(WORDS[i] for i in split_among(WORDS, split))


def word(rng: np.random.Generator, split: str) -> Scene:
    """One word, set on lines and columns of the page."""
    text = pick(rng, pool(split))
    while len(text) > 5:
        text = pick(rng, pool(split))
    face = pick(rng, FACES)
    size = int(rng.integers(25, 30))
    while font(face, size).getlength(text) > SIDE - 6:
        size -= 1
    image = canvas(rng)
    half = font(face, size).getlength(text) / 2
    first = pick(rng, range(2, max(3, int(SIDE - 2 * half)), 16)) + rng.uniform(-1, 1)
    middle = (first + half, pick(rng, (24, 40, 56, 72)) + rng.uniform(-1, 1))
    written(ImageDraw.Draw(image), middle, text, font(face, size), dark(rng))
    left = middle[0] - half
    ends = [left + font(face, size).getlength(text[:n]) for n in range(len(text) + 1)]
    regions = [
        Region(
            0, (ends[n], middle[1] - size / 2, ends[n + 1], middle[1] + size / 2), {"letter": ord(one) - 97}
        )
        for n, one in enumerate(text)
    ]
    alike = [other for other in pool(split) if len(other) == len(text) and other != text]
    asked = [
        Question("word_read", "Which word is written?", text, chance=0.0),
        Question("word_read", "What does the text say?", text, chance=0.0),
        lettered(rng, "word_choice", "Which word is in the picture?", text, alike),
        Question("word_letter", "What is the first letter of the word?", text[0], chance=1 / 26),
        Question("word_letter", "What is the last letter of the word?", text[-1], chance=1 / 26),
        Question("word_length", "How many letters does the word have?", str(len(text)), "number", 1 / 3),
    ]
    return Scene([finish(image, rng)], asked, regions)
