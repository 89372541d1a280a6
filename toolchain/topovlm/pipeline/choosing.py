"""Which layers go: score them on calibration samples, let the judge repair the proposal, cut, verify."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import structs

from topovlm.artifacts import write_bytes
from topovlm.choose.clouds import STREAM, check_token, clouds_of
from topovlm.choose.parting import fitting_part, kept_back
from topovlm.choose.record import Scores, Selection
from topovlm.choose.scorers import SCORERS, Settings, find_scorer, scorers_for
from topovlm.console import Progress
from topovlm.errors import InputError, explain
from topovlm.evaluation.task import answer_tokens
from topovlm.pipeline.clouds import cloud_of
from topovlm.pipeline.collecting import collected, travelling
from topovlm.pipeline.final_names import called
from topovlm.pipeline.healing import confirming_samples, heal_model, heals
from topovlm.pipeline.record import Pruned
from topovlm.pipeline.stages import MODEL, PRUNE, SCORE, SCORES, SELECT, SELECTION, STATES
from topovlm.records import write

if TYPE_CHECKING:
    import torch

    from topovlm.choose.judging import Finals
    from topovlm.choose.record import JudgeRecord, RepairRecord, ScoreResult
    from topovlm.choose.repair.patch import Cut
    from topovlm.choose.repair.patches import Patches
    from topovlm.choose.search import KlJudge
    from topovlm.pipeline.context import Context
    from topovlm.pipeline.rundir import Record
    from topovlm.samples import Sample

BY_HAND = "by hand"
# Cuts of each are repaired: minutes of a large model, and its new weights are held until the race is over.
_FINALISTS, _FINALISTS_OF_LARGE, _LARGE_PARAMETERS = 8, 2, 1_000_000_000


def check_inputs(context: Context) -> None:
    """Refuse, before anything runs, layers and scorers that do not exist, and samples that are broken.

    And those that the model cannot be asked (`checkpoint.asking`), whatever they are for.
    """
    from topovlm.checkpoint.asking import check_samples
    from topovlm.pipeline.question import check_removable

    check_removable(context.config, context.source.checkpoint.facts)
    find_scorer(context.config.scorer)
    for name in scorers_for((context.config.scorer,)):  # plug-ins too
        find_scorer(name).ready()
    family, data = context.source.checkpoint.family, context.data
    if not data.is_own:
        if family.text_only:
            rule = "is missing: the shipped questions are about pictures, and this model takes none"
            raise InputError(explain("--data", None, rule, "Give questions in words"))
        return
    data.check()
    check_token(cloud_of(context.config).token, data.calibration())
    asked = (*data.calibration(), *data.judging(), *data.confirming(), *data.held_out())
    longest = answer_tokens(data.task, context.constants.answer_tokens)
    check_samples(context.dense.processor, context.source.checkpoint.facts, asked, longest)


def score(context: Context) -> Record[Scores]:
    """scores.json: every layer's score by every scorer, on the same hidden states."""

    def make(work: Path, progress: Progress) -> Scores:
        import numpy as np

        from topovlm.choose.loops import barcode_with_loops
        from topovlm.choose.scoring import count_bars, score_all

        config, samples, asked = context.config, context.data.calibration(), (context.config.scorer,)
        found = collected(context, samples, asked, progress)
        cloud = cloud_of(config)
        points = clouds_of(found.states, cloud.stream, cloud.token)
        k, barcode = barcode_with_loops(points, cloud.neighbours)
        settings = Settings(
            k=k,
            seed=config.seed,
            barcode=barcode,
            points=points,
            bypassed=found.bypassed,
            sensitivity=found.sensitivity,
            elimination=found.elimination,
        )
        scores = Scores(
            scorer=config.scorer,
            k=k,
            cloud=cloud.stream,
            token=cloud.token,
            samples=len(samples),
            sample_source=context.data.source,
            scorers=score_all(found.states[STREAM], settings, asked),
            barcode=count_bars(barcode),
        )
        held = BytesIO()  # into a file numpy says of a full disk only how much it has written
        np.save(held, found.states[STREAM])
        write_bytes(work / STATES, held.getvalue())
        write(work / SCORES, scores)
        return scores

    scored = context.run.stage(SCORE, SCORE.key(context, scorers=SCORERS.origins()), make)
    note = scored.value.scorers[context.config.scorer].extra.get("note")
    if note:
        context.run.display.note(str(note))
    return scored


