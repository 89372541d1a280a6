"""The runtime on really exported graphs, against stock transformers: pictures, batches, cuts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import tiny
from topovlm.exporters.onnx.slices import slice_export
from topovlm.exporters.protocol import ExportRecord
from topovlm.runtime.engine import Engine

NEW_TOKENS = 8


@pytest.fixture(scope="module")
def asked() -> list[tuple[list[Any], str]]:
    """(pictures, prompt) with none to two pictures, prompts of different lengths."""
    chosen = [
        (count, sample) for count in (0, 1, 2) for sample in tiny.samples(3, seed=count, images=max(1, count))
    ]
    return [(sample.load_images()[:count], sample.prompt) for count, sample in chosen]


@pytest.fixture(scope="module")
def expected(
    tiny_siglip_qwen2: Path, asked: list[tuple[list[Any], str]]
) -> list[tuple[list[int], np.ndarray]]:
    """(greedy tokens, first logits) by transformers' own generate."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    model = AutoModelForImageTextToText.from_pretrained(tiny_siglip_qwen2).eval()
    processor = AutoProcessor.from_pretrained(tiny_siglip_qwen2)
    found = []
    for images, prompt in asked:
        content = [{"type": "image", "image": image} for image in images] + [{"type": "text", "text": prompt}]
        inputs = processor.apply_chat_template(
            [{"role": "user", "content": content}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        )
        out = model.generate(
            **inputs,
            do_sample=False,
            max_new_tokens=NEW_TOKENS,
            return_dict_in_generate=True,
            output_logits=True,
        )
        tokens = out.sequences[0, inputs["input_ids"].shape[1] :].tolist()
        found.append((tokens, out.logits[0][0].numpy()))
    return found


@pytest.mark.parametrize("variant", ["plain", "fused"])
def test_tokens_and_logits_are_those_of_transformers(
    siglip_export: tuple[Path, ExportRecord],
    asked: list[tuple[list[Any], str]],
    expected: list[tuple[list[int], np.ndarray]],
    variant: str,
) -> None:
    """One by one and in batches, with zero to two pictures in the prompt."""
    engine = Engine(siglip_export[0], variant=variant, threads=1)
    tokens = [row for row, _ in expected]
    assert [engine.generate(*item, max_new_tokens=NEW_TOKENS).token_ids for item in asked] == tokens
    assert [answer.token_ids for answer in engine.generate_batch(asked, 4, NEW_TOKENS)] == tokens
    logits = np.stack([row for _, row in expected])
    np.testing.assert_allclose(engine.answer_logits(asked, 4), logits, atol=1e-4 * np.abs(logits).max())


@pytest.mark.parametrize("variant", ["plain", "fused"])
def test_real_decoders_can_be_cut(
    siglip_export: tuple[Path, ExportRecord],
    asked: list[tuple[list[Any], str]],
    tmp_path: Path,
    variant: str,
) -> None:
    """A cut of the exported decoder runs with its own, shorter cache."""
    engine = Engine(slice_export(siglip_export[0], 3, tmp_path / "cut", variant), threads=1)
    assert engine.variant == variant
    assert len(engine.decoder.past_names) == 6
    assert len(engine.generate(*asked[-1], max_new_tokens=4).token_ids) >= 1
