"""Plain text: what keeps the decoder's way with it in training, and what it is measured on.

Training compares the changed decoder with the published one on the documentation of the Python language that
comes with Python (`pydoc_data`), half of it as it stands, half as a conversation. The measure is taken on
other text: this repository's own documentation.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[2]
_ROWS, _LENGTH, _PLACES = 8, 96, 256
_ASKED = (
    "Explain this: {}",
    "What does this mean? {}",
    "Tell me more about the following. {}",
    "Continue: {}",
)


@cache
def training_paragraphs() -> tuple[str, ...]:
    """Paragraphs of at least 200 characters."""
    from pydoc_data.topics import topics

    found = [part.strip() for text in topics.values() for part in re.split(r"\n\s*\n", text)]
    return tuple(" ".join(part.split()) for part in found if len(part) >= 200)


def measured_texts() -> list[str]:
    """The repository's documentation, a file each."""
    files = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
    return [file.read_text(encoding="utf-8") for file in files if file.is_file()]


class TextBatches:
    """Batches [8, 96] of token numbers, with the places [256] at which two decoders are compared."""

    def __init__(self, tokenizer: Any, seed: int) -> None:
        self._tokenizer, self._seed = tokenizer, seed

    def batch(self, step: int, part: int) -> tuple[torch.Tensor, torch.Tensor]:
        rng = np.random.default_rng([self._seed, step, part, 3])
        rows = []
        while len(rows) < _ROWS:
            paragraphs = training_paragraphs()
            first = int(rng.integers(len(paragraphs) - 4))
            text = "\n\n".join(paragraphs[first : first + 4])
            if len(rows) % 2:
                half = text.find(". ") + 1 or len(text) // 2
                asked = _ASKED[int(rng.integers(len(_ASKED)))].format(text[:half])
                text = self._chat(asked) + text[half:].strip()
            ids = self._tokenizer(text, add_special_tokens=False)["input_ids"]
            if len(ids) >= _LENGTH:
                rows.append(ids[:_LENGTH])
        places = rng.choice(_ROWS * _LENGTH, _PLACES, replace=False)
        return torch.tensor(rows), torch.from_numpy(places)

    def _chat(self, asked: str) -> str:
        chat = [{"role": "user", "content": asked}]
        text: str = self._tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        return text
