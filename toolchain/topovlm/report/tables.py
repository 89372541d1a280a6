"""The sections of the report as plain tables, shared by the Markdown and the HTML form."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from topovlm.report import formats
from topovlm.report.document import FamilyAccuracy, Figure, Model, PlanRow, Report, Selection, plan_row
from topovlm.report.formats import ABSENT, count, figure_text, number, phase_name
from topovlm.report.identity import content_hash

_CHANGED_SHOWN = 12


@dataclass(frozen=True)
class Table:
    """Rows of text; the first column heads its row. `long` tables may be folded away."""

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    long: bool = False


@dataclass(frozen=True)
class Section:
    """A heading with paragraphs, the names of its plots, and tables."""

    name: str
    title: str
    text: tuple[str, ...]
    plots: tuple[str, ...]
    tables: tuple[Table, ...]


def sections(report: Report) -> tuple[Section, ...]:
    """All sections that the report has data for, in reading order."""
    made: list[Section | None] = [
        _latency(report),
        _accuracy(report),
        _layers(report.selection) if report.selection else None,
        _plan(report),
        _artifacts(report),
        _origin(report),
    ]
    return tuple(section for section in made if section)


def _table(caption: str, header: str, rows: Iterable[tuple[str, ...]], *, long: bool = False) -> Table:
    return Table(caption, tuple(header.split("|")), tuple(rows), long)


def _threads(number_of: int) -> str:
    return f"{number_of} thread{'s' if number_of != 1 else ''}"


def _latency(report: Report) -> Section:
    latency, dense_row, slim_row = report.latency, plan_row(report, "dense"), plan_row(report, "slim")
    text, tables = [], []
    if latency:
        text.append(
            f"Measured on {latency.where}: {latency.runtime}, {latency.variant} graph, "
            f"{_threads(latency.threads)}. {latency.method}"
        )
        rows = [
            (
                phase_name(p.phase),
                figure_text(p.dense),
                figure_text(p.slim),
                figure_text(p.ratio),
                count(p.dense.n),
            )
            for p in latency.phases
        ]
        caption = (
            f"Measured latency on {latency.where}: median (95 % interval). "
            f"Workload: {formats.workload_text(latency.workload)}"
        )
        tables.append(_table(caption, "phase|dense|slim|slim / dense|rounds", rows))
        uses = [
            (use.name, figure_text(use.dense), figure_text(use.slim), use.dense.kind)
            for use in latency.memory
        ]
        if uses:
            tables.append(_table(f"Memory on {latency.where}", "memory|dense|slim|kind", uses))
        text += [f"Caution: {warning}." for warning in latency.warnings]
    else:
        text.append("Nothing was timed.")
    if dense_row:
        text.append(f"Predicted for {report.target.board} ({report.target.mode}): {report.plan.source}.")
        predictions = [
            (
                phase_name(phase),
                figure_text(formats.predicted(report, "dense", phase)),
                figure_text(formats.predicted(report, "slim", phase)),
            )
            for phase in formats.predicted_phases(report)
        ]
        slim_memory = slim_row.memory if slim_row else None
        predictions.append(("memory", figure_text(dense_row.memory), figure_text(slim_memory)))
        caption = (
            f"Predicted for {report.target.board}: value (range). "
            f"Workload: {formats.workload_text(report.workload)}"
        )
        tables.append(_table(caption, "figure|dense|slim", predictions))
    return Section("latency", "Latency and memory", tuple(text), ("latency",), tuple(tables))


def _family_row(family: FamilyAccuracy) -> tuple[str, ...]:
    changed = ABSENT
    if family.only_dense_correct is not None:
        changed = f"{family.only_dense_correct} / {family.only_slim_correct}"
    unparsed = f"{family.dense_unparsed} / {count(family.slim_unparsed)}"
    return (
        family.family,
        count(family.n),
        number(family.chance, "share"),
        figure_text(family.dense),
        figure_text(family.slim),
        figure_text(family.difference, as_points=True).replace(" points", ""),
        changed,
        formats.p_value(family.mcnemar_p),
        _share(family.retention),
        _share(family.retention_corrected),
        unparsed,
    )


def _share(figure: Figure | None) -> str:
    return number(figure.value, "share") if figure else ABSENT


def _accuracy(report: Report) -> Section | None:
    accuracy = report.accuracy
    if accuracy is None:
        return None
    header = (
        "family|questions|chance|dense right|slim right|difference in points|lost / gained|p|kept|"
        "kept beyond chance|unparsed"
    )
    rows = [_family_row(family) for family in (accuracy.overall, *accuracy.families)]
    tables = [
        _table(
            "Accuracy per family, measured: share right (95 % interval); unparsed: dense / slim", header, rows
        )
    ]
    changed = [q for q in accuracy.questions if q.slim and q.slim.correct != q.dense.correct]
    changed.sort(key=lambda q: (not q.dense.correct, q.family))
    if changed:
        shown = _spread(changed, _CHANGED_SHOWN)
        answers = [(q.id, q.family, q.answer, q.dense.text, q.slim.text if q.slim else ABSENT) for q in shown]
        caption = f"Questions whose outcome changed: {len(shown)} of {len(changed)} (all are in report.json)"
        tables.append(
            _table(caption, "question|family|right answer|dense said|slim said", answers, long=True)
        )
    text = [f"Questions: {accuracy.sample_source}. Answered by {accuracy.source}.", accuracy.method]
    if report.latency and report.latency.variant not in accuracy.source:
        text.append(
            f"The {report.latency.variant} graph that was timed answered none of them: that it agrees with "
            "the model is among the checks below."
        )
    return Section("accuracy", "Accuracy", tuple(text), ("accuracy",), tuple(tables))


def _spread(items: list, limit: int) -> list:
    """At most `limit` items, evenly spread over the list."""
    if len(items) <= limit:
        return items
    return [items[round(i * (len(items) - 1) / (limit - 1))] for i in range(limit)]


def _layers(selection: Selection) -> Section:
    parameters = ", ".join(f"{name} = {value}" for name, value in selection.parameters.items())
    scorer = f"{selection.scorer} ({parameters})" if parameters else selection.scorer
    text = [
        f"Scorer {scorer} on {selection.calibration_samples} samples ({selection.calibration_source}), "
        f"token: {selection.token}. A high score means that the layer adds little and may go.",
        f"Dropped: {formats.layer_list(selection.dropped)}. Kept: {formats.layer_list(selection.kept)}. "
        f"Protected: {formats.layer_list(selection.protected)}.",
    ]
    if len(set(selection.scores)) == 1:
        text.append(
            "Every layer scored the same, so that their order alone made the proposal: "
            "take more --samples or a smaller --k."
        )
    if selection.judge:
        judge = selection.judge
        swaps = f" Swaps: {', '.join(judge.swaps)}." if judge.swaps else ""
        text.append(
            f"Judge: {judge.name}, {judge.proposal:.3g} → {judge.final:.3g} {judge.unit} on {judge.samples} "
            f"samples.{swaps} {judge.text}".strip()
        )
    if selection.repair:
        repair = selection.repair
        text.append(
            f"Repair: {repair.name}, {repair.before:.3g} → {repair.after:.3g} {repair.unit}. {repair.text}"
        )
    if selection.barcode:
        text.append(
            "Barcode: each line is a feature of the samples' neighbour graph (H0: a component, H1: a loop), "
            "from the layer where it appears to the layer where it is gone."
        )
    rows = [
        (str(layer.layer), layer.decision, _judged(layer.score), count(layer.rank), layer.why)
        for layer in selection.layers
    ]
    tables = [
        _table("Every decoder layer: decision and reason", "layer|decision|score|rank|why", rows, long=True)
    ]
    others = [
        (item.scorer, formats.layer_list(item.dropped), _judged(item.judged), item.note)
        for item in selection.other_sets
    ]
    if others:
        chosen = _judged(selection.judge.final if selection.judge else None)
        name = "the judge's set (used)" if selection.judge else f"{selection.scorer} (used)"
        others.insert(0, (name, formats.layer_list(selection.dropped), chosen, ""))
        unit = f"{selection.judge.name} ({selection.judge.unit})" if selection.judge else "judged"
        tables.append(_table("What other scorers would drop", f"scorer|layers dropped|{unit}|note", others))
    plots = ("layers", "barcode", "topology") if selection.barcode else ("layers",)
    return Section("layers", "Which layers went, and why", tuple(text), plots, tuple(tables))


def _judged(value: float | None) -> str:
    return ABSENT if value is None else f"{value:.3g}"


def _plan_fits(row: PlanRow, chosen: int) -> str:
    if not row.fits:
        # Where no limit is exceeded it is the number of layers itself that may not be.
        count_rule = "protected layers" if row.kept < chosen else "sparsity"
        return f"no: {', '.join(row.exceeds) or count_rule}"
    return f"perhaps: {', '.join(row.at_risk)}" if row.at_risk else "yes"


def _plan_cells(row: PlanRow, whole: bool, chosen: int, deployed: int) -> tuple[str, ...]:
    latencies = (row.vision, row.prefill, row.token, row.ttft, *((row.total,) if whole else ()))
    name = f"{row.kept} (deployed)" if row.kept == deployed else str(row.kept)
    cells = (number(figure.value, figure.unit) for figure in (*latencies, row.memory))
    return (name, *cells, _plan_fits(row, chosen))


def _plan(report: Report) -> Section:
    plan = report.plan
    words = {
        "dense": "the dense model fits",
        "prune": f"keep {plan.keep_layers} of {plan.total_layers} layers",
    }
    text = [f"Verdict: {words.get(plan.verdict, 'no number of layers fits')}. Predictions: {plan.source}."]
    deployed = (report.slim or report.dense).layers
    if plan.verdict == "prune" and deployed != plan.keep_layers:
        text.append(
            f"Deployed with {deployed} layers: the plan's {plan.keep_layers} were not kept in the end."
        )
    if plan.floor != "none":
        text.append(f"The floor that binds is {plan.floor}: {plan.floor_text}.")
    if report.target.alias_of or report.target.siblings:
        siblings = f" Siblings: {', '.join(report.target.siblings)}." if report.target.siblings else ""
        text.append(f"Target “{report.target.requested}” means {report.target.key}.{siblings}")
    whole = "end_to_end" in formats.predicted_phases(report)
    rows = [
        _plan_cells(row, whole, plan.keep_layers, deployed)
        for row in sorted(plan.rows, key=lambda r: -r.kept)
    ]
    latencies = f"vision|prefill|per token|time to first token{'|end to end' if whole else ''}"
    header = f"layers kept|{latencies}|memory|fits"
    tables = (_table(f"Predicted for {report.target.board}", header, rows, long=True),) if rows else ()
    plots = (*(("plan",) if rows else ()), *(("pareto",) if plan.formats else ()))
    return Section("plan", "Plan", tuple(text), plots, tables)


def _model_rows(dense: Model, slim: Model | None) -> list[tuple[str, ...]]:
    def cells(name: str, value) -> tuple[str, ...]:
        return (name, value(dense), value(slim) if slim else ABSENT)

    return [
        cells("decoder layers", lambda m: str(m.layers)),
        cells("parameters", lambda m: count(m.parameters)),
        cells("of these in the decoder", lambda m: count(m.decoder_parameters)),
        cells("weights", lambda m: number(m.weight_bytes, "bytes")),
        cells("SHA-256 of the weights", lambda m: m.weights_sha256[:16]),
    ]


def _artifacts(report: Report) -> Section:
    tables = [_table("The models", "fact|dense|slim", _model_rows(report.dense, report.slim))]
    files = [
        (a.path, a.model, a.format, number(a.bytes, "bytes"), ", ".join(a.loads_in) or ABSENT, a.sha256[:16])
        for a in report.artifacts
    ]
    if files:
        tables.append(_table("What was written", "path|model|format|size|loads in|SHA-256 (start)", files))
    checks = [
        (v.name, v.model, "passed" if v.passed else "FAILED", _against(v.value, v.limit), v.detail)
        for v in report.verifications
    ]
    if checks:
        tables.append(
            _table("Checks of the artefacts, made in this run", "check|model|outcome|figure|detail", checks)
        )
    return Section("artifacts", "Artefacts and their checks", (), (), tuple(tables))


def _against(value: float | None, limit: float | None) -> str:
    if value is None:
        return ABSENT
    return f"{value:.2g}" if limit is None else f"{value:.2g} (limit {limit:.2g})"


def _origin(report: Report) -> Section:
    environment, run, source = report.environment, report.run, report.provenance
    rows = [
        ("command", " ".join(run.argv) or ABSENT),
        ("made", run.created or ABSENT),
        ("topovlm", report.topovlm_version),
        ("seed", str(run.seed)),
        (
            "machine",
            f"{environment.cpu}, {environment.cores} cores, {number(environment.memory_bytes, 'bytes')}",
        ),
        ("accelerator", environment.accelerator or "none used"),
        ("system", f"{environment.system}, Python {environment.python}, {_threads(environment.threads)}"),
        (
            "versions",
            ", ".join(f"{name} {version}" for name, version in environment.versions.items()) or ABSENT,
        ),
        ("model", f"{source.model_source} ({source.model_licence})"),
        ("data", f"{source.data_source}{f' ({source.data_licence})' if source.data_licence else ''}"),
        ("target facts", "; ".join(source.target_sources) or ABSENT),
        ("method", "; ".join(source.citations) or ABSENT),
        ("content hash", content_hash(report)),
    ]
    tables = [_table("How this report came about", "what|value", rows)]
    if run.stages:
        stages = [(s.name, f"{s.seconds:.1f} s", "reused" if s.cached else "made") for s in run.stages]
        tables.append(_table("Stages", "stage|wall time|result", stages, long=True))
    text = (
        "Measured means timed or counted by this run; predicted means computed from the target's published "
        "or calibrated figures. The content hash covers everything but times of day, timings, paths and the "
        "machine.",
        *(f"Not shown here: {limit}." for limit in source.limits),
    )
    return Section("origin", "Where the numbers come from", text, (), tuple(tables))