def select(context: Context, keep: int, scored: Record[Scores]) -> Record[Selection]:
    """selection.json: the layers that go so that `keep` stay, and what every scorer proposed."""
    layers, guarded = context.source.layers, context.source.checkpoint.facts.protected_layers()

    def make(work: Path, progress: Progress) -> Selection:
        from topovlm.choose.scoring import propose

        config = context.config
        ranked = _ranked(context, layers - keep, guarded, scored.value)
        proposals = propose(ranked, layers - keep, guarded)
        judged = None
        if config.drop is not None:
            dropped = config.drop
        elif not find_scorer(config.scorer).judged:
            dropped = proposals[config.scorer]
        else:
            judged = _judge(context, proposals, guarded, progress)
            dropped = judged.dropped
        selection = Selection(
            scorer=BY_HAND if config.drop is not None else config.scorer,
            dropped=dropped,
            kept=tuple(layer for layer in range(layers) if layer not in dropped),
            protected=tuple(sorted(guarded)),
            proposals=proposals,
            scorers=ranked,
            judge=judged,
        )
        write(work / SELECTION, selection)
        return selection

    return context.run.stage(SELECT, SELECT.key(context, keep=keep, scores=scored.digest), make)


def _ranked(context: Context, drop_count: int, guarded: set[int], scores: Scores) -> dict[str, ScoreResult]:
    """Each scorer's scores for as many layers to drop; empty when layers are named by hand."""
    import numpy as np

    from topovlm.choose.scoring import score_for

    if context.config.drop is not None:
        return {}
    settings = Settings(seed=context.config.seed, drop_count=drop_count, protected=frozenset(guarded))
    return score_for(np.load(context.run.root / STATES), scores, settings)


def _judge(
    context: Context, proposals: dict[str, tuple[int, ...]], guarded: set[int], progress: Progress
) -> JudgeRecord:
    from topovlm.choose.judging import judge_proposals

    patches = _patches_of_all(context, len(next(iter(proposals.values()))))
    return judge_proposals(
        _judge_of(context, patches),
        context.source.layers,
        context.data.judging(),
        proposals,
        guarded,
        start=context.config.scorer,
        budget=context.config.judgements,
        finalists=finalists_of(context),
        finals=lambda contenders: _finals(context, patches, contenders),
        seed=context.config.seed,
        patched=bool(patches.weights),
        shares_samples=context.data.judge_shares_samples,
        progress=progress,
    )


def patched_cuts(context: Context, drop_count: int) -> list[Cut]:
    """Every run of layers that a set of the search may leave out. None of a large model, where each would
    take minutes."""
    from topovlm.choose.repair.patches import cuts_up_to

    if not _repairing(context) or _is_large(context):
        return []
    protected = context.source.checkpoint.facts.protected_layers()
    return cuts_up_to(drop_count, context.source.layers, protected)


def _patches_of_all(context: Context, drop_count: int) -> Patches:
    from topovlm.choose.repair.patches import NO_PATCHES, fit_patches

    cuts = patched_cuts(context, drop_count)
    if not cuts:
        return NO_PATCHES
    samples, dtype = _quick_samples(context), _stored_dtype(context)
    if context.pool.here:
        return fit_patches(context.dense.live, cuts, samples, dtype)
    from topovlm.choose.judge_shards import patches_in_shards

    return patches_in_shards(context.pool, travelling(context), samples, cuts, dtype)


def _finals(context: Context, patches: Patches, contenders: Sequence[frozenset[int]]) -> Finals:
    """The best sets nearly as they would ship: with all of their cuts patched."""
    from topovlm.choose.judge import Judge
    from topovlm.choose.judging import Finals, ShippedJudge
    from topovlm.choose.repair.patches import cuts_of, fit_patches

    context.pool.release()  # from here on the model is used here
    live = context.dense.live
    missing = [cut for cut in cuts_of(contenders) if cut not in patches.tried]
    if missing and _repairing(context):
        patches = patches.and_these(
            fit_patches(live, missing, _quick_samples(context), _stored_dtype(context))
        )

    def judge_of(samples: Sequence[Sample]) -> ShippedJudge:
        return Judge(live, samples, patches=patches).of

    return Finals(judge_of, repaired=bool(patches.weights))


