"""report.json: the one data model behind the JSON, Markdown and HTML reports and behind `topovlm check`.

Conventions
- A `Figure` is one number with its unit, whether it was *measured* or *predicted*, an interval, the count
  behind it and its source. Shares lie in 0..1 (unit "share"), differences of shares too (unit "share").
- Layer indices are 0-based positions in the dense decoder.
- Raw data travel with the summary: every question's two outcomes, every timing in ms.
- Fields marked `volatile` (wall-clock times, paths, timings, the machine) differ between two runs of the same
  inputs; they are left out of `topovlm.report.identity.content_hash` and carry `"x-volatile": true` in the
  JSON Schema (`report.schema.json` beside this file).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

SCHEMA_VERSION = 1

Phase = Literal["vision", "embed", "prefill", "token", "ttft", "end_to_end"]
PHASES: tuple[Phase, ...] = ("vision", "embed", "prefill", "token", "ttft", "end_to_end")
PEAK_MEMORY = "peak resident set"  # the `MemoryUse` that a memory budget bounds
Kind = Literal["measured", "predicted"]
VOLATILE = msgspec.Meta(extra={"volatile": True}, extra_json_schema={"x-volatile": True})


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every part of the document: immutable, keyword-only, unknown fields refused."""


class Figure(Part, frozen=True, kw_only=True):
    """One number as shown; `low`..`high` is its interval, `n` the samples behind it.

    `confidence` belongs to intervals of samples. A prediction's range (the errors that its predictor showed
    where it was checked) claims none.
    """

    value: float
    unit: str
    kind: Kind
    source: str
    low: float | None = None
    high: float | None = None
    n: int | None = None
    confidence: float | None = None


class Target(Part, frozen=True, kw_only=True):
    """The board (or machine) in one power mode that the run is for."""

    requested: str  # as typed, e.g. "jetson-orin"
    key: str  # what it resolved to, e.g. "jetson-agx-orin-64gb@maxn"
    board: str
    mode: str
    runtime: str  # what the plan is for, e.g. "tensorrt", "onnxruntime-cpu"
    alias_of: str | None = None
    siblings: tuple[str, ...] = ()
    facts: Annotated[dict[str, str | float], VOLATILE] = {}  # `key` says it all


class Workload(Part, frozen=True, kw_only=True):
    """What one latency figure is for."""

    images: int
    image_height: int
    image_width: int
    visual_tokens: int  # of all images together
    prompt_tokens: int  # text and visual tokens of the prefill
    new_tokens: int = 1
    batch: int = 1
    dtype: str = "fp32"


class Budget(Part, frozen=True, kw_only=True):
    """What the user asked for, as typed; `latency_ms` is the bound it resolved to."""

    max_latency: str | None = None
    max_token_latency_ms: float | None = None
    max_memory_bytes: int | None = None
    sparsity: float | None = None
    latency_phase: Literal["ttft", "end_to_end"] = "ttft"
    latency_ms: Annotated[float | None, VOLATILE] = None  # a share of a measured dense latency is volatile


class PlanRow(Part, frozen=True, kw_only=True):
    """Predicted figures with `kept` decoder layers, on the target, at the workload.

    `exceeds` names the limits (`latency`, `per-token`, `memory`) that the value breaks, `at_risk` those that
    only the upper end of its range breaks. A share of the dense latency is a share of the upper end there:
    what the predictor gets wrong, it gets wrong for both models.
    """

    kept: int
    vision: Figure
    prefill: Figure
    token: Figure
    ttft: Figure
    total: Figure  # end to end: the first token and the workload's other new tokens
    memory: Figure
    exceeds: tuple[str, ...]
    at_risk: tuple[str, ...]
    fits: bool  # as a choice: the number of layers counts too


class FormatPoint(Part, frozen=True, kw_only=True):
    """Central predictions in another weight format with `kept` layers; `latency_ms` is what is bounded."""

    dtype: str
    kept: int
    latency_ms: float
    memory_bytes: float
    fits: bool


class Plan(Part, frozen=True, kw_only=True):
    """Budget -> layers kept. `rows` hold one prediction per number of layers kept (dense included)."""

    verdict: Literal["dense", "prune", "infeasible"]
    keep_layers: int
    total_layers: int
    floor: str  # what binds: "vision", "decoder", "memory", or "none"
    floor_text: str
    predictor: Literal["published", "calibrated", "measured-here"]
    source: str
    rows: tuple[PlanRow, ...] = ()
    formats: tuple[FormatPoint, ...] = ()  # the same budget by weight format and layers, for boards


