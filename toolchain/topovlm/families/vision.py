"""Pictures -> what the vision tower computes: sequences of patches, and visual tokens for the decoder.

A layout takes (shape, tower, height, width) of one picture, a rule for frames (shape, tower, workload); a
family's record names one of each. The rules are those of the transformers image processors; tests compare.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from topovlm.errors import InputError, explain
from topovlm.families import canvases
from topovlm.families.family import named
from topovlm.families.shape import ModelShape, VisionShape
from topovlm.workload import Workload


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
    alone = workload.images < 2 or not shape.several
    layout = named(shape.layout if alone else shape.several, __name__)
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
    by_patch = 2 * positions * vision.projector_params_per_patch
    return linear + attention + by_patch + 2 * work.tokens * vision.projector_params_per_token


def _grid(vision: VisionShape) -> int:
    return vision.image_size // vision.patch


def _work_for_tokens(shape: ModelShape, vision: VisionShape, tokens: int) -> VisionWork:
    """One picture's worth of patches that gives `tokens`; families with a fixed grid count whole tiles."""
    if tokens == 0:
        return VisionWork(0, 0, 0)
    if not vision.image_size:
        return VisionWork(1, tokens * vision.merge**2, tokens)
    if shape.clip_frames:
        one = clip(shape, vision, vision.image_size, vision.image_size)
        return VisionWork(math.ceil(tokens / one.tokens) * one.sequences, one.patches, tokens)
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


def clip(shape: ModelShape, vision: VisionShape, height: int, width: int) -> VisionWork:
    """The picture as every frame of a clip (VideoLLaMA2)."""
    grid = _grid(vision)
    steps, rows, columns = canvases.sampled(shape.clip_frames, grid, grid, shape.clip_padding)
    return VisionWork(shape.clip_frames, grid**2 + vision.class_token, steps * rows * columns)


def native(shape: ModelShape, vision: VisionShape, height: int, width: int) -> VisionWork:
    """The picture at its own size, within bounds of pixels (Qwen-VL)."""
    return _at_size(vision, canvases.smart_resize(height, width, *_bounds(shape, vision)))


def native_enlarged(shape: ModelShape, vision: VisionShape, height: int, width: int) -> VisionWork:
    """As `native`; a small one is enlarged first, and bounds hold for it repeated in time (GLM-4V)."""
    frames = vision.temporal_patch
    size = canvases.enlarged_resize(height, width, *_bounds(shape, vision), frames=frames)
    return _at_size(vision, size)


def native_stepwise(shape: ModelShape, vision: VisionShape, height: int, width: int) -> VisionWork:
    """As `native`; a small one is enlarged first, side by side (PaddleOCR-VL)."""
    return _at_size(vision, canvases.stepwise_resize(height, width, *_bounds(shape, vision)))


def patched(shape: ModelShape, vision: VisionShape, height: int, width: int) -> VisionWork:
    """The picture at its own size, within a longest edge (Pixtral, Mistral 3)."""
    edge = shape.longest_edge
    return _at_size(vision, canvases.patched(height, width, (edge, edge), vision.patch * vision.merge))


def _bounds(shape: ModelShape, vision: VisionShape) -> tuple[int, int, int]:
    return vision.patch * vision.merge, shape.min_pixels, shape.max_pixels


