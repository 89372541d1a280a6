"""Healing the slim model of a run: whether, on which samples, and what it takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from topovlm.artifacts import digest_of
from topovlm.checkpoint.sizes import ITEM_BYTES, Sizes
from topovlm.choose.heal.around import beside
from topovlm.choose.heal.sizes import BYTES_PER_PARAMETER, step_bytes
from topovlm.choose.parting import fitting_part
from topovlm.config import UNTIL
from topovlm.console import Progress
from topovlm.errors import InputError, explain
from topovlm.units import spell_ms

if TYPE_CHECKING:
    from topovlm.choose.record import HealRecord
    from topovlm.pipeline.context import Context
    from topovlm.samples import Sample

_STATE = "healing.safetensors"


def heals(context: Context) -> bool:
    return context.config.heal_ms is not None


def refuse_healing(context: Context) -> None:
    """Raise `InputError` where nothing could say whether it helps."""
    config = context.config
    if config.heal_ms is None or UNTIL.index(config.until) < UNTIL.index("prune"):
        return
    if context.data.judge_shares_samples:
        rule = f"{context.data.source} is too small: no samples are left that could say whether it helps"
        remedy = "Give at least 64 samples, or leave it out"
        raise InputError(explain("--heal", spell_ms(config.heal_ms), rule, remedy))


def lessons_of(context: Context) -> tuple[list[Sample], list[Sample]]:
    """(samples that teach, those that say when to stop). The latter have judged sets of layers, but no
    weights were fitted to them: a repair knows its own by heart, and any step away seems a loss there."""
    others, held_out = fitting_part(context.data.judging(), context.config.seed)
    return [*context.data.calibration()[: context.constants.heal_samples], *others], held_out


def confirming_samples(context: Context) -> Sequence[Sample]:
    """Those that say whether a repair ships, and a healing."""
    return context.data.confirming()[: context.constants.confirm_samples]


def heal_model(
    context: Context, folder: Path, dropped: Sequence[int], key: Mapping[str, object], progress: Progress
) -> HealRecord:
    """In place, where it helps. One that was killed resumes; `key`: what the stage depends on."""
    from topovlm.choose.heal.apply import heal_checkpoint
    from topovlm.choose.heal.state import Kept

    assert context.config.heal_ms is not None
    teach, held_out = lessons_of(context)
    return heal_checkpoint(
        context.dense.live,
        folder,
        dropped,
        teach,
        held_out=held_out,
        confirm=confirming_samples(context),
        duration_s=context.config.heal_ms / 1e3,
        seed=context.config.seed,
        # Lies where results of a stage that is running are kept, and goes with them.
        kept=Kept(context.run.shards / _STATE, digest_of(key)),
        progress=progress,
    )


def trained_parameters(context: Context) -> int:
    """About: as if every other layer that goes left a cut of its own, where nobody has said which go."""
    config, checkpoint = context.config, context.source.checkpoint
    sizes, layers = Sizes.of(checkpoint), context.source.layers
    if config.drop is not None:
        learners = len(beside(config.drop, layers))
    else:
        gone = max(1, round((config.sparsity or 0) * layers))
        learners = min(2 * -(-gone // 2), layers - gone)
    return learners * sizes.largest_layer + sizes.looked_up  # a head of its own has as many as the words


def healing_bytes(context: Context, prompt_tokens: int) -> int:
    """Of the slim model whole, and of its training. Streams that are more than a gigabyte wait in a file."""
    checkpoint, computing = context.source.checkpoint, context.dense.computing
    sizes, decoder = Sizes.of(checkpoint), checkpoint.facts.shape.decoder
    gone = len(context.config.drop or ()) or max(1, round((context.config.sparsity or 0) * decoder.layers))
    kept = decoder.layers - gone
    slim = (sizes.around + sizes.layers * kept // decoder.layers) * ITEM_BYTES[computing]
    masters = 0 if computing == "float32" else ITEM_BYTES["float32"]
    step = step_bytes(prompt_tokens, kept, decoder.hidden, decoder.intermediate, decoder.vocab)
    return slim + (BYTES_PER_PARAMETER + masters) * trained_parameters(context) + step


def state_bytes(context: Context) -> int:
    """On the disk, while it trains: the last state and the next."""
    return 2 * BYTES_PER_PARAMETER * trained_parameters(context)