class Artifact(Part, frozen=True, kw_only=True):
    """One file or folder that the run wrote (or read); `path` is relative to the run directory."""

    path: str
    format: str
    model: Literal["dense", "slim"]
    bytes: int
    sha256: str
    title: str = ""
    checked: bool = False
    reproducible: bool = (
        True  # False: same inputs need not give the same bytes (hash not part of the content)
    )
    loads_in: tuple[str, ...] = ()  # e.g. "transformers", "onnxruntime", "transformers.js"


class Verification(Part, frozen=True, kw_only=True):
    """One check of an artefact that a stranger would otherwise have to repeat."""

    name: str  # e.g. "reload", "cached = uncached", "ONNX parity", "negative control: shifted position"
    model: Literal["dense", "slim"]
    passed: bool
    detail: str = ""
    value: float | None = None  # e.g. worst absolute logit error
    limit: float | None = None


class Model(Part, frozen=True, kw_only=True):
    """Facts of one model: dense (as given) or slim (as shipped)."""

    name: str
    architecture: str
    layers: int
    parameters: int
    decoder_parameters: int
    weight_bytes: int
    weights_sha256: str
    hidden_size: int | None = None
    path: Annotated[str, VOLATILE] = ""


class LayerReason(Part, frozen=True, kw_only=True):
    """What happened to one decoder layer and why."""

    layer: int
    decision: Literal["kept", "dropped", "protected"]
    score: float | None
    rank: int | None  # 1 = first to go
    why: str


class ScorerSet(Part, frozen=True, kw_only=True):
    """What another scorer would have done (or what the chosen one did before the judge)."""

    scorer: str
    scores: tuple[float, ...]
    dropped: tuple[int, ...]
    judged: float | None = None  # the judge's figure for that set, e.g. KL to the dense model
    note: str = ""


class Judge(Part, frozen=True, kw_only=True):
    """Output check of the proposal, if there was one."""

    name: str
    unit: str
    proposal: float
    final: float
    swaps: tuple[str, ...] = ()
    samples: int = 0
    text: str = ""


class Repair(Part, frozen=True, kw_only=True):
    """Compensation at the cuts, if there was one."""

    name: str
    before: float
    after: float
    unit: str
    text: str = ""


class Bars(Part, frozen=True, kw_only=True):
    """`count` zigzag bars of dimension `dim` alive on indices birth..death of 0..2(L-1) (even = layer)."""

    dim: int
    birth: int
    death: int
    count: int


class Selection(Part, frozen=True, kw_only=True):
    """Which decoder layers went and why. High `scores` may go."""

    scorer: str
    scores: tuple[float, ...]
    dropped: tuple[int, ...]
    kept: tuple[int, ...]
    protected: tuple[int, ...]
    layers: tuple[LayerReason, ...]
    calibration_samples: int
    calibration_source: str
    token: str = "last"
    parameters: dict[str, str | float | int | bool] = {}
    other_sets: tuple[ScorerSet, ...] = ()
    judge: Judge | None = None
    repair: Repair | None = None
    barcode: tuple[Bars, ...] = ()


class Answer(Part, frozen=True, kw_only=True):
    """One model's answer to one question. Unparsed answers are wrong."""

    text: str
    correct: bool
    parsed: bool


class Question(Part, frozen=True, kw_only=True):
    """Raw paired outcome. `group` is the cluster (same picture)."""

    id: str
    group: str
    family: str
    metric: str
    chance: float
    answer: str
    dense: Answer
    slim: Answer | None = None


class FamilyAccuracy(Part, frozen=True, kw_only=True):
    """Summary of one family ("overall" for all). Shares; `difference` = slim - dense, paired."""

    family: str
    n: int
    groups: int
    chance: float
    dense_correct: int
    dense: Figure
    dense_unparsed: int
    slim_correct: int | None = None
    slim: Figure | None = None
    slim_unparsed: int | None = None
    difference: Figure | None = None
    only_dense_correct: int | None = None
    only_slim_correct: int | None = None
    mcnemar_p: float | None = None
    retention: Figure | None = None  # slim / dense
    retention_corrected: Figure | None = None  # (slim - chance) / (dense - chance)


