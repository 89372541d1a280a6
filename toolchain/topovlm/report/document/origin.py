"""How the report came about: the run, its machine, and where model and data come from."""

from __future__ import annotations

from typing import Annotated

import msgspec

from topovlm.records import Strict
from topovlm.report.document.figures import VOLATILE, Amount, Count

Setting = str | int | float | bool | list[str | int | float] | dict[str, float | None] | None


class Stage(Strict, frozen=True, kw_only=True):
    """Wall time of one stage; `cached` when a resumed run reused it."""

    name: str
    seconds: Amount
    cached: bool = False


class Run(Strict, frozen=True, kw_only=True):
    """How this report came about."""

    seed: int
    argv: Annotated[tuple[str, ...], VOLATILE] = ()
    created: Annotated[str, VOLATILE] = ""  # ISO 8601, UTC
    config: Annotated[dict[str, Setting], VOLATILE] = msgspec.field(default_factory=dict)
    stages: Annotated[tuple[Stage, ...], VOLATILE] = ()


class Environment(Strict, frozen=True, kw_only=True):
    """The machine and the versions behind the measurements."""

    machine: str
    cpu: str
    cores: Count
    memory_bytes: Count
    system: str
    python: str
    threads: Count
    versions: dict[str, str] = msgspec.field(default_factory=dict)
    providers: tuple[str, ...] = ()
    accelerator: str = ""


class Provenance(Strict, frozen=True, kw_only=True):
    """Where the model and the data come from and under which terms."""

    model_source: str
    model_licence: str
    data_source: str
    data_licence: str = ""
    target_sources: tuple[str, ...] = ()
    citations: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()  # what this report does not show
