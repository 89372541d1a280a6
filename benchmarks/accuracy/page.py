"""docs/accuracy.md and its plot, of what benchmarks/data/accuracy.json holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.accuracy.scorers import DEFAULT, PUBLISHED

PAGE = Path(__file__).resolve().parents[2] / "docs" / "accuracy.md"
PLOT = PAGE.with_suffix(".svg")
_HEAD = """# What is kept, measured

Written by `python -m benchmarks.accuracy page`; the figures are those of
[benchmarks/data/accuracy.json](../benchmarks/data/accuracy.json), made by `python -m benchmarks.accuracy`.

Losses are against the dense model on the same held-out items, that chose nothing; below zero is a gain. In
brackets: the middle 95 % when seeds (other samples to choose with) and items are drawn again. "nll" is in
nats per token, "right" and "cloze" are shares. Layers at both ends are protected from all ways to choose.

"""
_GAP = (
    "Mean gap in {} of the set that a judge likes best to the best there is (picked on half of the items, "
    "scored on the other), by number of samples"
)
_NAMES = {
    "reference": "the reference model (grown, stochastic depth)",
    "smollm2-text": "SmolLM2-135M-Instruct on texts (published decoder)",
    "smollm2-lvlm": "SmolLM2-LVLM (the same decoder behind a tower of ours)",
    "plain": "a small Idefics3, trained plainly",
}
_SHOWN = (
    DEFAULT,
    PUBLISHED,
    "zigzag, normalised, text-mean, auto",
    "zigzag, residual, multi, auto",
    "zigzag-seed, residual, last, k=15",
    "rank-average, residual, text-mean, auto",
)
_TABLES = {
    "Clouds of what the answer reads": "reads",
    "Ways to repair": "repairs",
    "Tokens of massive activations": "massive",
    "What a deployment chooses": "choices",
    "Ten minutes of healing": "healing",
}
# Rows of what a deployment leaves.
_SHIPS = ("as it ships", "repaired", "healed")
_CURVES = {
    "random": ("scorers", "random"),
    "block influence": ("scorers", "block-influence"),
    "zigzag": ("scorers", DEFAULT),
    "searched": ("choices", "{}, cut"),
    "searched and repaired": ("choices", "{}, as it ships"),
}


def write(held: Mapping[str, Any], settings: str) -> list[Path]:
    """The page and the plot. `settings`: whose choices stand for a deployment's."""
    PAGE.write_text(_HEAD + "\n".join(_lines(held)) + "\n", encoding="utf-8")
    _plot(held, settings)
    return [PAGE, PLOT]


def _lines(held: Mapping[str, Any]) -> Iterator[str]:
    yield f"![what is lost by layers removed]({PLOT.name})\n"
    yield "## One score against another\n"
    yield "What a form of zigzag loses, less what the rival does; below zero zigzag is better.\n"
    for title, form in (("As it runs by default", DEFAULT), ("As arXiv 2604.16502 reads clouds", PUBLISHED)):
        yield f"{title} (`{form}`):\n"
        yield "| model | layers removed | less block influence | less random |"
        yield "|---|---|---|---|"
        for subject, found in _with(held, "scorers"):
            measure, rivals = next(iter(found["dense"])), found["paired"][form]
            for count in (*map(str, found["counts"]), "mean"):
                cells = [cell(rivals[rival][count][measure]) for rival in ("block-influence", "random")]
                yield f"| {subject} ({measure}) | {count} | " + " | ".join(cells) + " |"
        yield ""
    for subject, found in _with(held, "scorers"):
        measure, counts = next(iter(found["dense"])), [*map(str, found["counts"]), "mean"]
        dense = found["dense"][measure]
        yield f"## Scorers alone: {_NAMES.get(subject, subject)}\n"
        seeds = _draws(found)
        yield f"{measure}, dense {dense:.3f}; {seeds}; {found['cpu']}.\n"
        yield "| scorer | " + " | ".join(counts) + " | rank correlation |"
        yield "|---" * (len(counts) + 2) + "|"
        rows = sorted(found["losses"].items(), key=lambda row: row[1]["mean"][measure]["mean"])
        for name, losses in rows:
            if name.startswith(("zigzag", "rank-average")) and name not in _SHOWN:
                continue
            rank = found["ranks"].get(name)
            cells = [cell(losses[count][measure]) for count in counts]
            yield f"| {name} | " + " | ".join(cells) + f" | {cell(rank) if rank else ''} |"
        yield ""
        yield from _spread_of_forms(found, measure)
    for subject, found in _with(held, "objectives"):
        yield f"## By what a judge chooses: {_NAMES.get(subject, subject)}\n"
        yield f"{_GAP.format(found['measure'])}; before repair.\n"
        yield from gaps(found)
    for subject, found in _with(held, "previews"):
        yield f"## What a judge looks at: {_NAMES.get(subject, subject)}\n"
        yield f"{_GAP.format(found['measure'])}, as they ship; both directions of KL.\n"
        yield from gaps(found)
    for title, kind in _TABLES.items():
        for subject, found in _with(held, kind):
            measure, counts = next(iter(found["dense"])), [*map(str, found["counts"]), "mean"]
            yield f"## {title}: {_NAMES.get(subject, subject)}\n"
            seeds = _draws(found)
            yield f"{measure}, dense {found['dense'][measure]:.3f}; {seeds}.\n"
            yield "| | " + " | ".join(counts) + " |"
            yield "|---" * (len(counts) + 1) + "|"
            for name, losses in found["losses"].items():
                yield f"| {name} | " + " | ".join(cell(losses[count][measure]) for count in counts) + " |"
            yield ""
            yield from _kept_beyond_chance(found, measure)
            yield from _choices_in_words(found)