class Accuracy(Part, frozen=True, kw_only=True):
    """Dense against slim on the same held-out questions, through the exported graphs."""

    source: str  # what answered, e.g. "ONNX Runtime 1.32 CPU, fp32, plain graphs"
    sample_source: str
    sample_sha256: str
    method: str
    overall: FamilyAccuracy
    families: tuple[FamilyAccuracy, ...]
    questions: tuple[Question, ...]


class PhaseTimes(Part, frozen=True, kw_only=True):
    """One phase: median with interval, and the raw samples in ms, in the order they were taken."""

    phase: Phase
    dense: Figure
    dense_samples_ms: tuple[float, ...]
    slim: Figure | None = None
    slim_samples_ms: tuple[float, ...] = ()
    ratio: Figure | None = None  # slim / dense, median over rounds, unit "ratio"


class MemoryUse(Part, frozen=True, kw_only=True):
    """A memory figure in bytes of both models: peak resident set, weights, KV cache at the workload."""

    name: str
    dense: Figure
    slim: Figure | None = None


class Latency(Part, frozen=True, kw_only=True):
    """Timings on the machine at hand (`where`), the two models interleaved."""

    where: str
    runtime: str  # e.g. "onnxruntime-cpu"
    variant: str  # e.g. "fused"
    threads: int
    workload: Workload
    warmup: int
    order: tuple[str, ...]  # "dense" or "slim", one per timed run, in the order taken
    is_target: bool  # True when the target itself was timed: the budget is judged on these figures
    phases: tuple[PhaseTimes, ...]
    memory: tuple[MemoryUse, ...] = ()
    method: str = ""
    warnings: tuple[str, ...] = ()  # what made these timings less certain: drift, other load, time limit


class Stage(Part, frozen=True, kw_only=True):
    """Wall time of one stage; `cached` when a resumed run reused it."""

    name: str
    seconds: float
    cached: bool = False


class Run(Part, frozen=True, kw_only=True):
    """How this report came about."""

    seed: int
    argv: Annotated[tuple[str, ...], VOLATILE] = ()
    created: Annotated[str, VOLATILE] = ""  # ISO 8601, UTC
    config: Annotated[dict[str, Any], VOLATILE] = {}
    stages: Annotated[tuple[Stage, ...], VOLATILE] = ()


class Environment(Part, frozen=True, kw_only=True):
    """The machine and the versions behind the measurements."""

    machine: str
    cpu: str
    cores: int
    memory_bytes: int
    system: str
    python: str
    threads: int
    versions: dict[str, str] = {}
    providers: tuple[str, ...] = ()
    accelerator: str = ""


class Provenance(Part, frozen=True, kw_only=True):
    """Where the model and the data come from and under which terms."""

    model_source: str
    model_licence: str
    data_source: str
    data_licence: str = ""
    target_sources: tuple[str, ...] = ()
    citations: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()  # what this report does not show


class Report(Part, frozen=True, kw_only=True):
    """The document. `slim` and `selection` are None when the dense model fits and nothing was pruned."""

    schema_version: int
    topovlm_version: str
    title: str
    target: Target
    workload: Workload
    budget: Budget
    plan: Plan
    dense: Model
    provenance: Provenance
    run: Run
    environment: Annotated[Environment, VOLATILE]
    slim: Model | None = None
    selection: Selection | None = None
    accuracy: Accuracy | None = None
    latency: Annotated[Latency | None, VOLATILE] = None
    artifacts: tuple[Artifact, ...] = ()
    verifications: tuple[Verification, ...] = ()


def plan_row(report: Report, model: Literal["dense", "slim"]) -> PlanRow | None:
    """The plan's prediction for the dense model or for the slim one; None where the plan has no such row."""
    if model == "slim" and report.slim is None:
        return None
    kept = report.dense.layers if model == "dense" or report.slim is None else report.slim.layers
    return next((row for row in report.plan.rows if row.kept == kept), None)


def phase_times(report: Report, phase: str) -> PhaseTimes | None:
    """The measured phase of that name, or None when it was not timed."""
    phases = report.latency.phases if report.latency else ()
    return next((p for p in phases if p.phase == phase), None)
