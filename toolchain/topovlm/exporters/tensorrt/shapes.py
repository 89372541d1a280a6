"""The ranges of shapes that TensorRT engines must take, from the workload: least, tuned for, most.

TensorRT calls a set of ranges an optimisation profile. The decoder gets two: `prefill` (no past, many tokens)
and `decode` (one token, growing past); one for both would be tuned for neither.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from topovlm.exporters.onnx.layouts import PARTS
from topovlm.records import Part
from topovlm.runtime.runtime_file import DecoderSizes, RuntimeFile
from topovlm.workload import Workload

_STEP = 64  # lengths are rounded up to a multiple of this: small edits of a prompt need no new engine


class Range(Part, frozen=True, kw_only=True):
    """Shapes of one input: the smallest, the one that the engine is tuned for, the largest."""

    min: tuple[int, ...]
    opt: tuple[int, ...]
    max: tuple[int, ...]


class RangeSet(Part, frozen=True, kw_only=True):
    """Ranges of all dynamic inputs of a graph that hold together, under one name."""

    name: str
    inputs: dict[str, Range]


def shape_ranges(folder: RuntimeFile, workload: Workload) -> dict[str, tuple[RangeSet, ...]]:
    """Graph name -> range sets, for an exported folder at a workload."""
    batch, pictures = workload.batch, max(1, workload.images * workload.batch)
    prompt = max(2, workload.prompt_tokens + workload.images * folder.tokens_per_image)
    longest = _round_up(prompt)
    capacity = _round_up(prompt + workload.new_tokens)
    pixels = (3, folder.image.height, folder.image.width)
    vision = _range((1, *pixels), (pictures, *pixels), (pictures, *pixels))
    ids = _range((1, 1), (batch, prompt), (batch, longest))
    return {
        PARTS["vision"]: (RangeSet(name="images", inputs={"pixel_values": vision}),),
        PARTS["embed"]: (RangeSet(name="tokens", inputs={"input_ids": ids}),),
        PARTS["decoder"]: (
            RangeSet(
                name="prefill",
                inputs=_decoder(folder.decoder, batch, new=(1, prompt, longest), past=(0, 0, 0)),
            ),
            RangeSet(
                name="decode",
                inputs=_decoder(folder.decoder, batch, new=(1, 1, 1), past=(1, prompt, capacity)),
            ),
        ),
    }


def trtexec_arguments(sets: Sequence[RangeSet]) -> list[str]:
    """The same ranges as arguments of trtexec."""
    return [
        argument for index, ranges in enumerate(sets) for argument in _arguments(ranges, index, len(sets))
    ]


def _arguments(ranges: RangeSet, index: int, count: int) -> Iterator[str]:
    if count > 1:
        yield f"--profile={index}"
    for kind in ("min", "opt", "max"):
        shapes = [
            f"{name}:{'x'.join(map(str, getattr(sizes, kind)))}" for name, sizes in ranges.inputs.items()
        ]
        yield f"--{kind}Shapes={','.join(shapes)}"


def _decoder(
    decoder: DecoderSizes, batch: int, new: tuple[int, int, int], past: tuple[int, int, int]
) -> dict[str, Range]:
    batches = (1, batch, batch)
    steps = list(zip(batches, new, past, strict=True))
    shapes = {
        "inputs_embeds": _range(*((b, n, decoder.hidden) for b, n, _ in steps)),
        "attention_mask": _range(*((b, n + p) for b, n, p in steps)),
        "position_ids": _range(*((b, n) for b, n, _ in steps)),
    }
    for layer in range(decoder.layers):
        for kind in ("key", "value"):
            shapes[f"past_key_values.{layer}.{kind}"] = _range(
                *((b, decoder.kv_heads, p, decoder.head_dim) for b, _, p in steps)
            )
    return shapes


def _range(least: tuple[int, ...], best: tuple[int, ...], most: tuple[int, ...]) -> Range:
    return Range(min=least, opt=best, max=most)


def _round_up(length: int) -> int:
    return -(-length // _STEP) * _STEP
