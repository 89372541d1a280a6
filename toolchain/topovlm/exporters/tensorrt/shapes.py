"""The ranges of shapes that TensorRT engines must take, from the workload: least, tuned for, most.

TensorRT calls a set of ranges an optimisation profile. The decoder gets two: `prefill` (no past, many tokens)
and `decode` (one token, growing past); one for both would be tuned for neither.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from topovlm.exporters.onnx.layouts import PARTS
from topovlm.records import Part
from topovlm.runtime.prompt import prompter_of
from topovlm.runtime.runtime_file import RuntimeFile
from topovlm.travel.prompts import Prompt
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


def shape_ranges(folder: Path, workload: Workload) -> dict[str, tuple[RangeSet, ...]]:
    """Graph name -> range sets, for an exported folder at a workload."""
    from PIL import Image

    prompter = prompter_of(folder)
    size = (workload.image_width, workload.image_height)
    blank = prompter.prepare([Image.new("RGB", size)] * workload.images, "")
    length = max(2, workload.prompt_tokens + blank.picture_tokens)
    return _ranges(prompter.manifest.file, blank, length, workload.new_tokens, workload.batch)


def prompt_ranges(content: RuntimeFile, prompt: Prompt, new_tokens: int) -> dict[str, tuple[RangeSet, ...]]:
    """Graph name -> range sets for prompts of that length and with such pictures, one at a time."""
    return _ranges(content, prompt, max(2, len(prompt.ids)), new_tokens, 1)


def _ranges(
    content: RuntimeFile, prompt: Prompt, length: int, new_tokens: int, batch: int
) -> dict[str, tuple[RangeSet, ...]]:
    longest, capacity = _round_up(length), _round_up(length + new_tokens)
    ids = _range((1, 1), (batch, length), (batch, longest))
    found = {
        PARTS["embed"]: (RangeSet(name="tokens", inputs={"input_ids": ids}),),
        PARTS["decoder"]: (
            RangeSet(
                name="prefill",
                inputs=_decoder(content, batch, new=(1, length, longest), past=(0, 0, 0)),
            ),
            RangeSet(
                name="decode",
                inputs=_decoder(content, batch, new=(1, 1, 1), past=(1, length, capacity)),
            ),
        ),
    }
    if content.strategy is not None:
        found[PARTS["vision"]] = (RangeSet(name="images", inputs=_vision(content, prompt, batch)),)
    return found


def _vision(content: RuntimeFile, prompt: Prompt, batch: int) -> dict[str, Range]:
    """From one picture to all of a batch where each is as large; else exactly the workload's picture."""
    if not prompt.pictures:
        return {}
    inputs = {name: value.shape for name, value in prompt.pictures[0].items()}
    if content.strategy != "fixed":
        return {name: _range(shape, shape, shape) for name, shape in inputs.items()}
    most = {name: (shape[0] * batch, *shape[1:]) for name, shape in inputs.items()}
    return {name: _range((1, *shape[1:]), shape, shape) for name, shape in most.items()}


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
    content: RuntimeFile, batch: int, new: tuple[int, int, int], past: tuple[int, int, int]
) -> dict[str, Range]:
    decoder = content.decoder
    batches = (1, batch, batch)
    steps = list(zip(batches, new, past, strict=True))
    rows = () if decoder.rows == 1 else (decoder.rows,)
    shapes = {
        "inputs_embeds": _range(*((b, n, decoder.hidden) for b, n, _ in steps)),
        "attention_mask": _range(*((b, n + p) for b, n, p in steps)),
        "position_ids": _range(*((*rows, b, n) for b, n, _ in steps)),
    }
    if content.mask != "causal":
        shapes["block_ids"] = _range(*((b, n) for b, n, _ in steps))
    for layer in range(decoder.stacked):
        shapes[f"deepstack_embeds.{layer}"] = shapes["inputs_embeds"]
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
