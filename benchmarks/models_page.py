"""docs/models.md from what `benchmarks.families` measured and from the families' own records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from topovlm.families.catalogue import FAMILIES, refused

# Checkpoint in the matrix -> family, where its name does not begin with it.
_ALIASES = {
    "paligemma2": "paligemma",
    "videollama2-clip-mistral": "videollama2_mistral",
    "videollama2-siglip-qwen2": "videollama2_qwen2",
}


def page(content: Mapping[str, Any]) -> str:
    """The whole page."""
    rows: Mapping[str, Mapping[str, Mapping[str, Any]]] = content["families"]
    versions = ", ".join(f"{name} {version}" for name, version in content["versions"].items())
    return f"""# Models

Made by `python -m benchmarks.families --write`; do not edit. Every cell is a check that ran, on a tiny random
checkpoint of that family with its own processor ({versions}).
A real checkpoint of the family goes through the same code at other sizes; what its weights are worth without
some layers, only an evaluation on your own questions says.

- **plan**: planned visual tokens are those of the family's processor, for five sizes of picture
- **score**: hidden states of a padded batch are those of its samples alone
- **prune**: two layers that are not neighbours go; the reloaded checkpoint is the dense model with them
  bypassed, and generation with a cache is generation without
- **export**: ONNX Runtime against torch, two prompts, two sizes of picture, eight cached steps; a shifted
  position, a masked token and missing pictures must be noticed. *fused*: also in ONNX Runtime's own attention
- **run**: without torch, the tokens of transformers' `generate` about five pictures
- **videos**: the same about one or two videos, behind a picture or not, of an odd and an even number of
  frames; planned visual tokens are those of the processor (VideoLLaMA3, which leaves out what stays the same:
  an upper bound, also of a clip that hardly moves); - : the family takes none
- **fp16**: the same gate on half-precision graphs
- **deploy**: `topovlm deploy --sparsity 25%` from the command line to the report

{_matrix(rows)}
{_failed(rows)}

{_absent(rows)}

{_own_classes()}

## What was measured

Differences are relative to the largest logit; the weakest control is the smallest change that a broken input
made.

{_figures(rows)}

## What is inside

{_inside()}

## What is refused, and why

`topovlm` says these sentences itself. A type that is in neither list is refused as unknown.

{_refused()}
"""


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def _cell(row: Mapping[str, Mapping[str, Any]], step: str) -> str:
    if step not in row:
        return "not run"
    return "**no**" if "error" in row[step] else "yes"


def _failed(rows: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """What every **no** of the matrix said."""
    found = [
        f"- `{name}`, {step}: {result['error']}"
        for name, row in rows.items()
        for step, result in row.items()
        if "error" in result
    ]
    return "\n".join(["", "Where it says no:", "", *found]) if found else ""


def _family(name: str) -> str:
    """The model type of a checkpoint."""
    return _ALIASES.get(name, name.partition("-")[0])


def _takes_videos(name: str) -> bool:
    kind = _family(name)
    tokens = FAMILIES[kind].tokens if kind in FAMILIES else None
    return tokens is not None and tokens.videos is not None


def _absent(rows: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """Families without a checkpoint in the matrix."""
    covered = set(map(_family, rows))
    absent = [f"`{name}`" for name in FAMILIES.names() if name not in covered]
    if not absent:
        return ""
    return (
        f"Not in the matrix: {', '.join(absent)}. Their towers come from timm, which the tests do without;\n"
        "their graphs, records and surgery are tested with stand-ins, and the gate of an export decides."
    )


def _own_classes() -> str:
    """Families that transformers does not have."""
    native = ", ".join(f"`{name}`" for name in FAMILIES.names() if FAMILIES[name].native)
    return f"""No class of transformers loads {native}: VideoLLaMA2's
checkpoints (7B, 7B-16F, 2.1-7B-16F) are read by classes of topovlm's own, from their own configurations and
tensor names; none of their code is run. A slim one is again a folder of that form, for that project's code
(written for transformers 4.40) and for topovlm; its card and the report say so. A picture is every frame of a
clip. Of a video the model sees as many frames as it takes: of others, the middles of equal parts, and black
frames behind a shorter clip. At published sizes names and shapes were checked
(`tests/native/test_full_size.py`); nobody has run published weights through it yet.

`video_llama_3` is transformers' form of VideoLLaMA3; folders with its publisher's own code
(`videollama3_qwen2`) are refused. Nobody has run published weights of it, or of Video-LLaVA, through topovlm
yet. The sizes of `videollama3-2b` and `video-llava-7b` are those of published configurations, bounds of
pictures and frames those that transformers takes where a folder states none."""


def _matrix(rows: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    head = (
        "checkpoint",
        "plan",
        "score",
        "prune",
        "export plain",
        "export fused",
        "fp16",
        "run",
        "videos",
        "deploy",
    )
    table = []
    for name, row in rows.items():
        plain = _cell(row, "export")
        fused = (
            plain if "fused" in row.get("export", {}).get("forms", "") else ("-" if plain == "yes" else plain)
        )
        cells = [_cell(row, step) for step in ("plan", "score", "prune")]
        videos = _cell(row, "videos") if _takes_videos(name) else "-"
        cells += [plain, fused, _cell(row, "half"), _cell(row, "run"), videos, _cell(row, "deploy")]
        table.append((f"`{name}`", *cells))
    return _table(head, table)


def _figures(rows: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    head = ("checkpoint", "batch", "bypassed", "cached", "ONNX", "weakest control", "tokens", "seconds")
    table = []
    for name, row in rows.items():
        keys = (
            ("score", "batch_error"),
            ("prune", "bypass_error"),
            ("prune", "cache_error"),
            ("export", "logit_error"),
            ("export", "weakest_control"),
        )
        figures = [_figure(row.get(step, {}).get(key)) for step, key in keys]
        seconds = sum(found.get("seconds", 0) for found in row.values())
        tokens = str(row.get("run", {}).get("tokens", "-"))
        table.append((f"`{name}`", *figures, tokens, f"{seconds:.0f}"))
    return _table(head, table)


def _figure(value: object) -> str:
    return f"{value:.1e}" if isinstance(value, float) else "-"


def _inside() -> str:
    table = []
    for name in FAMILIES.names():
        family = FAMILIES[name]
        towers = family.graphs.towers if family.graphs else ()
        more = tuple(family.with_tower)
        listed = ", ".join(f"`{tower}`" for tower in (*towers, *more)) or "none"
        decoders = ", ".join(f"`{decoder}`" for decoder in family.decoders)
        table.append((f"`{name}`", ", ".join(family.actions), decoders, listed))
    return _table(("model type", "what topovlm does", "decoders", "towers"), table)


def _refused() -> str:
    by_reason: dict[str, list[str]] = {}
    for name, reason in refused().items():
        by_reason.setdefault(reason, []).append(f"`{name}`")
    return "\n".join(f"- {reason}: {', '.join(sorted(names))}" for reason, names in by_reason.items())
