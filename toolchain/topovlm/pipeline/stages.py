"""Every stage of a deployment, in order. `stage` says what a stage is; others are made per exporter."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from topovlm import exporters
from topovlm.choose.record import Scores, Selection
from topovlm.config import Config
from topovlm.exporters.protocol import ExportRecord
from topovlm.measure.timing import Comparison
from topovlm.pipeline.record import Attempt, Benched, Evaluated, Pruned, Reported
from topovlm.pipeline.rundir import HIDDEN
from topovlm.pipeline.stage import IRRELEVANT, Stage
from topovlm.planner.record import PlanRecord
from topovlm.predict.profile import Profile

BASELINE, DEPLOYED, MODEL = "baseline", exporters.MEASURED, "model"
SCORES, SELECTION, PLAN_FILE, PROFILE_FILE = "scores.json", "selection.json", "plan.json", "profile.json"
STATES = f"{HIDDEN}/results/states.npy"
REPORT_FILES = ("report.json", "report.md", "report.html")


def other_formats() -> tuple[str, ...]:
    """All known exporters but the measured one."""
    return tuple(name for name in exporters.EXPORTERS.names() if name != exporters.MEASURED)


def _from_graphs() -> tuple[str, ...]:
    return ("measure", *other_formats(), "evaluate-slim", "bench-slim")


def _from_model() -> tuple[str, ...]:
    return ("export", *_from_graphs())


def _from_selection() -> tuple[str, ...]:
    return ("prune", *_from_model())


def _from_scores() -> tuple[str, ...]:
    return ("select", *_from_selection())


def _from_dense() -> tuple[str, ...]:
    return ("profile", "score", *_from_scores(), "evaluate-dense", "bench-dense")


EXPORT_DENSE = Stage(
    "export-dense",
    ExportRecord,
    outputs=(BASELINE,),
    facts=("model", "packages", "exported"),
    feeds=_from_dense,
    lent=True,
)
PROFILE = Stage(
    "profile",
    Profile,
    outputs=(PROFILE_FILE,),
    facts=("machine", "packages", "workload"),
    constants=("timed_tokens",),
)
PLAN = Stage(
    "plan",
    PlanRecord,
    outputs=(PLAN_FILE,),
    reads=("max_latency", "max_token_latency_ms", "max_memory_bytes", "sparsity", "drop"),
    facts=("model", "packages", "target", "planned", "workload"),
)
SCORE = Stage(
    "score",
    Scores,
    outputs=(SCORES, STATES),
    reads=("scorer", "k", "cloud", "token"),
    facts=("model", "packages", "choosing", "computing"),
    constants=("bypass_samples", "elimination_samples"),
    feeds=_from_scores,
    lent=True,
)
SELECT = Stage(
    "select",
    Selection,
    outputs=(SELECTION,),
    reads=("scorer", "drop", "judgements", "finalists", "repair"),
    constants=("quick_repair_samples",),
    facts=("model", "packages", "choosing", "computing"),
    feeds=_from_selection,
)
PRUNE = Stage(
    "prune",
    Pruned,
    outputs=(MODEL,),
    reads=("scorer", "repair", "heal_ms"),
    facts=("model", "packages", "choosing", "computing"),
    constants=("repair_samples", "quick_repair_samples", "confirm_samples", "heal_samples"),
    feeds=_from_model,
)
EXPORT = Stage(
    "export", ExportRecord, outputs=(DEPLOYED,), facts=("family", "packages", "exported"), feeds=_from_graphs
)
MEASURE = Stage("measure", Comparison, facts=("machine", "packages", "workload"), constants=("timed_tokens",))
EVALUATE_DENSE = Stage(
    "evaluate-dense",
    Evaluated,
    reads=("threads",),
    facts=("held_out", "packages"),
    constants=("answer_tokens",),
    lent=True,
)
EVALUATE_SLIM = Stage(
    "evaluate-slim",
    Evaluated,
    reads=EVALUATE_DENSE.reads,
    facts=EVALUATE_DENSE.facts,
    constants=EVALUATE_DENSE.constants,
)
BENCH_DENSE = Stage("bench-dense", Benched, reads=("threads",), facts=("benched", "packages"), lent=True)
BENCH_SLIM = Stage("bench-slim", Benched, reads=BENCH_DENSE.reads, facts=BENCH_DENSE.facts)
REPORT = Stage(
    "report",
    Reported,
    outputs=REPORT_FILES,
    reads=tuple(part.name for part in fields(Config) if part.name not in IRRELEVANT),
    facts=("target", "planned"),
)


def other_export(name: str) -> Stage[ExportRecord]:
    """The stage of an exporter other than the measured one; its folder has the exporter's name."""
    return Stage(
        name,
        ExportRecord,
        outputs=(name,),
        facts=("family", "packages", "target", "exported", "workload"),
        constants=("answer_tokens",),
    )


REJECTED = "rejected-"


def rejected(keep: int) -> Stage[Attempt]:
    """A memory of an attempt with so many layers that missed the budget; no part of what a report tells."""
    return Stage(
        f"{REJECTED}{keep}",
        Attempt,
        reads=("drop", "max_latency", "max_token_latency_ms", "max_memory_bytes"),
        facts=("model", "machine", "packages", "workload"),
    )


def fixed_stages() -> tuple[Stage[Any], ...]:
    """Those that every deployment knows, in the order in which they run; other exporters add theirs."""
    before = (EXPORT_DENSE, PROFILE, PLAN, SCORE, SELECT, PRUNE, EXPORT, MEASURE)
    return (*before, EVALUATE_DENSE, EVALUATE_SLIM, BENCH_DENSE, BENCH_SLIM, REPORT)


def all_stages() -> tuple[Stage[Any], ...]:
    """Of a deployment with every exporter that there is."""
    return (*fixed_stages(), *map(other_export, other_formats()))
