"""The report's account of which layers went and why."""

from __future__ import annotations

from typing import Literal

from topovlm.choose.record import HealRecord, JudgeRecord, RepairRecord, Scores, Selection
from topovlm.pipeline.choosing import BY_HAND
from topovlm.pipeline.record import Pruned
from topovlm.report import document as doc


def selection_part(scorer: str, scores: Scores, chosen: Selection, pruned: Pruned) -> doc.Selection:
    """From what was scored, chosen, repaired and healed; `scorer` is the one that was asked for."""
    # Scores may depend on how many layers go: those that chose are beside the choice.
    results = chosen.scorers or scores.scorers
    own, judge = results[scorer], chosen.judge
    return doc.Selection(
        scorer=chosen.scorer,
        scores=own.scores,
        dropped=chosen.dropped,
        kept=chosen.kept,
        protected=chosen.protected,
        layers=tuple(
            reason(layer, chosen, own.scores[layer], own.order.index(layer) + 1)
            for layer in range(len(own.scores))
        ),
        calibration_samples=scores.samples,
        calibration_source=scores.sample_source,
        parameters={
            "k": scores.k,
            "cloud": scores.cloud,
            "token": scores.token,
            **own.extra,
            "paper": own.paper,
        },
        other_sets=tuple(
            doc.ScorerSet(
                scorer=name,
                scores=results[name].scores,
                dropped=dropped,
                judged=judge.search.proposals[name].kl if judge else None,
                note="the proposal" if name == (judge.search.start if judge else scorer) else "",
            )
            for name, dropped in chosen.proposals.items()
        ),
        judge=judge_part(judge) if judge else None,
        repair=_repair_part(pruned.repair),
        heal=heal_part(pruned.heal),
        barcode=tuple(
            doc.Bars(dim=row.dim, birth=row.birth, death=row.death, count=row.count) for row in scores.barcode
        ),
    )


def reason(layer: int, chosen: Selection, score: float, rank: int) -> doc.LayerReason:
    proposed = chosen.judge.search.proposal if chosen.judge else chosen.dropped
    decision: Literal["dropped", "kept", "protected"]
    if layer in chosen.dropped:
        decision = "dropped"
        if chosen.scorer == BY_HAND:
            why = "named with --drop"
        elif layer not in proposed:
            why = "the judge put it in the place of a layer that was missed more"
        else:
            why = chosen.scorers[chosen.judge.search.start if chosen.judge else chosen.scorer].why
    elif layer in chosen.protected:
        decision, why = "protected", "the first and last layers of this family stay"
    else:
        decision = "kept"
        why = "the budget lets it stay"
        if layer in proposed:
            why = "proposed to go, but the judge missed it in the answers"
    return doc.LayerReason(layer=layer, decision=decision, score=score, rank=rank, why=why)


def judge_part(judge: JudgeRecord) -> doc.Judge:
    found = judge.search
    won = judge.dropped == found.dropped
    swaps = tuple(f"{step.out} stays, {step.into} goes" for step in found.steps) if won else ()
    form = "tried with their cuts repaired" if judge.patched else "tried"
    text = f"{found.evaluations} sets of layers {form}"
    if found.judged < found.evaluations:
        text += f" on a part of the samples, {found.judged} of them on all"
    text += f", starting from {found.start}"
    if judge.finalists:
        text += f"; {_finals_text(judge)}"
    if judge.shares_samples:
        text += "; all of the search's samples scored the layers too"
    return doc.Judge(
        name="KL of the answer tokens to the dense model's",
        unit="nats per token",
        proposal=found.proposal_kl,
        final=next((one.kl for one in found.best if one.dropped == judge.dropped), found.kl),
        swaps=swaps,
        samples=judge.samples,
        text=text,
    )


def _finals_text(judge: JudgeRecord) -> str:
    """How the best sets of the search did where nothing had been chosen."""
    winner = next(one for one in judge.finalists if one.dropped == judge.dropped)
    form = "repaired at their cuts and judged" if winner.repaired else "judged"
    others = [one for one in judge.finalists if one is not winner]
    text = (
        f"the {len(judge.finalists)} best were {form} again on up to {winner.samples} other samples, where "
        f"the chosen one gives {winner.kl:.3g} nats and {100 * winner.same:.1f} % of the dense model's tokens"
    )
    if others:
        values = [one.kl for one in others]
        text += f", the others {min(values):.3g} to {max(values):.3g} nats"
    sure = judge.certainty
    if sure is None:
        return text
    return (
        f"{text}; {sure.chosen_again} of {sure.resamplings} resamplings of these samples choose it again, "
        f"{sure.as_good} that or one within {sure.as_good_points:g} points"
    )


def _repair_part(repair: RepairRecord | None) -> doc.Repair | None:
    if repair is None:
        return None
    done = [cut for cut in repair.cuts if cut.kept] if repair.kept else []
    places = [f"layer {cut.anchor} for {cut.first}-{cut.last}" for cut in done if cut.first <= cut.last]
    others = [str(cut.anchor) for cut in done if cut.first > cut.last]
    if others:
        places.append(f"layer{'s' * (len(others) > 1)} {', '.join(others)} for what was left over")
    text = (
        f"folded into the MLP down-projection of {', '.join(places)}"
        if done
        else "no repair helped: none was kept"
    )
    tried = f"{repair.caution:g} times the lambdas of least error (KL {repair.kl_after:.4g})"
    return doc.Repair(
        name="closed-form repair",
        before=repair.kl_before,
        after=repair.kl_after,
        unit="nats per token, KL to the dense model's answers",
        text=f"{text}; tried with {tried}, on {repair.confirm_samples} samples that chose nothing else",
    )


def heal_part(heal: HealRecord | None) -> doc.Repair | None:
    if heal is None:
        return None
    layers = ", ".join(map(str, heal.layers))
    learned = f"layers {layers}, norms and the head" if heal.head else f"layers {layers} and norms"
    end = "stopped early" if heal.stopped_early else "to the end of the time"
    return doc.Repair(
        name=f"{heal.seconds:.0f} s of training what lies beside the cuts ({heal.dtype} on {heal.device})",
        before=heal.kl_before,
        after=heal.kl_after if heal.kept else heal.kl_before,
        unit="nats per token, KL to the dense model's answers",
        text=(
            f"{learned} ({heal.parameters} numbers) in {heal.steps} steps over {heal.tokens} tokens of "
            f"{heal.teach_samples} samples, {end}; on {heal.held_out_samples} others "
            f"{heal.held_out_before:.3g} nats before and {heal.held_out_best:.3g} at step {heal.best_step}, "
            f"whose weights {'are used' if heal.kept else 'did not help, and are not used'}; "
            f"{100 * heal.same_before:.1f} % of the dense model's tokens before, "
            f"{100 * heal.same_after:.1f} % after, on {heal.confirm_samples} samples that chose nothing else"
        ),
    )
