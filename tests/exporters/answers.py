"""Greedy answers of stock transformers: the oracle that every client of an exported folder must match."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def greedy(model_dir: Path, pairs: list[tuple[Any, str]], new_tokens: int) -> list[list[int]]:
    """Token ids after each (picture, prompt), by `generate` of the stock model and processor in fp32."""
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor

    model = AutoModelForImageTextToText.from_pretrained(model_dir, dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(model_dir)
    answers = []
    for image, prompt in pairs:
        content = [{"type": "image"}, {"type": "text", "text": prompt}]
        text = processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True
        )
        inputs = processor(images=image, text=text, return_tensors="pt")
        output = model.generate(**inputs, do_sample=False, max_new_tokens=new_tokens)
        answers.append(output[0, inputs["input_ids"].shape[1] :].tolist())
    return answers
