"""What stages of the pipeline itself hand on: the pruned checkpoint, timings, answers, attempts, the run."""

from __future__ import annotations

from typing import Any, Literal

from topovlm.checkpoint.outcome import SurgeryReport
from topovlm.checkpoint.verify import VerifyReport
from topovlm.choose.record import HealRecord, RepairRecord
from topovlm.evaluation.evaluate import Outcome
from topovlm.records import Part

# Of run.json. Records of stages carry the version of the run directory.
SCHEMA = 2


class Pruned(Part, frozen=True, kw_only=True):
    """model/: what went, what the reloaded checkpoint was asked, the repair and the healing that were tried.

    `verified.dense_difference` is of the cut before either: they change weights on purpose.
    """

    surgery: SurgeryReport
    verified: VerifyReport
    repair: RepairRecord | None
    heal: HealRecord | None = None


class PruneRecord(Part, frozen=True, kw_only=True):
    """What `prune` wrote. `verified` is None where only files were compared (`files_compared` of them)."""

    surgery: SurgeryReport
    verified: VerifyReport | None = None
    files_compared: int | None = None


class Evaluated(Part, frozen=True, kw_only=True):
    """Every held-out question that one exported folder answered; empty where none has an answer."""

    outcomes: tuple[Outcome, ...]


class Benched(Part, frozen=True, kw_only=True):
    """Every public benchmark that one exported folder answered, in the order of --bench."""

    outcomes: tuple[tuple[Outcome, ...], ...]


class PairedRatio(Part, frozen=True, kw_only=True):
    """Median of slim over dense, round by round; without `low`..`high` where there were too few rounds."""

    ratio: float
    low: float | None
    high: float | None
    rounds: int


class Attempt(Part, frozen=True, kw_only=True):
    """One number of layers that was cut down to and measured; `text` says how it did.

    `missed`: options whose budgets it misses, by name.
    """

    keep: int
    met: bool
    phase: Literal["ttft", "end_to_end"]
    slim_ms: float
    ratio: PairedRatio
    text: str
    missed: tuple[str, ...]


class Reported(Part, frozen=True, kw_only=True):
    """report.json: the digest of all that does not change from run to run."""

    content_hash: str


class StageFacts(Part, frozen=True, kw_only=True):
    """One stage in run.json."""

    seconds: float
    cached: bool
    inputs_sha256: str
    outputs_sha256: dict[str, str]


class ModelSource(Part, frozen=True, kw_only=True):
    """The dense model in run.json."""

    name: str
    sha256: str
    licence: str


class RunFile(Part, frozen=True, kw_only=True):
    """run.json. `argv` as typed; `repeat` gives the same configuration whatever the defaults are then."""

    schema: int = SCHEMA
    argv: tuple[str, ...]
    repeat: tuple[str, ...]
    config: dict[str, Any]
    seed: int
    topovlm: str
    versions: dict[str, str]
    model: ModelSource
    attempts: tuple[Attempt, ...]
    stages: dict[str, StageFacts]
    finished: str
    wall_s: float


class Deployment(Part, frozen=True, kw_only=True):
    """What `deploy` answers: where the results are and what was decided. `dropped`: 0-based layers."""

    run: str
    verdict: Literal["dense", "prune"]
    total_layers: int
    keep_layers: int
    dropped: tuple[int, ...]
    attempts: tuple[Attempt, ...]
    content_hash: str
    report: dict[str, str]
    wall_s: float
