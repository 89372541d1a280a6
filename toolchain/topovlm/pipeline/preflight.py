"""What every stage takes here, before the first begins: memory and disk from sizes, time from two layers.

Predictions, on the safe side: what is refused could not have worked. The bounds of what streams and caches
take are those of the stages themselves.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from topovlm import exporters
from topovlm.checkpoint.sizes import ITEM_BYTES, Sizes
from topovlm.choose.choices import KINDS, MULTI
from topovlm.choose.clouds import readings_for
from topovlm.choose.repair.strengths import LAMBDAS, PASSED_BYTES
from topovlm.choose.scorers import needed
from topovlm.choose.sensitivities import BATCH as SLOPES_BATCH
from topovlm.config import LAST, UNTIL, Config
from topovlm.errors import InputError, explain
from topovlm.machine.host import free_memory_bytes
from topovlm.pipeline.choosing import fitting_samples, patched_cuts
from topovlm.pipeline.clouds import cloud_of
from topovlm.pipeline.healing import healing_bytes, heals, state_bytes
from topovlm.pipeline.question import workload_of
from topovlm.units import format_bytes

if TYPE_CHECKING:
    from topovlm.checkpoint.files import Checkpoint
    from topovlm.pipeline.context import Context

_LIBRARIES_BYTES = 700 << 20  # torch, transformers, ONNX Runtime and what they allocate to begin with
_STREAMS_BYTES = 1 << 30  # bound of `calibration.collect_states`, and of either of the judge's
_EXPORTED_ITEM_BYTES = {"fp32": 4, "fp16": 2}
_PATCHES_BYTES = 1 << 30  # of the search, that are not in a file


@dataclass(frozen=True)
class Need:
    """What a stage takes beyond what runs already; `remedy`: what would do without it."""

    stage: str
    memory_bytes: int
    disk_bytes: int
    remedy: str


def stages_until(config: Config) -> tuple[str, ...]:
    """Those of `config.UNTIL` that run."""
    return UNTIL[: UNTIL.index(config.until) + 1]


def refuse_too_little(context: Context) -> None:
    """Raise `InputError` where a stage cannot have the memory, or the run the disk, that it will need."""
    free = free_memory_bytes()
    asked = needs(context, free)
    for need in asked:
        if free is not None and need.memory_bytes > free:
            rule = (
                f"is too little for the stage {need.stage}: it takes {format_bytes(need.memory_bytes)} "
                f"(predicted), {format_bytes(free)} are free"
            )
            field = "memory" if context.config.memory_bytes is None else "--memory"
            raise InputError(explain(field, format_bytes(free), rule, need.remedy))
    refuse_full_disk(context.config.output, sum(need.disk_bytes for need in asked))


def refuse_full_disk(output: Path, needed_bytes: int) -> None:
    """Raise `InputError` where so much does not fit behind a path. What is there already will be replaced."""
    place = next(path for path in (output, *output.absolute().parents) if path.is_dir())
    held = sum(path.lstat().st_size for path in output.rglob("*")) if output.is_dir() else 0
    free = shutil.disk_usage(place).free + held
    if needed_bytes > free:
        rule = f"will take {format_bytes(needed_bytes)} (predicted), {format_bytes(free)} are free there"
        remedy = "Choose a place on another disk with -o, or fewer formats"
        raise InputError(explain("--output", str(output), rule, remedy))


def refuse_export(checkpoint: Checkpoint, dtype: str, output: Path) -> None:
    """The same of an export by itself. Graphs are quantised whole, from fp32 ones."""
    sizes, free = Sizes.of(checkpoint), free_memory_bytes()
    item = _EXPORTED_ITEM_BYTES.get(dtype, ITEM_BYTES["float32"])
    whole = _LIBRARIES_BYTES + 2 * item * sizes.parameters
    if dtype not in _EXPORTED_ITEM_BYTES and free is not None and whole > free:
        rule = f"quantises a whole graph: {format_bytes(whole)} (predicted), {format_bytes(free)} are free"
        remedy = "--dtype fp32 and fp16 are written and checked layer by layer"
        raise InputError(explain("--dtype", dtype, rule, remedy))
    refuse_full_disk(output, item * (2 * sizes.layers + sizes.around))


def needs(context: Context, free_bytes: int | None) -> tuple[Need, ...]:
    """Of the stages that this configuration runs, in their order."""
    wanted = stages_until(context.config)
    return tuple(need for need in _all_needs(context, free_bytes) if need.stage in wanted)


def _all_needs(context: Context, free: int | None) -> Iterator[Need]:
    config, checkpoint = context.config, context.source.checkpoint
    sizes, computing = Sizes.of(checkpoint), context.dense.computing
    most = "Use a machine with more memory"
    vector = _width(context) * ITEM_BYTES[computing]
    streams = min(_STREAMS_BYTES, config.samples * _prompt_tokens(context) * vector)
    working = _LIBRARIES_BYTES + sizes.loaded_bytes(computing, free)
    exact = _LIBRARIES_BYTES + sizes.loaded_bytes("float32", free)
    asking = max(2 * streams, _rounds_bytes(context)) + _slopes_bytes(context)
    yield Need("score", working + asking + _states_bytes(context), 0, most)
    patching = _patches_bytes(context) if config.repair != "off" and config.drop is None else 0
    yield Need("select", working + 2 * streams + patching, 0, most)
    # Equations are solved while no part of the model but a layer is in memory.
    solving = _LIBRARIES_BYTES + streams + _repair_bytes(context) if config.repair != "off" else 0
    written = checkpoint.weight_bytes
    less = f"{most}, or --repair off" if exact < solving else most
    healing, state = 0, 0
    if heals(context):
        healing = working + 2 * streams + healing_bytes(context, _prompt_tokens(context))
        state = state_bytes(context)
        less = f"{most}, or leave --heal out" if max(exact, solving) < healing else less
    # A repaired file is written beside the one that it replaces.
    disk = written + _largest_file(context) + state
    yield Need("prune", max(exact, working, solving, healing), disk, less)
    graphs = _EXPORTED_ITEM_BYTES.get(context.precision.exported, 4)
    folders = 2 + len(set(config.format) - {exporters.MEASURED})  # dense and slim, and what others write
    # Graphs are made beside the model that they are compared with.
    beside = _LIBRARIES_BYTES + sizes.loaded_bytes("float32", free, copies=2)
    yield Need("export", beside, folders * graphs * (2 * sizes.layers + sizes.around), most)
    # ONNX Runtime computes on the processor in float32, whatever the graphs hold.
    whole = _LIBRARIES_BYTES + ITEM_BYTES["float32"] * sizes.parameters
    before = "`--until prune` stops before graphs are timed and asked; or use a machine with more memory"
    yield Need(LAST, whole, 0, before)


def _states_bytes(context: Context) -> int:
    """Of every layer's vectors in float32, as they are collected, and the clouds that are made of them."""
    config, layers = context.config, context.source.layers
    cloud = cloud_of(config)
    kinds = len(readings_for(cloud.stream, cloud.token)) + (len(KINDS) if cloud.token == MULTI else 0)
    return ITEM_BYTES["float32"] * kinds * layers * config.samples * _width(context)


