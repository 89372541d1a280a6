"""Which layers went, and why, in the scorer's, the judge's and the repair's own words."""

from __future__ import annotations

from topovlm.report import formats
from topovlm.report.document import Selection
from topovlm.report.formats import ABSENT, count
from topovlm.report.tables.shape import Section, table


def layers_section(selection: Selection) -> Section:
    told = dict(selection.parameters)
    note = told.pop("note", "")
    parameters = ", ".join(f"{name} = {value}" for name, value in told.items())
    scorer = f"{selection.scorer} ({parameters})" if parameters else selection.scorer
    text = [
        f"Scorer {scorer} on {selection.calibration_samples} samples ({selection.calibration_source}), "
        f"token: {selection.token}. A high score means that the layer adds little and may go.",
        f"Dropped: {formats.layer_list(selection.dropped)}. Kept: {formats.layer_list(selection.kept)}. "
        f"Protected: {formats.layer_list(selection.protected)}.",
    ]
    if note:
        text.append(f"{note}.")
    if len(set(selection.scores)) == 1:
        text.append(
            "Every layer scored the same, so that their order alone made the proposal: take more --samples"
            + (" or a smaller --k." if "k" in selection.parameters else ".")
        )
    if selection.judge:
        judge = selection.judge
        swaps = f" Swaps: {', '.join(judge.swaps)}." if judge.swaps else ""
        text.append(
            f"Judge: {judge.name}, {judge.proposal:.3g} → {judge.final:.3g} {judge.unit} on {judge.samples} "
            f"samples.{swaps} {judge.text}".strip()
        )
    for kind, part in (("Repair", selection.repair), ("Healing", selection.heal)):
        if part:
            text.append(f"{kind}: {part.name}, {part.before:.3g} → {part.after:.3g} {part.unit}. {part.text}")
    if selection.barcode:
        text.append(
            "Barcode: each line is a feature of the samples' neighbour graph (H0: a component, H1: a loop), "
            "from the layer where it appears to the layer where it is gone."
        )
    rows = [
        (str(layer.layer), layer.decision, _value(layer.score), count(layer.rank), layer.why)
        for layer in selection.layers
    ]
    tables = [
        table("Every decoder layer: decision and reason", "layer|decision|score|rank|why", rows, long=True)
    ]
    others = [
        (item.scorer, formats.layer_list(item.dropped), _value(item.judged), item.note)
        for item in selection.other_sets
    ]
    if others:
        chosen = _value(selection.judge.final if selection.judge else None)
        name = "the judge's set (used)" if selection.judge else f"{selection.scorer} (used)"
        others.insert(0, (name, formats.layer_list(selection.dropped), chosen, ""))
        unit = f"{selection.judge.name} ({selection.judge.unit})" if selection.judge else "judged"
        tables.append(table("What other scorers would drop", f"scorer|layers dropped|{unit}|note", others))
    plots = ("layers", "barcode", "topology") if selection.barcode else ("layers",)
    return Section("layers", "Which layers went, and why", tuple(text), plots, tuple(tables))


def _value(value: float | None) -> str:
    return ABSENT if value is None else f"{value:.3g}"
