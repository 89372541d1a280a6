"""The model card of a pruned checkpoint: what went, where it came from, under which licence. Torch-free."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from topovlm.checkpoint.surgery import SurgeryReport

_FRONT_MATTER = re.compile(r"\A---\s*\n(.*?)\n---\s*\n", re.DOTALL)
_FIELD = re.compile(r"^(license|license_name|license_link):[ \t]*(\S.*?)[ \t]*$", re.MULTILINE)


@dataclass(frozen=True)
class License:
    """As the source's card states it; `id` is "unknown" when it states none."""

    id: str = "unknown"
    name: str | None = None
    link: str | None = None


def license_of(folder: Path) -> License:
    """Licence fields in the front matter of the folder's README.md."""
    card = folder / "README.md"
    if not card.is_file():
        return License()
    matter = _FRONT_MATTER.match(card.read_text(encoding="utf-8", errors="replace"))
    fields = {key: value.strip("\"'") for key, value in _FIELD.findall(matter[1])} if matter else {}
    return License(fields.get("license", "unknown"), fields.get("license_name"), fields.get("license_link"))


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
    matter = ["---"]
    if report.license.id != "unknown":
        matter.append(f"license: {report.license.id}")
    if report.license.name:
        matter.append(f"license_name: {report.license.name}")
    if report.license.link:
        matter.append(f"license_link: {report.license.link}")
    if base_model:
        matter += [f"base_model: {base_model}", "base_model_relation: finetune"]
    matter += [
        "library_name: transformers",
        "pipeline_tag: image-text-to-text",
        "tags:",
        "- pruned",
        "- topovlm",
    ]
    share = len(report.dropped) / report.source_layers
    license_line = (
        f"The source's licence ({report.license.name or report.license.id}) applies to these weights."
        if report.license.id != "unknown"
        else "The source states no licence. Its terms apply to these weights; find them out first."
    )
    body = f"""
# {report.source}, {len(report.kept)} of {report.source_layers} decoder layers

Decoder layers were removed from `{report.source}`; all other weights are its own, byte for byte.

| | |
|---|---|
| source | `{report.source}` |
| layers dropped (0-based) | {ranges(report.dropped)} |
| layers kept (0-based) | {ranges(report.kept)} |
| share removed | {100 * share:.3g} % |
| parameters | {report.parameters_before:,} -> {report.parameters_after:,} |
| weights | {report.weight_bytes_before:,} -> {report.weight_bytes_after:,} bytes |

It is a plain transformers checkpoint and loads without topovlm. What the removal costs in accuracy depends on
the task: see the report of the run that made it, and measure on your own data.

{license_line}
"""
    return "\n".join([*matter, "---"]) + "\n" + body