def _slopes_bytes(context: Context) -> int:
    """Of what enters every layer, for a scorer that goes backwards through them."""
    if "sensitivity" not in needed((context.config.scorer,)):
        return 0
    vector = _width(context) * ITEM_BYTES[context.dense.computing]
    return (context.source.layers + 1) * SLOPES_BATCH * _prompt_tokens(context) * vector


def _rounds_bytes(context: Context) -> int:
    """Of the judge's streams, kept and of a round's sets, for a scorer that eliminates layers one by one."""
    if "elimination" not in needed((context.config.scorer,)):
        return 0
    vector = _width(context) * ITEM_BYTES[context.dense.computing]
    samples = min(context.config.samples, context.constants.elimination_samples)
    return 2 * min(_STREAMS_BYTES, context.source.layers * samples * _prompt_tokens(context) * vector)


def _repair_bytes(context: Context) -> int:
    """Normal equations in float64 and the repairs of one cut that are tried, and what they are fitted to."""
    decoder = context.source.checkpoint.facts.shape.decoder
    inner, outer = decoder.intermediate, decoder.hidden
    return (
        min(PASSED_BYTES, passed_bytes(context))
        + 8 * (2 * inner**2 + 4 * inner * outer)
        + 2 * len(LAMBDAS) * inner * outer
    )


def passed_bytes(context: Context) -> int:
    """Of what the samples that fit show at one layer: the stream, and what the down-projection reads."""
    decoder = context.source.checkpoint.facts.shape.decoder
    tokens = fitting_samples(context) * _prompt_tokens(context)
    return ITEM_BYTES[context.dense.computing] * tokens * (decoder.intermediate + decoder.hidden)


def _patches_bytes(context: Context) -> int:
    """Of the search: normal equations of one layer's cuts, and the patches that are in memory."""
    cuts = patched_cuts(context, context.source.layers)
    if not cuts:
        return 0
    decoder = context.source.checkpoint.facts.shape.decoder
    inner, outer = decoder.intermediate, decoder.hidden
    lengths = max(cut.last - cut.first + 1 for cut in cuts)
    solving = 8 * (2 * inner**2 + (lengths + 4) * inner * outer)
    return solving + min(_PATCHES_BYTES, ITEM_BYTES["float32"] * len(cuts) * inner * outer)


def _largest_file(context: Context) -> int:
    found: Counter[Path] = Counter()
    for entry in context.source.checkpoint.tensors.values():
        found[entry.file] += entry.size_bytes
    return max(found.values())


def _prompt_tokens(context: Context) -> int:
    """Of the workload's prompt, which stands for those that choose."""
    facts = context.source.checkpoint.facts
    workload = workload_of(context.config, facts)
    return facts.visual_tokens(workload) + workload.prompt_tokens


def _width(context: Context) -> int:
    return context.source.checkpoint.facts.shape.decoder.hidden
