"""Pictures -> what the vision tower computes: sequences of patches, and visual tokens for the decoder.

A layout takes (shape, tower, height, width) of one picture, a rule for frames (shape, tower, workload); a
family's record names one of each. The rules are those of the transformers image processors; tests compare.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from topovlm.errors import InputError, explain
from topovlm.families.family import named
from topovlm.families.shape import ModelShape, VisionShape
from topovlm.workload import Workload

_MOST_ASPECT = 200  # of the image processors of Qwen2-VL and its kin


@dataclass(frozen=True)
class VisionWork:
    """`sequences` equal sequences of `patches` each go through the tower; `tokens` leave it."""

    sequences: int
    patches: int
    tokens: int


def vision_work(shape: ModelShape, workload: Workload) -> VisionWork:
    """Tower work of one request (of one batch element)."""
    if shape.vision is None:
        return VisionWork(0, 0, 0)
    if workload.visual_tokens is not None:
        return _work_for_tokens(shape, shape.vision, workload.visual_tokens)
    layout = named(shape.layout, __name__)
    picture: VisionWork = layout(shape, shape.vision, workload.image_height, workload.image_width)
    one_image = VisionWork(
        workload.images * picture.sequences, picture.patches, workload.images * picture.tokens
    )
    if not workload.video_frames:
        return one_image if workload.images else VisionWork(0, 0, 0)
    frames: VisionWork = named(shape.frames, __name__)(shape, shape.vision, workload)
    if workload.images and frames.patches != one_image.patches:
        raise InputError(explain("video_frames", workload.video_frames, "cannot be mixed with images here"))
    if not workload.images:
        return frames
    return VisionWork(
        one_image.sequences + frames.sequences, frames.patches, one_image.tokens + frames.tokens
    )


def visual_tokens(shape: ModelShape, workload: Workload) -> int:
    """How many visual tokens the decoder sees per request."""
    return vision_work(shape, workload).tokens


def vision_flop(vision: VisionShape, work: VisionWork) -> float:
    """Floating-point operations of tower and projector for one request (2 per multiply-add)."""
    positions = work.sequences * work.patches
    linear = 2 * positions * (vision.layers * vision.linear_params_per_layer + vision.patch_params)
    window = min(vision.window_patches or work.patches, work.patches)
    full_layers = vision.layers - vision.windowed_layers
    attention = 4 * positions * vision.hidden * (full_layers * work.patches + vision.windowed_layers * window)
    return linear + attention + 2 * work.tokens * vision.projector_params_per_token


def _grid(vision: VisionShape) -> int:
    return vision.image_size // vision.patch


def _work_for_tokens(shape: ModelShape, vision: VisionShape, tokens: int) -> VisionWork:
    """One picture's worth of patches that gives `tokens`; families with a fixed grid count whole tiles."""
    if not vision.image_size:
        return VisionWork(1, tokens * vision.merge**2, tokens)
    tile = _tile(shape, vision)
    return VisionWork(math.ceil(tokens / tile.tokens), tile.patches, tokens)


def _tile(shape: ModelShape, vision: VisionShape) -> VisionWork:
    """One square picture at the tower's own size."""
    patches = _grid(vision) ** 2 + vision.class_token
    tokens = shape.tokens_per_image or (patches - shape.drop_first_token) // vision.merge**2
    return VisionWork(1, patches, tokens)


def fixed(shape: ModelShape, vision: VisionShape, height: int, width: int) -> VisionWork:
    """As many tokens at any size."""
    return _tile(shape, vision)


def smart_resize(height: int, width: int, factor: int, min_pixels: int, max_pixels: int) -> tuple[int, int]:
    """Nearest multiples of `factor` whose area lies within the bounds (Qwen-VL).

    Raises `InputError` for a strip, as the processor of transformers does.
    """
    if max(height, width) > _MOST_ASPECT * min(height, width):
        rule = f"one side is more than {_MOST_ASPECT} times the other: this family takes no such strip"
        raise InputError(explain("image_size", f"{height}x{width}", rule, "Cut the picture or pad it"))
    tall, wide = (round(side / factor) * factor for side in (height, width))
    if tall * wide > max_pixels:
        ratio = math.sqrt(height * width / max_pixels)
        tall, wide = (max(factor, math.floor(side / ratio / factor) * factor) for side in (height, width))
    elif tall * wide < min_pixels:
        ratio = math.sqrt(min_pixels / (height * width))
        tall, wide = (math.ceil(side * ratio / factor) * factor for side in (height, width))
    return tall, wide


