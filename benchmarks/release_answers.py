"""Greedy answers of checkpoints in one release of transformers; run by that release's own interpreter.

    PYTHON release_answers.py request.json

request.json: [{"folder": DIR, "inputs": [FILE.npz, ...], "new_tokens": N}, ...]; the arrays are what
`generate` gets, made once for all releases. With {"questions": [{"image": FILE, "prompt": TEXT}, ...]}
instead, the checkpoint's own processor makes them. stdout: one JSON document: the release, and per checkpoint
its tokens and the keys that loading did not find or use, or the error. Nothing of ours is imported.
"""

from __future__ import annotations

import inspect
import json
import sys
from typing import Any

import numpy as np
import torch
import transformers


def load(folder: str) -> tuple[Any, dict[str, list[str]]]:
    """The model in fp32 and what loading says of its keys."""
    with open(f"{folder}/config.json", encoding="utf-8") as file:
        pictures = "vision_config" in json.load(file)
    kind = transformers.AutoModelForImageTextToText if pictures else transformers.AutoModelForCausalLM
    # Eager attention computes what a model states (Gemma 2's soft caps) in every release.
    model, info = kind.from_pretrained(
        folder,
        dtype=torch.float32,
        attn_implementation="eager",
        output_loading_info=True,
        trust_remote_code=False,
    )
    return model.eval(), {
        name: sorted(map(str, info[name])) for name in ("missing_keys", "unexpected_keys") if info.get(name)
    }


def asked(checkpoint: dict[str, Any]) -> list[dict[str, torch.Tensor]]:
    """What `generate` gets, question by question."""
    if "inputs" in checkpoint:
        return [{k: torch.from_numpy(v) for k, v in np.load(file).items()} for file in checkpoint["inputs"]]
    from PIL import Image

    processor = transformers.AutoProcessor.from_pretrained(checkpoint["folder"], trust_remote_code=False)
    made = []
    for question in checkpoint["questions"]:
        content = [{"type": "image"}, {"type": "text", "text": question["prompt"]}]
        text = processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
        with Image.open(question["image"]) as image:
            made.append(dict(processor(images=[image], text=text, return_tensors="pt")))
    return made


def answers(checkpoint: dict[str, Any]) -> dict[str, Any]:
    model, keys = load(checkpoint["folder"])
    tokens = []
    for inputs in asked(checkpoint):
        if "mm_token_type_ids" not in inspect.signature(model.forward).parameters:
            inputs.pop("mm_token_type_ids", None)  # older releases find the pictures themselves
        with torch.no_grad():
            output = model.generate(**inputs, do_sample=False, max_new_tokens=checkpoint["new_tokens"])
        tokens.append(output[0, inputs["input_ids"].shape[1] :].tolist())
    return {"tokens": tokens, **keys}


def main() -> None:
    with open(sys.argv[1], encoding="utf-8") as file:
        request = json.load(file)
    transformers.logging.set_verbosity_error()
    torch.manual_seed(0)  # a tensor that is drawn is drawn the same
    rows = []
    for checkpoint in request:
        try:
            rows.append(answers(checkpoint))
        except Exception as error:  # whatever a release says to a checkpoint that it does not know
            rows.append({"error": f"{type(error).__name__}: {error}"[:500]})
    print(json.dumps({"release": transformers.__version__, "rows": rows}))


if __name__ == "__main__":
    main()
