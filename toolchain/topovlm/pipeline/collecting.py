"""What scoring asks of the model: here, or of workers, with the same bits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from topovlm.choose.clouds import States, readings_for
from topovlm.choose.scorers import Need, needed
from topovlm.console import Progress
from topovlm.pipeline.clouds import cloud_of

if TYPE_CHECKING:
    import numpy as np

    from topovlm.choose.shards import TorchModel
    from topovlm.pipeline.context import Context
    from topovlm.samples import Sample


@dataclass(frozen=True)
class Collected:
    """`states`: by reading, of all samples. The others where a scorer needs them, of some samples: see
    `scorers.Settings`."""

    states: States
    bypassed: np.ndarray | None
    sensitivity: np.ndarray | None
    elimination: np.ndarray | None


def collected(
    context: Context, samples: Sequence[Sample], asked: Sequence[str], progress: Progress
) -> Collected:
    """All that the scorers that run need, those `asked` for among them. Raises `InputError`."""
    return (_here if context.pool.here else _in_shards)(context, samples, needed(asked), progress)


def _here(
    context: Context, samples: Sequence[Sample], needs: frozenset[Need], progress: Progress
) -> Collected:
    from topovlm.choose.bypasses import collect_bypassed
    from topovlm.choose.calibration import collect
    from topovlm.choose.eliminations import collect_elimination
    from topovlm.choose.sensitivities import collect_sensitivity

    live, config, cloud = context.dense.live, context.config, cloud_of(context.config)
    few = samples[: context.constants.bypass_samples]
    fewer = samples[: context.constants.elimination_samples]
    return Collected(
        collect(live, samples, readings_for(cloud.stream, cloud.token), progress=progress),
        collect_bypassed(live, few, config.cloud, progress=progress) if "bypassed" in needs else None,
        collect_sensitivity(live, few, config.seed, progress=progress) if "sensitivity" in needs else None,
        collect_elimination(live, fewer, _guarded(context), progress=progress)
        if "elimination" in needs
        else None,
    )


def _in_shards(
    context: Context, samples: Sequence[Sample], needs: frozenset[Need], progress: Progress
) -> Collected:
    """The same, to the bit."""
    from topovlm.choose import judge_shards, shards

    config, given = context.config, (context.pool, travelling(context))
    cloud = cloud_of(config)
    readings, count = readings_for(cloud.stream, cloud.token), context.constants.bypass_samples
    lengths = shards.prompt_lengths(context.dense.processor, context.source.checkpoint, samples)
    few = (samples[:count], lengths[:count])
    checkpoint, count = context.source.checkpoint, context.constants.elimination_samples
    fewer = (samples[:count], lengths[:count])
    return Collected(
        shards.states_in_shards(*given, samples, lengths, readings, progress=progress),
        shards.bypassed_in_shards(*given, *few, config.cloud, progress=progress)
        if "bypassed" in needs
        else None,
        shards.sensitivity_in_shards(*given, *few, config.seed, progress=progress)
        if "sensitivity" in needs
        else None,
        judge_shards.elimination_in_shards(
            *given, checkpoint, *fewer, protected=_guarded(context), progress=progress
        )
        if "elimination" in needs
        else None,
    )


def _guarded(context: Context) -> set[int]:
    """Layers that never go: one that the rounds let go would spoil all that follow."""
    return context.source.checkpoint.facts.protected_layers()


def travelling(context: Context) -> TorchModel:
    """The dense model, as a worker finds it."""
    from topovlm.choose.shards import torch_model

    return torch_model(context.source.checkpoint, context.model_digest, context.dense.computing)
