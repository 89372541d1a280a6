"""Shape profiles of TensorRT engines from the workload: what they may be asked, and what they are tuned for.

The decoder gets two profiles: `prefill` (no past, many tokens) and `decode` (one token, growing past); one
profile for both would be tuned for neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

Shapes = dict[str, dict[str, list[int]]]
_STEP = 64  # lengths are rounded up to a multiple of this: small edits of a prompt need no new engine


class WorkloadLike(Protocol):
    """The fields of `workload.Workload` that matter here."""

    @property
    def images(self) -> int: ...
    @property
    def prompt_tokens(self) -> int: ...
    @property
    def new_tokens(self) -> int: ...
    @property
    def batch(self) -> int: ...


def shape_profiles(manifest: Mapping[str, Any], workload: WorkloadLike) -> dict[str, list[dict[str, Any]]]:
    """Graph name -> profiles, each {"name", "inputs": {input: {"min", "opt", "max"}}}."""
    decoder, image = manifest["decoder"], manifest["image"]
    batch, pictures = workload.batch, max(1, workload.images * workload.batch)
    prompt = max(2, workload.prompt_tokens + workload.images * manifest["tokens_per_image"])
    longest = _round_up(prompt)
    capacity = _round_up(prompt + workload.new_tokens)
    pixels = [3, image["height"], image["width"]]
    vision = {"pixel_values": _range([1, *pixels], [pictures, *pixels], [pictures, *pixels])}
    embed = {"input_ids": _range([1, 1], [batch, prompt], [batch, longest])}
    return {
        "vision_encoder": [{"name": "images", "inputs": vision}],
        "embed_tokens": [{"name": "tokens", "inputs": embed}],
        "decoder_model_merged": [
            {
                "name": "prefill",
                "inputs": _decoder(decoder, batch, new=(1, prompt, longest), past=(0, 0, 0)),
            },
            {
                "name": "decode",
                "inputs": _decoder(decoder, batch, new=(1, 1, 1), past=(1, prompt, capacity)),
            },
        ],
    }


def trtexec_arguments(profiles: list[dict[str, Any]]) -> list[str]:
    """The same profiles as arguments of trtexec."""
    arguments = []
    for index, profile in enumerate(profiles):
        if len(profiles) > 1:
            arguments.append(f"--profile={index}")
        for kind in ("min", "opt", "max"):
            shapes = [
                f"{name}:{'x'.join(map(str, sizes[kind]))}" for name, sizes in profile["inputs"].items()
            ]
            arguments.append(f"--{kind}Shapes={','.join(shapes)}")
    return arguments


def _decoder(
    decoder: Mapping[str, int], batch: int, new: tuple[int, int, int], past: tuple[int, int, int]
) -> Shapes:
    batches = (1, batch, batch)
    steps = list(zip(batches, new, past, strict=True))
    shapes = {
        "inputs_embeds": _range(*([b, n, decoder["hidden"]] for b, n, _ in steps)),
        "attention_mask": _range(*([b, n + p] for b, n, p in steps)),
        "position_ids": _range(*([b, n] for b, n, _ in steps)),
    }
    for layer in range(decoder["layers"]):
        for kind in ("key", "value"):
            shapes[f"past_key_values.{layer}.{kind}"] = _range(
                *([b, decoder["kv_heads"], p, decoder["head_dim"]] for b, _, p in steps)
            )
    return shapes


def _range(least: list[int], best: list[int], most: list[int]) -> dict[str, list[int]]:
    return {"min": least, "opt": best, "max": most}


def _round_up(length: int) -> int:
    return -(-length // _STEP) * _STEP
