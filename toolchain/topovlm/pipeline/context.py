"""What every stage of one run shares: configuration, model, target, samples, run directory; their facts."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from topovlm import artifacts
from topovlm.config import Config
from topovlm.pipeline.constants import CONSTANTS, Constants
from topovlm.pipeline.data import Data
from topovlm.pipeline.model import DenseModel
from topovlm.pipeline.precision import Precision, measured_on_target, planned_dtype, precision
from topovlm.pipeline.rundir import RunDir
from topovlm.pipeline.sources import Source
from topovlm.pipeline.target import DeviceIdentity
from topovlm.records import plain
from topovlm.version import __version__
from topovlm.workers.pool import HERE, Pool

if TYPE_CHECKING:
    from topovlm.measure.protocol import Device
    from topovlm.pipeline.benches import Bench
    from topovlm.predict.target import ResolvedTarget
    from topovlm.samples import Sample

_NOT_STOCK = (
    "no class of transformers loads this model: a slim one has the layout of its source, "
    "for its own project's code and for topovlm"
)


@dataclass(frozen=True)
class Context:
    """The inputs of one run, fixed before its first stage. `identity`: of what --device leads to; `pool`:
    where shards run."""

    config: Config
    source: Source
    target: ResolvedTarget
    run: RunDir
    identity: DeviceIdentity | None = None
    constants: Constants = CONSTANTS
    pool: Pool = HERE

    @functools.cached_property
    def data(self) -> Data:
        return Data(self.config)

    @functools.cached_property
    def benches(self) -> tuple[Bench, ...]:
        """Public benchmarks that dense and slim are asked: the questions that fit the model."""
        from topovlm.checkpoint.asking import check_samples
        from topovlm.pipeline.benches import askable, open_benches

        def check(sample: Sample, tokens: int) -> None:
            check_samples(self.dense.processor, self.source.checkpoint.facts, [sample], tokens)

        return askable(open_benches(self.config), check)

    @property
    def dense(self) -> DenseModel:
        """The source's: one, whatever else of the run is settled later."""
        return self.source.dense

    @functools.cached_property
    def precision(self) -> Precision:
        """Raises `InputError` for a format that no graph is written in."""
        return precision(self.config, self.target)

    @property
    def on_target(self) -> bool:
        """Whether latency is measured on the target itself: then the budget is judged on it."""
        return measured_on_target(self.config, self.target)

    @property
    def where(self) -> str:
        """The machine that latency is measured on, for people."""
        return "this machine" if self.identity is None else f"{self.target.board.name} over ssh"

    def device(self) -> Device:
        """The machine that latency is measured on; use it as a context manager."""
        from topovlm.measure.devices import open_device

        return open_device(self.config.device, say=self.run.display.note)

    @functools.cached_property
    def model_digest(self) -> str:
        from topovlm.checkpoint.files import content_hash

        return content_hash(self.source.folder)

    @functools.cached_property
    def family(self) -> dict[str, str]:
        """Plug-ins that say what this model is, with their versions; none for families of ours."""
        from topovlm.families.catalogue import origins_of

        return origins_of(self.source.checkpoint.facts.config)

    @property
    def notes(self) -> list[str]:
        """What the user should know before the run begins."""
        own = [_NOT_STOCK] if self.source.checkpoint.family.native else []
        return [*own, *self.data.notes, *([self.precision.why] if self.precision.why else [])]

    def fact(self, name: str) -> object:
        """JSON-able: what lies behind a name of `stage.FACTS`."""
        return _FACTS[name](self)


def target_fact(target: ResolvedTarget) -> dict[str, str]:
    """Name and content: a user's own target file may change under the same name."""
    return {"key": target.key, "board": artifacts.digest_of(plain(target.board))}


def _machine_fact(context: Context) -> dict[str, Any]:
    """The machine that times something, and how long it does."""
    from topovlm.machine.environment import cpu_name
    from topovlm.machine.host import usable_cores
    from topovlm.measure.devices import DEVICES, kind_of

    config = context.config
    machine: dict[str, Any] = {"cpu": cpu_name(), "cores": usable_cores()}
    if context.identity is not None:
        origin = DEVICES.origin(kind_of(config.device))
        machine = {"device": config.device, "kind": origin, "identity": plain(context.identity)}
    return {
        **machine,
        "threads": config.threads,
        "measure_time_ms": config.measure_time_ms,
        "seed": config.seed,
    }


def _workload_fact(context: Context) -> dict[str, object]:
    config = context.config
    return {
        "images": config.images,
        **({"frames": config.frames} if config.frames else {}),  # older runs know of none
        "image_size": config.image_size,
        "prompt_tokens": config.prompt_tokens,
        "new_tokens": config.new_tokens,
    }


@functools.cache
def numeric_versions() -> dict[str, str]:
    """Versions of the packages that decide the numbers; read without importing them."""
    from topovlm.machine.environment import NUMERIC_PACKAGES, versions

    return versions(NUMERIC_PACKAGES)


_FACTS: Mapping[str, Callable[[Context], object]] = {
    "model": lambda context: {"files": context.model_digest, "family": context.family},
    "family": lambda context: context.family,
    "computing": lambda context: context.dense.computing,
    "packages": lambda _: {"topovlm": __version__, **numeric_versions()},
    "target": lambda context: target_fact(context.target),
    "machine": _machine_fact,
    "choosing": lambda context: context.data.choosing_fact,
    "held_out": lambda context: context.data.held_out_fact,
    "benched": lambda context: {bench.task.name: bench.digest for bench in context.benches},
    "planned": lambda context: planned_dtype(context.config, context.target),
    "exported": lambda context: context.precision.exported,
    "workload": _workload_fact,
}
