"""Accuracy per category with intervals, beside chance and the commonest answer; what became of plain text.

Answers are greedy, of stock transformers on the checkpoint folder as it is.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.smol.texts import measured_texts
from topovlm.evaluation.metrics import score_sample
from topovlm.reference.release import batches_of, chat_of
from topovlm.samples import Sample
from topovlm.stats.paired import share_interval

_WINDOW = 256  # tokens of text that are read at once


def answers(folder: Path, asked: Sequence[Sample], dtype: str = "float32", batch_size: int = 32) -> list[str]:
    """The checkpoint's answers in the order asked."""
    import torch
    import transformers

    stock: Any = transformers  # much of it is untyped
    processor = stock.AutoProcessor.from_pretrained(folder, trust_remote_code=False)
    model = stock.AutoModelForImageTextToText.from_pretrained(
        folder, dtype=getattr(torch, dtype), trust_remote_code=False
    ).eval()
    said = [""] * len(asked)
    # Batches hold samples with equally many pictures, and questions of similar length.
    order = sorted(range(len(asked)), key=lambda i: (len(asked[i].images), len(asked[i].prompt)))
    for batch in batches_of(order, asked, batch_size):
        chats = [chat_of(asked[i]) for i in batch]
        text = processor.apply_chat_template(chats, add_generation_prompt=True)
        pictures = [asked[i].load_images() for i in batch]
        inputs = processor(images=pictures, text=text, padding=True, return_tensors="pt")
        inputs["pixel_values"] = inputs["pixel_values"].to(model.dtype)
        with torch.inference_mode():
            output = model.generate(**inputs)
        new = output[:, inputs["input_ids"].shape[1] :]
        for i, reply in zip(batch, processor.batch_decode(new, skip_special_tokens=True), strict=True):
            said[i] = reply.strip()
    return said


def table(asked: Sequence[Sample], said: Sequence[str]) -> dict[str, dict[str, float]]:
    """Per category and overall: n, accuracy with a 95 % interval, chance, the commonest answer's share."""
    scores: dict[str, list[float]] = defaultdict(list)
    chance: dict[str, list[float]] = defaultdict(list)
    common: dict[str, Counter[str]] = defaultdict(Counter)
    for sample, text in zip(asked, said, strict=True):
        assert sample.answer is not None
        for category in (sample.category, "overall"):
            scores[category].append(score_sample(sample, text).score)
            chance[category].append(sample.chance)
        common[sample.category][sample.answer] += 1
    blind = {category: counts.most_common(1)[0][1] for category, counts in common.items()}
    blind["overall"] = sum(blind.values())
    made = {}
    for category in (*common, "overall"):
        n = len(scores[category])
        interval = share_interval(scores[category])
        made[category] = {
            "n": n,
            "accuracy": round(sum(scores[category]) / n, 4),
            "low": round(interval.low, 4),
            "high": round(interval.high, 4),
            "chance": round(sum(chance[category]) / n, 4),
            "commonest": round(blind[category] / n, 4),
        }
    return made


def as_markdown(figures: dict[str, dict[str, float]]) -> str:
    """The table in percent."""
    rows = [
        "| family | questions | accuracy % (95 %) | chance % | commonest answer % |",
        "|---|---|---|---|---|",
    ]
    for category, row in figures.items():
        low, high, accuracy, chance, common = (
            f"{100 * row[name]:.1f}" for name in ("low", "high", "accuracy", "chance", "commonest")
        )
        rows.append(f"| {category} | {row['n']:.0f} | {accuracy} ({low} to {high}) | {chance} | {common} |")
    return "\n".join(rows)


def text_nll(folder: Path, windows: int = 120) -> tuple[float, int]:
    """(nats per token, tokens) of the repository's documentation, in windows of 256 tokens spread over it.

    Reads the folder as a picture's model or as the decoder alone.
    """
    import torch
    import transformers

    stock: Any = transformers
    tokenizer = stock.AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    known = "llava" in (folder / "config.json").read_text(encoding="utf-8")
    loader = stock.AutoModelForImageTextToText if known else stock.AutoModelForCausalLM
    model = loader.from_pretrained(folder, dtype=torch.float32, trust_remote_code=False).eval()
    ids = [
        token for text in measured_texts() for token in tokenizer(text, add_special_tokens=False)["input_ids"]
    ]
    whole = [ids[start : start + _WINDOW] for start in range(0, len(ids) - _WINDOW, _WINDOW)]
    chosen = [whole[int(i)] for i in np.linspace(0, len(whole) - 1, min(windows, len(whole)))]
    total, count = 0.0, 0
    for window in chosen:
        tokens = torch.tensor([window])
        with torch.inference_mode():
            logits = model(input_ids=tokens).logits[0, :-1].float()
        total += float(torch.nn.functional.cross_entropy(logits, tokens[0, 1:], reduction="sum"))
        count += len(window) - 1
    assert math.isfinite(total)
    return total / count, count
