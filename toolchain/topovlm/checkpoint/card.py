"""The model card of a pruned checkpoint: what went, where it came from, under which licence. Torch-free."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from topovlm.checkpoint.outcome import License, SurgeryReport
from topovlm.text import for_markdown

_LOADS = {
    True: "It is a plain transformers checkpoint and loads without topovlm.",
    False: "No class of transformers loads it, as none loads the source: it has the source's layout, for the "
    "code of the source's own project and for topovlm.",
}
_ORDER = ["license", "license_name", "license_link", "base_model", "base_model_relation"]


def license_of(folder: Path) -> License:
    """Licence fields in the front matter of the folder's README.md; a damaged card states none."""
    card = folder / "README.md"
    if not card.is_file():
        return License()
    import yaml
    from huggingface_hub import ModelCard

    text = card.read_text(encoding="utf-8", errors="replace")
    chatter = logging.getLogger("huggingface_hub.repocard")  # it warns of cards without front matter
    level = chatter.level
    chatter.setLevel(logging.ERROR)
    try:
        stated = ModelCard(text, ignore_metadata_errors=True).data
    except (ValueError, TypeError, yaml.YAMLError):
        return License()
    finally:
        chatter.setLevel(level)
    return License(
        id=_words(stated.get("license")) or "unknown",
        name=_words(stated.get("license_name")),
        link=_words(stated.get("license_link")),
    )


def _words(value: Any) -> str | None:
    """Front matter may hold a list where a word is expected."""
    if isinstance(value, list):
        return ", ".join(map(str, value)) or None
    return str(value) if value else None


def ranges(layers: tuple[int, ...]) -> str:
    """(3, 4, 5, 9) -> "3-5, 9"."""
    runs: list[list[int]] = []
    for layer in layers:
        if runs and runs[-1][-1] == layer - 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs) or "none"


def model_card(report: SurgeryReport, base_model: str | None) -> str:
    """README.md of the output. `base_model` is a hub id, or None when the source is a local folder."""
    from huggingface_hub import ModelCardData

    origin: dict[str, Any] = {}
    if base_model is not None:
        origin = {"base_model": base_model, "base_model_relation": "finetune"}
    matter = ModelCardData(
        license=None if report.license.id == "unknown" else report.license.id,
        license_name=report.license.name,
        license_link=report.license.link,
        **origin,
        library_name="transformers" if report.stock else None,
        pipeline_tag="text-generation" if report.text_only else "image-text-to-text",
        tags=["pruned", "topovlm"],
    )
    share = len(report.dropped) / report.source_layers
    licence = for_markdown(report.license.name or report.license.id)
    license_line = (
        f"The source's licence ({licence}) applies to these weights."
        if report.license.id != "unknown"
        else "The source states no licence. Its terms apply to these weights; find them out first."
    )
    source = for_markdown(report.source)
    body = f"""
# {source}, {len(report.kept)} of {report.source_layers} decoder layers

Decoder layers were removed from {source}; all other weights are its own, byte for byte.

| | |
|---|---|
| source | {source} |
| layers dropped (0-based) | {ranges(report.dropped)} |
| layers kept (0-based) | {ranges(report.kept)} |
| share removed | {100 * share:.3g} % |
| parameters | {report.parameters_before:,} -> {report.parameters_after:,} |
| weights | {report.weight_bytes_before:,} -> {report.weight_bytes_after:,} bytes |

{_LOADS[report.stock]} What the removal costs in accuracy depends on
the task: see the report of the run that made it, and measure on your own data.

{license_line}
"""
    return f"---\n{matter.to_yaml(original_order=_ORDER)}\n---\n{body}"
