"""Which depths and prompt lengths a profile times when nobody names them."""

from __future__ import annotations

from pathlib import Path

from topovlm.errors import InputError, explain
from topovlm.records import Part, read

_SLICES = (2, 6)


class _Text(Part, frozen=True):
    max_position_embeddings: int | None = None


class _Config(Part, frozen=True):
    """Where a config.json tells how far its positions reach; small models have no text_config."""

    text_config: _Text | None = None
    max_position_embeddings: int | None = None


def default_layer_counts(layers: int) -> list[int]:
    """Depths to time beside the dense one: 2 and 6, and the middle between 6 and all where there is room."""
    if layers < 3:
        rule = "is too few to cut slices from"
        raise InputError(explain("layers", layers, rule, "Give shallower exports"))
    low, high = _SLICES
    depths = {low, min(high, (layers + low) // 2)}
    if layers >= high + 4:
        depths.add((high + layers) // 2)
    return sorted(depths - {layers})


def default_lengths(shortest: int, base: int, limit: int | None, new_tokens: int) -> list[int]:
    """Prompt lengths to time: the bare template, the workload, and two and four times it, where they fit."""
    longest = 4 * base if limit is None else min(4 * base, limit - new_tokens)
    return sorted({shortest, base, *(tokens for tokens in (2 * base, longest) if base < tokens <= longest)})


def context_limit(folder: Path) -> int | None:
    """Most tokens that the model's positions cover, where the export's config.json tells."""
    if not (folder / "config.json").is_file():
        return None
    config = read(folder / "config.json", _Config, field="model", remedy="Export again")
    return (config.text_config or config).max_position_embeddings or None