def _kept_beyond_chance(found: Mapping[str, Any], measure: str) -> Iterator[str]:
    """What ships, and what healing makes of it, of what the dense model knows beyond a guess."""
    chance = found.get("chance", {}).get(measure)
    rows = {name: row for name, row in found["losses"].items() if name.endswith(_SHIPS)}
    if chance is None or not rows:
        return
    known = found["dense"][measure] - chance
    for name, losses in rows.items():
        parts = []
        for count in map(str, found["counts"]):
            lost = losses[count][measure]
            kept, low, high = (100 * (1 - lost[end] / known) for end in ("mean", "high", "low"))
            parts.append(f"{count} layers {kept:.0f} % ({low:.0f} to {high:.0f})")
        yield f"- kept beyond chance ({100 * chance:.1f} %), {name}: {', '.join(parts)}."


def _choices_in_words(found: Mapping[str, Any]) -> Iterator[str]:
    """What seeds agree on, and what the choice takes."""
    for name, by_count in found.get("chosen", {}).items():
        for count, rows in by_count.items():
            sets = [set(row["dropped"]) for row in rows]
            apart = max(len(one - other) for one in sets for other in sets)
            agree = ""
            if len(sets) > 1:
                lost = [row["lost"] for row in rows if "lost" in row]
                ends = f", and lose {min(lost):.3f} to {max(lost):.3f}" if lost else ""
                agree = f"sets of {len(sets)} seeds differ by up to {apart} layers{ends}; "
            passes = sorted({f"{row['dense_passes']:.1f}" for row in rows}, key=float)
            took = " to ".join(dict.fromkeys((passes[0], passes[-1])))
            yield (
                f"- {name}, {count} layers: {agree}the choice takes {took} times a pass of 512 samples"
                f"{_parts(rows)}."
            )
    yield ""


def _parts(rows: Sequence[Mapping[str, Any]]) -> str:
    """What of it each part takes, in the mean of the seeds."""
    names = rows[0].get("passes_by_part", {})
    means = {name: fmean(row["passes_by_part"][name] for row in rows) for name in names}
    return f" ({', '.join(f'{name} {mean:.1f}' for name, mean in means.items())})" if means else ""


def _spread_of_forms(found: Mapping[str, Any], measure: str) -> Iterator[str]:
    """How far apart the zigzag's forms are: cloud, token, neighbours."""
    forms = {
        name: row["mean"][measure]["mean"] for name, row in found["losses"].items() if name[:7] == "zigzag,"
    }
    if forms:
        best, worst = min(forms, key=forms.__getitem__), max(forms, key=forms.__getitem__)
        yield (
            f"Of {len(forms)} forms of zigzag (cloud, token, k) the best in the mean is `{best}` "
            f"({forms[best]:.3f}), the worst `{worst}` ({forms[worst]:.3f}).\n"
        )


def gaps(found: Mapping[str, Any]) -> Iterator[str]:
    """One table per number of layers, by objective and number of samples."""
    for count, row in found["counts"].items():
        sizes = list(next(iter(row["gaps"].values())))
        yield (
            f"{count} layers removed, {row['sets']} sets: the best loses {row['best']:.3f}, the median "
            f"{row['median']:.3f}.\n"
        )
        yield "| chosen by | " + " | ".join(f"{size} samples" for size in sizes) + " |"
        yield "|---" * (len(sizes) + 1) + "|"
        for name, by_size in row["gaps"].items():
            yield f"| {name} | " + " | ".join(cell(by_size[size]) for size in sizes) + " |"
        for name, by_size in row.get("ranks", {}).items():
            cells = " | ".join(cell(by_size[size]) for size in sizes)
            yield f"| {name}: rank correlation with what is lost | {cells} |"
        yield ""


def _with(held: Mapping[str, Any], kind: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    return ((subject, found[kind]) for subject, found in held.items() if kind in found)


def _draws(found: Mapping[str, Any]) -> str:
    items = f"{found['items']} items, " if "items" in found else ""
    return f"{items}seeds {_listed(found['seeds'])}"


def _listed(values: list[int]) -> str:
    return ", ".join(map(str, values))


def cell(values: Mapping[str, float]) -> str:
    return f"{values['mean']:.3f} ({values['low']:.3f} to {values['high']:.3f})"


def _plot(held: Mapping[str, Any], settings: str) -> None:
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot

    mpl.rcParams["svg.hashsalt"] = "accuracy"
    subjects = [subject for subject, found in held.items() if "scorers" in found]
    figure, axes = pyplot.subplots(1, len(subjects), figsize=(4.2 * len(subjects), 3.8), squeeze=False)
    for axis, subject in zip(axes[0], subjects, strict=True):
        dense = held[subject]["scorers"]["dense"]
        measure = next(iter(dense))
        for label, (kind, row) in _CURVES.items():
            found = held[subject].get(kind)
            losses = found and found["losses"].get(row.format(settings))
            if not losses:
                continue
            counts = found["counts"]
            points = [losses[str(count)][measure] for count in counts]
            (line,) = axis.plot(counts, [point["mean"] for point in points], marker="o", ms=3, label=label)
            low, high = ([point[side] for point in points] for side in ("low", "high"))
            axis.fill_between(counts, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
        for kind, style in (("int8", ":"), ("int4", "--")):
            losses = held[subject].get("choices", {}).get("losses", {}).get(f"dense, {kind}")
            if losses:
                axis.axhline(
                    losses["mean"][measure]["mean"], ls=style, color="grey", lw=1, label=f"dense, {kind}"
                )
        axis.set_title(subject, fontsize=10)
        axis.set_xlabel("layers removed")
        axis.set_ylabel(f"lost ({measure})")
        axis.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(PLOT, metadata={"Date": None})