def native(shape: ModelShape, vision: VisionShape, height: int, width: int) -> VisionWork:
    """The picture at its own size, within bounds of pixels (Qwen-VL)."""
    factor = vision.patch * vision.merge
    tall, wide = smart_resize(height, width, factor, shape.min_pixels, shape.max_pixels)
    patches = (tall // vision.patch) * (wide // vision.patch)
    return VisionWork(1, patches, patches // vision.merge**2)


def _best_resolution(height: int, width: int, choices: tuple[tuple[int, int], ...]) -> tuple[int, int]:
    """The canvas that keeps most of the picture's pixels and, among those, wastes least."""

    def merit(canvas: tuple[int, int]) -> tuple[int, int]:
        scale = min(canvas[1] / width, canvas[0] / height)
        kept = min(int(width * scale) * int(height * scale), width * height)
        return kept, kept - canvas[0] * canvas[1]

    return max(choices, key=merit)


def anyres(shape: ModelShape, vision: VisionShape, height: int, width: int) -> VisionWork:
    """A base tile, and the best canvas of tiles with its padding cut off (LLaVA-NeXT, -OneVision)."""
    grid, tile = _grid(vision), _tile(shape, vision)
    tall, wide = _best_resolution(height, width, shape.grid_pinpoints)
    rows, columns = tall // vision.image_size, wide // vision.image_size
    tall, wide = rows * grid, columns * grid
    # The padding that squeezed the picture into the canvas is cut from the features again.
    if width / height > wide / tall:
        tall -= 2 * ((tall - int(round(height * (wide / width), 7))) // 2)
    else:
        wide -= 2 * ((wide - int(round(width * (tall / height), 7))) // 2)
    if shape.max_tiles:
        ratio = math.sqrt(tall * wide / (shape.max_tiles * grid**2))
        if ratio > 1.1:
            tall, wide = int(tall // ratio), int(wide // ratio)
    return VisionWork(1 + rows * columns, tile.patches, tile.tokens + tall * wide + tall)


def tiles(shape: ModelShape, vision: VisionShape, height: int, width: int) -> VisionWork:
    """The canvas of tiles nearest in shape, and a thumbnail (InternVL)."""
    tile, area = _tile(shape, vision), height * width
    best, best_gap = (1, 1), math.inf
    shapes = {(c, r) for c in range(1, shape.max_tiles + 1) for r in range(1, shape.max_tiles // c + 1)}
    for columns, rows in sorted(shapes, key=lambda pair: pair[0] * pair[1]):
        gap = abs(width / height - columns / rows)
        wins_tie = gap == best_gap and area > 0.5 * vision.image_size**2 * columns * rows
        if gap < best_gap or wins_tie:
            best, best_gap = (columns, rows), gap
    count = best[0] * best[1]
    count += count > 1
    return VisionWork(count, tile.patches, count * tile.tokens)


def split(shape: ModelShape, vision: VisionShape, height: int, width: int) -> VisionWork:
    """Resized to the longest edge, cut into tiles, and a global one (Idefics 3, SmolVLM)."""
    edge, tile = shape.longest_edge, _tile(shape, vision)
    if width >= height:
        tall, wide = int(edge * height / width), edge
    else:
        tall, wide = edge, int(edge * width / height)
    rows, columns = (math.ceil(max(1, side + side % 2) / vision.image_size) for side in (tall, wide))
    count = rows * columns + 1 if rows * columns > 1 else 1
    return VisionWork(count, tile.patches, count * tile.tokens)


def tile_frames(shape: ModelShape, vision: VisionShape, workload: Workload) -> VisionWork:
    """One tile per frame."""
    frames, tile = workload.video_frames, _tile(shape, vision)
    return VisionWork(frames, tile.patches, frames * tile.tokens)


def native_frames(shape: ModelShape, vision: VisionShape, workload: Workload) -> VisionWork:
    """Frames that follow each other share their patches (Qwen-VL)."""
    steps = math.ceil(workload.video_frames / vision.temporal_patch)
    step = native(shape, vision, workload.image_height, workload.image_width)
    return VisionWork(steps, step.patches, steps * step.tokens)


def pooled_frames(shape: ModelShape, vision: VisionShape, workload: Workload) -> VisionWork:
    """Each frame's grid is pooled to half its sides; one newline follows them all (LLaVA-OneVision)."""
    frames, tile = workload.video_frames, _tile(shape, vision)
    return VisionWork(frames, tile.patches, frames * math.ceil(_grid(vision) / 2) ** 2 + 1)
