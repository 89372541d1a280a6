"""What surgery reports: what went, where it came from, under which licence. The card is written from it."""

from __future__ import annotations

from topovlm.families.layers import Change
from topovlm.records import Part


class License(Part, frozen=True, kw_only=True):
    """As the source's card states it; `id` is "unknown" when it states none."""

    id: str = "unknown"
    name: str | None = None
    link: str | None = None


class SurgeryReport(Part, frozen=True, kw_only=True):
    """What went, what stayed (0-based, numbering of the source) and what it weighs.

    `folder`: the output's name alone, so that two machines give the same text. `text_only`: whether the model
    sees no pictures. `stock`: whether transformers has a class that loads it.
    """

    source: str
    folder: str
    source_layers: int
    dropped: tuple[int, ...]
    kept: tuple[int, ...]
    weight_bytes_before: int
    weight_bytes_after: int
    parameters_before: int
    parameters_after: int
    config_changes: dict[str, Change]
    license: License
    weight_files: tuple[str, ...]
    text_only: bool = False
    stock: bool = True