def _at_size(vision: VisionShape, size: canvases.Size, merge: int = 0) -> VisionWork:
    """`merge`: other than in pictures."""
    patches = (size[0] // vision.patch) * (size[1] // vision.patch)
    return VisionWork(1, patches, patches // (merge or vision.merge) ** 2)


def anyres(shape: ModelShape, vision: VisionShape, height: int, width: int) -> VisionWork:
    """A base tile, and the best canvas of tiles with its padding cut off (LLaVA-NeXT, -OneVision)."""
    grid, tile = _grid(vision), _tile(shape, vision)
    canvas = canvases.best_resolution(height, width, shape.grid_pinpoints)
    rows, columns = (side // vision.image_size for side in canvas)
    tall, wide = rows * grid, columns * grid
    # The padding that squeezed the picture into the canvas is cut from the features again.
    above, left = canvases.margins(height, width, tall, wide)
    tall, wide = tall - 2 * above, wide - 2 * left
    if shape.max_tiles:
        tall, wide = canvases.shrunk(tall, wide, shape.max_tiles * grid**2)
    return VisionWork(1 + rows * columns, tile.patches, tile.tokens + tall * wide + tall)


def newline_tile(shape: ModelShape, vision: VisionShape, height: int, width: int) -> VisionWork:
    """One tile and a newline: a picture among several (LLaVA-OneVision)."""
    tile = _tile(shape, vision)
    return VisionWork(1, tile.patches, tile.tokens + 1)


def tiles(shape: ModelShape, vision: VisionShape, height: int, width: int) -> VisionWork:
    """The grid of tiles nearest in shape, and a thumbnail (InternVL)."""
    side = vision.image_size
    rows, columns = canvases.nearest_grid(height, width, (side, side), 1, shape.max_tiles)
    return _tiles(shape, vision, rows * columns + (rows * columns > 1))


def covering_tiles(shape: ModelShape, vision: VisionShape, height: int, width: int) -> VisionWork:
    """The fewest tiles that show the picture unscaled, and a thumbnail (Ovis 2)."""
    side = vision.image_size
    rows, columns = canvases.covering_grid(height, width, (side, side), 1, shape.max_tiles)
    return _tiles(shape, vision, rows * columns + (rows * columns > 1))


def roomy_tiles(shape: ModelShape, vision: VisionShape, height: int, width: int) -> VisionWork:
    """The grid of tiles with most room for the picture, and a thumbnail in any case (Perception-LM)."""
    rows, columns = canvases.roomy_grid(height, width, vision.image_size, shape.max_tiles)
    return _tiles(shape, vision, rows * columns + 1)


def split(shape: ModelShape, vision: VisionShape, height: int, width: int) -> VisionWork:
    """Resized to the longest edge, cut into tiles, and a global one (Idefics 3, SmolVLM)."""
    if shape.max_tiles == 1:
        return _tiles(shape, vision, 1)
    tall, wide = canvases.longest_edge(height, width, shape.longest_edge)
    tall, wide = canvases.whole_tiles(tall, wide, vision.image_size)
    count = (tall // vision.image_size) * (wide // vision.image_size)
    return _tiles(shape, vision, count + (count > 1))


def _tiles(shape: ModelShape, vision: VisionShape, count: int) -> VisionWork:
    tile = _tile(shape, vision)
    return VisionWork(count, tile.patches, count * tile.tokens)


def tile_frames(shape: ModelShape, vision: VisionShape, workload: Workload) -> VisionWork:
    """One tile per frame."""
    frames, tile = workload.video_frames, _tile(shape, vision)
    return VisionWork(frames, tile.patches, frames * tile.tokens)


def whole_frames(shape: ModelShape, vision: VisionShape, workload: Workload) -> VisionWork:
    """Every feature of each frame, the class token too, which a picture may leave out (Video-LLaVA)."""
    frames, tile = workload.video_frames, _tile(shape, vision)
    return VisionWork(frames, tile.patches, frames * tile.patches)


def native_frames(shape: ModelShape, vision: VisionShape, workload: Workload) -> VisionWork:
    """Frames that follow each other share their patches (Qwen-VL), or none does; at most, where tokens that
    stay the same are left out (VideoLLaMA3)."""
    deep, frames = vision.temporal_patch, workload.video_frames
    steps, bounds = math.ceil(frames / deep), shape.films
    if bounds is None:
        layout = named(shape.layout, __name__)
        step: VisionWork = layout(shape, vision, workload.image_height, workload.image_width)
        return VisionWork(steps, step.patches, steps * step.tokens)
    merge = bounds.merge or vision.merge
    sides = (workload.image_height, workload.image_width, vision.patch * merge)
    if bounds.together:
        size = canvases.film_resize(*sides, bounds.min_pixels, bounds.max_pixels, frames=frames, deep=deep)
    else:
        most = canvases.of_each(bounds.max_pixels, frames) if bounds.divided else bounds.max_pixels
        size = canvases.smart_resize(*sides, bounds.min_pixels, most)
    step = _at_size(vision, size, merge)
    return VisionWork(steps, step.patches, steps * step.tokens)


def averaged_frames(shape: ModelShape, vision: VisionShape, workload: Workload) -> VisionWork:
    """Means over squares of four features of each frame (LLaVA-NeXT-Video)."""
    frames, tile = workload.video_frames, _tile(shape, vision)
    return VisionWork(frames, tile.patches, frames * (_grid(vision) // 2) ** 2)


def pooled_frames(shape: ModelShape, vision: VisionShape, workload: Workload) -> VisionWork:
    """Each frame's grid is pooled to half its sides; one newline follows them all (LLaVA-OneVision)."""
    frames, tile = workload.video_frames, _tile(shape, vision)
    return VisionWork(frames, tile.patches, frames * math.ceil(_grid(vision) / 2) ** 2 + 1)


def clip_frames(shape: ModelShape, vision: VisionShape, workload: Workload) -> VisionWork:
    """One clip of as many frames as the model takes, whatever the video has (VideoLLaMA2)."""
    return clip(shape, vision, workload.image_height, workload.image_width)
