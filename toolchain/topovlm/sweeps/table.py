"""A sweep as one table: for the terminal, and as sweep.md. No figure without saying measured or predicted."""

from __future__ import annotations

from topovlm.report.document import Figure
from topovlm.report.formats import ABSENT, figure_text
from topovlm.sweeps.record import Row, Sweep
from topovlm.text import for_markdown

COLUMNS = (
    "model",
    "target",
    "budget",
    "verdict",
    "layers kept",
    "time to first token",
    "accuracy, dense → slim",
    "run directory",
)


def title(sweep: Sweep) -> str:
    """How many of the combinations were deployed."""
    done = sum(row.deployed for row in sweep.rows)
    left = sweep.combinations - len(sweep.rows)
    rest = f", {left} have not ended yet" if left else ""
    return f"{done} of {sweep.combinations} combinations deployed{rest}"


def cells(row: Row) -> tuple[str, ...]:
    """Texts for `COLUMNS`."""
    kept = ABSENT if row.keep_layers is None else f"{row.keep_layers} of {row.total_layers}"
    budget = ", ".join(f"{name.replace('_', '-')} {text}" for name, text in row.budget.items())
    target = row.target or "--device"
    latency, accuracy = _with_kind(row.latency), _accuracy(row)
    return (row.model, target, budget or ABSENT, row.verdict, kept, latency, accuracy, row.run)


def why(row: Row) -> str:
    """One line about a combination that was not deployed; else nothing."""
    return f"{row.run}: {row.ended.message}" if row.ended else ""


def markdown(sweep: Sweep) -> str:
    """sweep.md, with links to the reports."""
    lines = [f"# {title(sweep)}", ""]
    lines += ["| " + " | ".join(COLUMNS) + " |", "| " + " | ".join(["---"] * len(COLUMNS)) + " |"]
    for row in sweep.rows:
        texts = [for_markdown(text) for text in cells(row)]
        if row.latency is not None:  # there is a report
            texts[-1] = f"[{texts[-1]}]({row.run}/report.md)"
        lines.append("| " + " | ".join(texts) + " |")
    notes = [f"- {for_markdown(why(row))}" for row in sweep.rows if not row.deployed]
    lines += ["", *notes] if notes else []
    lines += [
        "",
        "In brackets: the 95 % interval of what was measured, the range of what was predicted.",
    ]
    return "\n".join(lines) + "\n"


def _accuracy(row: Row) -> str:
    if row.dense is None:
        return ABSENT
    both = [figure_text(figure) for figure in (row.dense, row.slim) if figure is not None]
    return f"{' → '.join(both)}, {row.dense.kind}"


def _with_kind(figure: Figure | None) -> str:
    return ABSENT if figure is None else f"{figure_text(figure)}, {figure.kind}"
