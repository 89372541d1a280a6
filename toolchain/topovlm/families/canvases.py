"""Sizes that pictures are brought to, by the rules of the transformers image processors: arithmetic alone.

Plans count visual tokens with it, the runtime cuts pictures by it: the two cannot differ. Sizes are
(height, width) in pixels, grids (rows, columns).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from topovlm.errors import InputError, explain

_MOST_ASPECT = 200  # of the image processors of Qwen2-VL and its kin
_MOST_SIDE = 4096  # px, of Idefics 3
_COVERED = 0.9  # share of a picture that the tiles of Ovis 2 should cover

Size = tuple[int, int]


def sampled(frames: int, rows: int, columns: int, padding: int) -> tuple[int, int, int]:
    """What is left of a clip, blank ones on each side, where two by two by two become one (VideoLLaMA2)."""
    steps, tall, wide = ((length + 2 * padding) // 2 for length in (frames, rows, columns))
    return steps, tall, wide


def _no_strip(height: int, width: int, stated: Size) -> None:
    if max(height, width) > _MOST_ASPECT * min(height, width):
        rule = f"one side is more than {_MOST_ASPECT} times the other: this family takes no such strip"
        raise InputError(explain("image_size", f"{stated[0]}x{stated[1]}", rule, "Cut the picture or pad it"))


def smart_resize(
    height: int, width: int, factor: int, min_pixels: int, max_pixels: int, *, frames: int = 1
) -> Size:
    """Nearest multiples of `factor` whose area, `frames` times, lies within the bounds (Qwen-VL).

    Raises `InputError` for a strip, as the processor of transformers does.
    """
    _no_strip(height, width, (height, width))
    return _within(height, width, factor, min_pixels, max_pixels, frames=frames)


def of_each(max_pixels: int, frames: int) -> int:
    """The upper bound of one frame's area where all of them share it (VideoLLaMA3)."""
    return max(1, max_pixels // frames)


def _within(
    height: int, width: int, factor: int, low: int, high: int, *, frames: int, counted: int | None = None
) -> Size:
    """`counted`: frames whose area, rounded, is held to the bounds (default: all)."""
    tall, wide = (round(side / factor) * factor for side in (height, width))
    area = (frames if counted is None else counted) * tall * wide
    if area > high:
        ratio = math.sqrt(frames * height * width / high)
        return _floored(height, ratio, factor), _floored(width, ratio, factor)
    if area < low:
        ratio = math.sqrt(low / (frames * height * width))
        return math.ceil(height * ratio / factor) * factor, math.ceil(width * ratio / factor) * factor
    return tall, wide


def _floored(side: int, ratio: float, factor: int) -> int:
    return max(factor, math.floor(side / ratio / factor) * factor)


def film_resize(
    height: int, width: int, factor: int, min_pixels: int, max_pixels: int, *, frames: int, deep: int
) -> Size:
    """As `smart_resize`, with bounds for all frames together; `deep` of them share a patch (Qwen3-VL)."""
    tall, wide = _enlarged(height, width, factor)
    counted = max(1, round(frames / deep)) * deep
    return _within(tall, wide, factor, min_pixels, max_pixels, frames=frames, counted=counted)


def _enlarged(height: int, width: int, factor: int) -> Size:
    """Both sides at least `factor`, in their proportion. Raises `InputError` for a strip."""
    stated = (height, width)
    if min(height, width) < factor:
        scale = max(factor / height, factor / width)
        height, width = int(height * scale), int(width * scale)
    _no_strip(height, width, stated)
    return height, width


def enlarged_resize(
    height: int, width: int, factor: int, min_pixels: int, max_pixels: int, *, frames: int = 1
) -> Size:
    """As `smart_resize`, of a picture whose sides were brought to at least `factor` (GLM-4V)."""
    tall, wide = _enlarged(height, width, factor)
    return _within(tall, wide, factor, min_pixels, max_pixels, frames=frames)


def stepwise_resize(
    height: int, width: int, factor: int, min_pixels: int, max_pixels: int, *, frames: int = 1
) -> Size:
    """As `enlarged_resize`, one side after the other and rounded (PaddleOCR-VL)."""
    stated = (height, width)
    if height < factor:
        height, width = factor, round(width * factor / height)
    if width < factor:
        height, width = round(height * factor / width), factor
    _no_strip(height, width, stated)
    return _within(height, width, factor, min_pixels, max_pixels, frames=frames)


def best_resolution(height: int, width: int, choices: Sequence[Size]) -> Size:
    """The canvas that keeps most of the picture's pixels and, among those, wastes least (LLaVA-NeXT)."""

    def merit(canvas: Size) -> Size:
        scale = min(canvas[1] / width, canvas[0] / height)
        kept = min(int(width * scale) * int(height * scale), width * height)
        return kept, kept - canvas[0] * canvas[1]

    return max(choices, key=merit)


def inside(height: int, width: int, canvas: Size) -> Size:
    """The picture's size when it fills one side of the canvas and keeps its shape."""
    across, down = canvas[1] / width, canvas[0] / height
    if across < down:
        return min(math.ceil(height * across), canvas[0]), canvas[1]
    return canvas[0], min(math.ceil(width * down), canvas[1])


def margins(height: int, width: int, rows: int, columns: int) -> Size:
    """Rows cut off above and below, columns cut off on each side: a padded picture's features without it."""
    if width / height > columns / rows:
        return (rows - int(round(height * (columns / width), 7))) // 2, 0
    return 0, (columns - int(round(width * (rows / height), 7))) // 2


def shrunk(rows: int, columns: int, most: int) -> Size:
    """The grid scaled down to `most` features, when it has a good many more (LLaVA-OneVision)."""
    ratio = math.sqrt(rows * columns / most)
    return (int(rows // ratio), int(columns // ratio)) if ratio > 1.1 else (rows, columns)


def _grids(least: int, most: int) -> list[Size]:
    """Grids of `least` to `most` tiles, few tiles first; of those as many, few columns first."""
    pairs = [
        (rows, columns)
        for columns in range(1, most + 1)
        for rows in range(1, most // columns + 1)
        if rows * columns >= least
    ]
    return sorted(pairs, key=lambda grid: grid[0] * grid[1])


def nearest_grid(height: int, width: int, tile: Size, least: int, most: int) -> Size:
    """The grid of tiles nearest in shape; the larger one while the picture fills half of it (InternVL)."""
    best, best_gap = (1, 1), math.inf
    for rows, columns in _grids(least, most):
        gap = abs(width / height - columns / rows)
        fills = height * width > 0.5 * tile[0] * tile[1] * columns * rows
        if gap < best_gap or (gap == best_gap and fills):
            best, best_gap = (rows, columns), gap
    return best


def covering_grid(height: int, width: int, tile: Size, least: int, most: int) -> Size:
    """The fewest tiles that show most of the picture without scaling it down (Ovis 2). `least` has no say."""
    shares = {grid: _covered(height, width, grid, tile[0]) for grid in _grids(1, most)}
    enough = [grid for grid, share in shares.items() if share > _COVERED]
    if enough:
        return min(enough, key=lambda grid: (grid[0] * grid[1], -shares[grid]))
    return min(shares, key=lambda grid: (-shares[grid], grid[0] * grid[1]))


def _covered(height: int, width: int, grid: Size, side: int) -> float:
    """Share of the picture's area that a grid of square tiles covers. The oracle cuts the picture into
    columns first: its grid is read as (rows, columns) here and as (columns, rows) by who uses the answer."""
    down, across = grid[1], grid[0]
    tall, wide = height // down, width // across
    total = 0.0
    for row in range(down):
        for column in range(across):
            high = height - row * tall if row == down - 1 else tall
            broad = width - column * wide if column == across - 1 else wide
            total += _tile_area(high, broad, side)
    return total / (height * width)


def _tile_area(height: int, width: int, side: int) -> float:
    long, short = float(max(height, width)), float(min(height, width))
    return side * (short / long * side) if long > side else long * short


def roomy_grid(height: int, width: int, tile: int, most: int) -> Size:
    """The grid where the picture's short side comes out longest, unscaled if it can be (Perception-LM)."""
    best: Size | None = None
    best_size = (0.0, 0.0)
    shapes = _by_ratio(most)
    for rows, columns in (grid for grids in shapes.values() for grid in grids):
        if columns * tile < width or rows * tile < height:
            continue
        size = _unsquared(height, width, rows * tile, columns * tile)
        side = 0 if width >= height else 1
        if best is None or size[side] >= best_size[side]:
            best, best_size = (rows, columns), size
    return best or _nearest_ratio(width / height, shapes)


def _by_ratio(most: int) -> dict[float, list[Size]]:
    """columns / rows -> grids of that shape, in the order in which the processor meets them."""
    found: dict[float, list[Size]] = {}
    for count in range(most, 0, -1):
        for columns in range(1, count + 1):
            if count % columns == 0:
                found.setdefault(columns / (count // columns), []).append((count // columns, columns))
    return found


def _unsquared(height: int, width: int, tall: int, wide: int) -> tuple[float, float]:
    """(height, width) inside a canvas; the longer side stays a fraction, as in the oracle."""
    scale, factor = width / height, min(wide / width, tall / height)
    if scale > 1.0:
        broad = factor * width
        return math.floor(broad / scale), broad
    high = factor * height
    return high, math.floor(high * scale)


def _nearest_ratio(ratio: float, shapes: dict[float, list[Size]]) -> Size:
    if ratio >= 1:
        key = min((k for k in shapes if k <= ratio), key=lambda k: abs(k - ratio))
        return max(shapes[key], key=lambda grid: grid[1])
    taller = [k for k in shapes if k > ratio]
    return max(shapes[min(taller, key=lambda k: abs(1 / k - 1 / ratio))], key=lambda grid: grid[0])


def longest_edge(height: int, width: int, edge: int) -> Size:
    """The longer side at `edge`, the other one even, none above 4096 px (Idefics 3)."""
    aspect = width / height
    if width >= height:
        tall, wide = int(edge / aspect), edge
        tall += tall % 2
    else:
        tall, wide = edge, int(edge * aspect)
        wide += wide % 2
    tall, wide = max(tall, 1), max(wide, 1)
    aspect = wide / tall
    if wide >= tall and wide > _MOST_SIDE:
        tall, wide = int(_MOST_SIDE / aspect), _MOST_SIDE
    elif tall > wide and tall > _MOST_SIDE:
        tall, wide = _MOST_SIDE, int(_MOST_SIDE * aspect)
    return max(tall, 1), max(wide, 1)


def whole_tiles(height: int, width: int, tile: int) -> Size:
    """Up to whole tiles, the longer side first (Idefics 3)."""
    aspect = width / height
    if width >= height:
        wide = math.ceil(width / tile) * tile
        return math.ceil(int(wide / aspect) / tile) * tile, wide
    tall = math.ceil(height / tile) * tile
    return tall, math.ceil(int(tall * aspect) / tile) * tile


def crops(height: int, width: int, least_side: int, most: int, least_ratio: float) -> Size:
    """(rows, columns) of crops beside the picture itself; (0, 0) for none (Gemma 3's pan and scan)."""
    long, short = max(height, width), min(height, width)
    if long / short < least_ratio:
        return 0, 0
    count = min(long // least_side, math.floor(long / short + 0.5))
    count = min(most, max(2, count))
    if min(math.ceil(long / count), short) < least_side:
        return 0, 0
    return (1, count) if width >= height else (count, 1)


def patched(height: int, width: int, most: Size, patch: int) -> Size:
    """At most `most`, in its own shape, up to whole patches (Pixtral).

    Raises `InputError` for a strip of which nothing would be left, as the processor of transformers does.
    """
    ratio = max(height / most[0], width / most[1])
    stated = f"{height}x{width}"
    if ratio > 1:
        height, width = math.floor(height / ratio), math.floor(width / ratio)
    if not height or not width:
        rule = f"scaled down to {most[0]}x{most[1]} its short side is less than a pixel"
        raise InputError(explain("image_size", stated, rule, "Cut the picture or pad it"))
    return ((height - 1) // patch + 1) * patch, ((width - 1) // patch + 1) * patch
