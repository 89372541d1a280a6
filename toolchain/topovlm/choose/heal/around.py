"""What lies beside the cuts, by number. Torch-free."""

from __future__ import annotations

from collections.abc import Collection


def beside(drop: Collection[int], layers: int) -> tuple[int, ...]:
    """The kept layers directly before or behind a layer of `drop`, in dense numbering."""
    near = {layer + step for layer in drop for step in (-1, 1)}
    return tuple(sorted(layer for layer in near - set(drop) if 0 <= layer < layers))


def behind_cuts(drop: Collection[int], layers: int) -> tuple[int, ...]:
    """Layers that are entered by what a cut should have computed; `layers` where the last one went.

    Not behind a cut from layer 0: nothing before it could learn.
    """
    ends = {layer + 1 for layer in drop if layer + 1 not in drop}
    first_kept = min(layer for layer in range(layers) if layer not in drop)
    return tuple(sorted(end for end in ends if end > first_kept))
