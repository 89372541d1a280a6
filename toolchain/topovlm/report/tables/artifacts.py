"""The models, what was written of them, and what was checked of it."""

from __future__ import annotations

from collections.abc import Callable

from topovlm.report.document import Model, Report, Verification
from topovlm.report.formats import ABSENT, count, number
from topovlm.report.tables.shape import Section, table

_OUTCOMES = {True: "passed", False: "FAILED", None: "fact"}


def _model_rows(dense: Model, slim: Model | None) -> list[tuple[str, ...]]:
    def cells(name: str, value: Callable[[Model], str]) -> tuple[str, ...]:
        return (name, value(dense), value(slim) if slim else ABSENT)

    return [
        cells("decoder layers", lambda m: str(m.layers)),
        cells("parameters", lambda m: count(m.parameters)),
        cells("of these in the decoder", lambda m: count(m.decoder_parameters)),
        cells("weights", lambda m: number(m.weight_bytes, "bytes")),
        cells("SHA-256 of the weights", lambda m: m.weights_sha256[:16]),
    ]


def artifacts_section(report: Report) -> Section:
    tables = [table("The models", "fact|dense|slim", _model_rows(report.dense, report.slim))]
    files = [
        (a.path, a.model, a.format, number(a.bytes, "bytes"), ", ".join(a.loads_in) or ABSENT, a.sha256[:16])
        for a in report.artifacts
    ]
    if files:
        tables.append(table("What was written", "path|model|format|size|loads in|SHA-256 (start)", files))
    checks = [(v.name, v.model, _OUTCOMES[v.passed], _against(v), v.detail) for v in report.verifications]
    if checks:
        tables.append(
            table("Checks of the artefacts, made in this run", "check|model|outcome|figure|detail", checks)
        )
    return Section("artifacts", "Artefacts and their checks", (), (), tuple(tables))


def _against(check: Verification) -> str:
    if check.value is None:
        return ABSENT
    if check.limit is None or check.rule == "equal to":
        return f"{check.value:.2g}"
    limit = "limit" if check.rule == "at most" else "more than"
    return f"{check.value:.2g} ({limit} {check.limit:.2g})"
