"""The ranges of shapes that TensorRT engines must take, from the workload: least, tuned for, most.

TensorRT calls a set of ranges an optimisation profile. The decoder gets two: `prefill` (no past, many tokens)
and `decode` (one token, growing past); one for both would be tuned for neither.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from topovlm.exporters.onnx.layouts import PARTS
from topovlm.records import Part
from topovlm.runtime.prompt import Prompter, prompter_of
from topovlm.runtime.runtime_file import RuntimeFile
from topovlm.travel.prompts import Prompt
from topovlm.workload import Workload

Run = Mapping[str, Any]  # input of the vision graph -> its array
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
    prompter = prompter_of(folder)
    content = prompter.manifest.file
    size = (workload.image_width, workload.image_height)
    blank = _blank(prompter, size, workload.images, workload.video_frames)
    length = max(2, workload.prompt_tokens + blank.picture_tokens)
    runs = list(blank.pictures)
    if not runs and content.strategy is not None:
        runs = _any_picture(prompter)
    return _ranges(content, runs, length, workload.new_tokens, workload.batch)


def prompt_ranges(
    prompter: Prompter, prompts: Sequence[Prompt], new_tokens: int
) -> dict[str, tuple[RangeSet, ...]]:
    """Graph name -> range sets for these prompts, one at a time: their pictures, up to the longest."""
    content = prompter.manifest.file
    runs = [run for prompt in prompts for run in prompt.pictures]
    if not runs and content.strategy is not None:
        runs = _any_picture(prompter)
    length = max(2, *(len(prompt.ids) for prompt in prompts))
    return _ranges(content, runs, length, new_tokens, 1)


def _any_picture(prompter: Prompter) -> list[Run]:
    """A workload of words alone keeps a vision engine that one picture of the model's own size can use."""
    height, width = prompter.manifest.facts.picture_size
    return list(_blank(prompter, (width, height), 1).pictures)


def _blank(prompter: Prompter, size: tuple[int, int], images: int, frames: int = 0) -> Prompt:
    """A prompt of blank pictures, or of frames that change, `size` (width, height) in px."""
    from PIL import Image

    from topovlm.videos.frames import Frames

    if frames:
        return prompter.prepare([Frames.flicker(size, frames)], "")
    return prompter.prepare([Image.new("RGB", size)] * images, "")


def _ranges(
    content: RuntimeFile, runs: Sequence[Run], length: int, new_tokens: int, batch: int
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
        found[PARTS["vision"]] = (RangeSet(name="images", inputs=_vision(content, runs, batch)),)
    return found


def _vision(content: RuntimeFile, runs: Sequence[Run], batch: int) -> dict[str, Range]:
    """From one picture to all of a batch where each is as large; else from the smallest run to the largest.

    Tuned for the largest. Where tokens of frames may be left out, one is left at least.
    """
    found = {}
    for name in runs[0]:
        shapes = [run[name].shape for run in runs]
        least, most = (tuple(map(bound, *shapes, shapes[0])) for bound in (min, max))
        if content.strategy == "fixed":
            # Of two towers, one may have nothing to see.
            least, most = (min(1, least[0]), *least[1:]), (most[0] * batch, *most[1:])
        elif content.strategy == "sifted" and name.startswith("feature_"):
            least = (1, *least[1:])
        found[name] = _range(least, most, most)
    return found


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
