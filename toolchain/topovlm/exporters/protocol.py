"""What an exporter is: it checks a request early, writes one folder, and returns a record of what lies there.

A record is stored and read back (`records.Part`): the report's artefacts, checks and limits come from it, so
nothing outside of this room knows the exporters by name. See docs/adding-an-exporter.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, get_args

import msgspec

from topovlm.artifacts import files_under, sha256_file
from topovlm.records import Part
from topovlm.workload import Workload

if TYPE_CHECKING:
    from torch import nn

    from topovlm.console import Progress
    from topovlm.predict.target import ResolvedTarget

RECORD_SCHEMA = 1
Model = Literal["dense", "slim"]
Dtype = Literal["fp32", "fp16", "int8", "int4"]
DTYPES: tuple[Dtype, ...] = get_args(Dtype)
VARIANTS = ("plain", "fused")


@dataclass(frozen=True)
class ExportRequest:
    """What to export and for whom.

    `model` says which of the run's models lies in `model_dir`; `target` is None where no board was named.
    `dtype` is the precision asked for: an exporter that writes another one says so in its record. `live` is
    the torch model of `model_dir` if the caller has it in memory (on the CPU, evaluation mode); it is given
    back as it was. `processor`: that of `model_dir`, likewise.
    """

    model_dir: Path
    model: Model = "dense"
    target: ResolvedTarget | None = None
    workload: Workload = field(default_factory=Workload)
    dtype: Dtype = "fp32"
    variants: tuple[str, ...] = VARIANTS
    live: nn.Module | None = None
    processor: object | None = None


@dataclass(frozen=True)
class Tool:
    """A Python package that an exporter can use and that topovlm does not bring along."""

    package: str  # import name
    use: str
    remedy: str


class ExportedFile(Part, frozen=True, kw_only=True):
    """One file of the exported folder."""

    path: str
    size_bytes: int
    sha256: str


class ParityResult(Part, frozen=True, kw_only=True):
    """One decoder graph on one prompt against torch (measured on this machine's CPU).

    `compared_tokens`: the last so many of the prompt, whose logits were compared. `tolerance` is relative to
    `max_logit`, the largest |logit| of torch (at least 1). The controls are None where none were run: in the
    batch check, and for prompts without pictures.
    """

    graph: str
    prompt: str
    prompt_tokens: int
    compared_tokens: int
    decode_steps: int
    max_logit_error: float
    max_logit: float
    tolerance: float
    near_ties: int
    control_position_error: float | None
    control_mask_error: float | None
    control_picture_error: float | None = None

    @property
    def limit(self) -> float:
        """Largest |logit difference| allowed."""
        return self.tolerance * self.max_logit


class Check(Part, frozen=True, kw_only=True):
    """One number that was measured, and the bound it has to keep: a check passes by its figures alone.

    `rule`: "at most" for errors; "more than" for negative controls, which must break the limit.
    """

    name: str
    value: float
    limit: float
    rule: Literal["at most", "more than", "equal to"] = "at most"
    detail: str = ""

    @property
    def passed(self) -> bool:
        """Whether `value` `rule` `limit`; what is no finite number has shown nothing."""
        outcomes = {
            "at most": self.value <= self.limit,
            "more than": self.value > self.limit,
            "equal to": self.value == self.limit,
        }
        return math.isfinite(self.value) and outcomes[self.rule]


class Artifact(Part, frozen=True, kw_only=True):
    """One result for the user: `path` relative to the exported folder ("." is the folder itself).

    `format` names its kind, `title` says it in words. `reproducible`: the same inputs give the same bytes.
    `checked`: what lies here was run here; False where the checks are of what it was made from.
    """

    path: str
    format: str
    title: str = ""
    loads_in: tuple[str, ...] = ()
    reproducible: bool = False
    checked: bool = True


class ExportRecord(Part, frozen=True, kw_only=True):
    """What an exporter wrote and how far it was checked.

    `dtype` is the precision of the weights that were written. `limits`: sentences about what no check here
    shows. `facts`: what else is worth reading, plain values by name.
    """

    exporter: str
    model: Model
    dtype: str
    variants: tuple[str, ...] = ()
    files: tuple[ExportedFile, ...] = ()
    parity: tuple[ParityResult, ...] = ()
    artifacts: tuple[Artifact, ...] = ()
    checks: tuple[Check, ...] = ()
    limits: tuple[str, ...] = ()
    facts: dict[str, str | int | float] = msgspec.field(default_factory=dict)


class Exporter(Protocol):
    """One kind of result. Implementations are stateless: a module and an entry point are all it takes."""

    @property
    def name(self) -> str:
        """What --format calls it; also the name of its folder in the run directory."""

    @property
    def dtypes(self) -> tuple[Dtype, ...]:
        """Precisions that it writes."""

    @property
    def tools(self) -> tuple[Tool, ...]:
        """Packages beyond topovlm's own that `topovlm doctor` should look for."""

    def check(self, request: ExportRequest) -> None:
        """Refuse, before anything runs, what `export` would refuse.

        `model_dir` holds the dense model then, whichever will be exported. Raises `InputError`, or
        `MissingToolError` naming what to install.
        """

    def export(self, request: ExportRequest, out_dir: Path, progress: Progress) -> ExportRecord:
        """Write `out_dir` whole or not at all.

        Raises `VerificationError` where the result would be wrong, and what `check` raises.
        """


def listing(folder: Path) -> tuple[ExportedFile, ...]:
    """Every file of a folder with its size and digest, in a stable order."""
    return tuple(
        ExportedFile(
            path=path.relative_to(folder).as_posix(), size_bytes=path.stat().st_size, sha256=sha256_file(path)
        )
        for path in files_under(folder)
    )