def _quick_samples(context: Context) -> Sequence[Sample]:
    return context.data.calibration()[: context.constants.quick_repair_samples]


def _stored_dtype(context: Context) -> torch.dtype:
    from topovlm.choose.repair.apply import stored_dtype

    return stored_dtype(context.source.checkpoint)


def finalists_of(context: Context) -> int:
    """How many sets run in the final race."""
    return context.config.finalists or (_FINALISTS_OF_LARGE if _is_large(context) else _FINALISTS)


def _is_large(context: Context) -> bool:
    return context.source.checkpoint.parameters > _LARGE_PARAMETERS


def repairs_all(context: Context) -> bool:
    """Whether the repair that ships is of all layers from the first cut on."""
    return context.config.repair == "all" or (context.config.repair == "auto" and not _is_large(context))


def _repairing(context: Context) -> bool:
    """Nothing of --data may be left that could say whether a repair helps."""
    judged = find_scorer(context.config.scorer).judged
    return context.config.repair != "off" and judged and not context.data.judge_shares_samples


def fitting_samples(context: Context) -> int:
    """How many samples the repair that ships is fitted on, where there are as many."""
    config, constants = context.config, context.constants
    if _is_large(context):
        return min(config.samples, constants.quick_repair_samples)
    judging = config.judge_samples
    return min(config.samples, constants.repair_samples) + judging - kept_back(judging)


def _fitting(context: Context) -> list[Sample]:
    """Those that scored, and of a model that is not large those that judged, too: the more answers are fitted
    to, the better are others (docs/method.md)."""
    if _is_large(context):
        return list(_quick_samples(context))
    judged, _ = fitting_part(context.data.judging(), context.config.seed)
    return [*context.data.calibration()[: context.constants.repair_samples], *judged]


def _judge_of(context: Context, patches: Patches) -> Callable[[Sequence[Sample]], KlJudge]:
    if context.pool.here:
        from topovlm.choose.judge import Judge

        live = context.dense.live
        return lambda samples: Judge(live, samples, patches=patches)
    from topovlm.choose.judge_shards import ShardedJudge
    from topovlm.choose.shards import prompt_lengths

    model, checkpoint = travelling(context), context.source.checkpoint

    def judge_of(samples: Sequence[Sample]) -> KlJudge:
        lengths = prompt_lengths(context.dense.processor, checkpoint, samples)
        return ShardedJudge(context.pool, model, checkpoint, samples, lengths, patches=patches)

    return judge_of


def prune(context: Context, selected: Record[Selection]) -> Record[Pruned]:
    """model/: the checkpoint without the dropped layers, verified against the dense model, repaired, healed.

    Repair and healing change weights that are there anyway, each only if it helps on samples of its own.
    """
    dropped = selected.value.dropped
    repairing = _repairing(context)
    key = PRUNE.key(context, dropped=dropped, repairing=repairing)

    def make(work: Path, progress: Progress) -> Pruned:
        from topovlm.checkpoint.surgery import prune_checkpoint
        from topovlm.checkpoint.verify import verify_checkpoint

        folder = work / MODEL
        surgery = prune_checkpoint(context.source.checkpoint, folder, dropped)
        with called(folder, context.run.root / MODEL):
            verified = verify_checkpoint(folder, dense=context.dense.exact, dropped=dropped)
        repair = _repair(context, folder, dropped, progress) if repairing else None
        heal = heal_model(context, folder, dropped, key, progress) if heals(context) else None
        if (repair and repair.kept) or (heal and heal.kept):
            with called(folder, context.run.root / MODEL):
                again = verify_checkpoint(folder)
            verified = structs.replace(again, dense_difference=verified.dense_difference)
        return Pruned(surgery=surgery, verified=verified, repair=repair, heal=heal)

    return context.run.stage(PRUNE, key, make)


def _repair(context: Context, folder: Path, dropped: Sequence[int], progress: Progress) -> RepairRecord:
    """In place, where it helps."""
    from topovlm.choose.repair.apply import repair_checkpoint
    from topovlm.choose.repair.fit import AT_CUTS, EVERYWHERE

    return repair_checkpoint(
        context.dense.live,
        folder,
        dropped,
        _fitting(context),
        confirming_samples(context),
        ways=EVERYWHERE if repairs_all(context) else AT_CUTS,
        seed=context.config.seed,
        progress=progress,
    )
