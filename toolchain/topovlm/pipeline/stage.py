"""What a stage is: its record, what it writes, and all that its result depends on.

A stage declares fields of the configuration, constants and facts (digests of what lies behind a field: the
model's files, the pictures of --data, the machine). Its key is derived from what it declares and from the
stages before it; nobody writes one by hand, and a test follows every read of the configuration during a
deployment back to a declaration.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from topovlm.records import plain

if TYPE_CHECKING:
    from topovlm.config import Config
    from topovlm.pipeline.constants import Constants

T = TypeVar("T")

# What lies behind fields of the configuration: a stage that names the fact depends on these fields.
FACTS: Mapping[str, frozenset[str]] = {
    "model": frozenset({"model"}),
    "family": frozenset({"model"}),
    "computing": frozenset({"model"}),
    "packages": frozenset(),
    "target": frozenset({"target", "mode", "device"}),
    "machine": frozenset({"device", "threads", "measure_time_ms", "seed"}),
    "choosing": frozenset({"task", "data", "seed", "samples", "judge_samples"}),
    "held_out": frozenset({"task", "data", "seed", "samples", "judge_samples", "eval_samples"}),
    "benched": frozenset({"bench", "bench_data", "limit", "seed"}),
    "planned": frozenset({"dtype", "target", "mode", "device"}),
    "exported": frozenset({"dtype"}),
    "workload": frozenset({"images", "frames", "image_size", "prompt_tokens", "new_tokens"}),
}
# Fields that change no stage's result, each with the reason.
IRRELEVANT: Mapping[str, str] = {
    "output": "where results are written",
    "format": "which exporters run; each has a stage of its own",
    "until": "which stages run",
    "max_drop": "what the measured accuracy is held against when all is done",
    "workers": "where shards run; each gives what it gives here",
    "memory_bytes": "how much is in memory at a time; what a large model computes in is a fact (computing)",
}


class Sources(Protocol):
    """What keys are made from."""

    @property
    def config(self) -> Config: ...

    @property
    def constants(self) -> Constants: ...

    def fact(self, name: str) -> object:
        """JSON-able: the digest (or the values) behind a name of `FACTS`."""


@dataclass(frozen=True)
class Stage(Generic[T]):
    """`value`: type of the record that later stages read; `outputs`: names in the run directory.

    `feeds()`: stages whose results were made from these outputs, and must not stand beside others (plug-ins
    among them, so it is asked and not stored); `lent`: whether another run directory's result with the same
    key may stand here: it took long, and nothing in it was timed.
    """

    name: str
    value: type[T]
    outputs: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    facts: tuple[str, ...] = ()
    constants: tuple[str, ...] = ()
    feeds: Callable[[], tuple[str, ...]] = field(default=tuple, compare=False)
    lent: bool = False

    @property
    def fields(self) -> frozenset[str]:
        """All fields of the configuration that the stage may read."""
        return frozenset(self.reads).union(*(FACTS[fact] for fact in self.facts))

    def key(self, sources: Sources, **before: object) -> dict[str, Any]:
        """JSON-able: all that the result depends on. `before`: digests of earlier stages and the like."""
        config = sources.config
        return {
            **{name: plain(getattr(config, name)) for name in self.reads},
            **{name: sources.fact(name) for name in self.facts},
            **{name: getattr(sources.constants, name) for name in self.constants},
            **{name: plain(value) for name, value in before.items()},
        }
