"""The report's account of which layers went and why."""

from __future__ import annotations

from typing import Any

from topovlm import artifacts
from topovlm.pipeline.choosing import BY_HAND
from topovlm.pipeline.context import Context
from topovlm.report import document as doc

# Why a layer is among the first to go, by the scorer that proposed it.
_WHY = {
    "zigzag": "consistent with the other layers: the loops of its neighbour graph live on in most of them",
    "zigzag-seed": "consistent with far layers: components and loops of its neighbour graph live on in them",
    "block-influence": "it turns the residual stream least",
    "angular": "it lies in the run of blocks across which the residual stream turns least",
    "depth-prior": "it lies nearest to 70 % of the depth, where layers are missed least in general",
    "random": "drawn at random, as a control",
}


def selection_part(context: Context) -> doc.Selection:
    """From scores.json and selection.json."""
    root = context.run.root
    scores = artifacts.read_json(root / "scores.json")
    chosen = artifacts.read_json(root / "selection.json")
    scorer = context.config.scorer
    # Scores may depend on how many layers go: those that chose are beside the choice.
    results = chosen["scorers"] or scores["scorers"]
    values, order, extra = (results[scorer][key] for key in ("scores", "order", "extra"))
    judge = chosen["judge"]
    return doc.Selection(
        scorer=chosen["scorer"],
        scores=tuple(values),
        dropped=tuple(chosen["dropped"]),
        kept=tuple(chosen["kept"]),
        protected=tuple(chosen["protected"]),
        layers=tuple(
            _reason(layer, chosen, values[layer], order.index(layer) + 1) for layer in range(len(values))
        ),
        calibration_samples=scores["samples"],
        calibration_source=scores["sample_source"],
        parameters={
            "k": scores["k"],
            **{key: value for key, value in extra.items() if isinstance(value, (str, int, float, bool))},
        },
        other_sets=tuple(
            doc.ScorerSet(
                scorer=name,
                scores=tuple(results[name]["scores"]),
                dropped=tuple(dropped),
                judged=_compared(judge["proposals"][name]) if judge else None,
                note="the proposal" if name == (judge["start"] if judge else scorer) else "",
            )
            for name, dropped in chosen["proposals"].items()
        ),
        judge=_judge_part(judge) if judge else None,
        repair=_repair_part(context.run.records["prune"].value["repair"]),
        barcode=tuple(
            doc.Bars(dim=dim, birth=birth, death=death, count=count)
            for dim, birth, death, count in scores["barcode"]
        ),
    )


def _compared(proposal: dict[str, Any]) -> float:
    """KL on the samples that chose no swap where there are such, else on those that did."""
    confirmed: float | None = proposal["confirm_kl"]
    kl: float = proposal["kl"]
    return kl if confirmed is None else confirmed


def _reason(layer: int, chosen: dict[str, Any], score: float, rank: int) -> doc.LayerReason:
    judge = chosen["judge"]
    if layer in chosen["dropped"]:
        if chosen["scorer"] == BY_HAND:
            why = "named with --drop"
        elif judge and layer not in judge["proposal"]:
            why = "the judge put it in the place of a layer that was missed more"
        else:
            why = _WHY[judge["start"] if judge else chosen["scorer"]]
        decision = "dropped"
    elif layer in chosen["protected"]:
        decision, why = "protected", "the first and last layers of this family stay"
    else:
        decision = "kept"
        why = "the budget lets it stay"
        if judge and layer in judge["proposal"]:
            why = "proposed to go, but the judge missed it in the answers"
    return doc.LayerReason(layer=layer, decision=decision, score=score, rank=rank, why=why)  # type: ignore[arg-type]


def _judge_part(judge: dict[str, Any]) -> doc.Judge:
    swaps = tuple(f"{step['out']} stays, {step['into']} goes" for step in judge["steps"])
    text = f"{judge['evaluations']} sets of layers tried, starting from {judge['start']}"
    confirmed = judge["confirm_kl"] is not None
    if confirmed:
        text += (
            f"; swaps were chosen on {judge['samples']} other samples "
            f"({judge['proposal_kl']:.3g} before, {judge['kl']:.3g} after)"
        )
    if judge["shares_samples"]:
        text += "; all of these samples scored the layers too"
    return doc.Judge(
        name="KL of the answer tokens to the dense model's",
        unit="nats per token",
        proposal=judge["confirm_proposal_kl" if confirmed else "proposal_kl"],
        final=judge["confirm_kl" if confirmed else "kl"],
        swaps=swaps,
        samples=judge["confirm_samples" if confirmed else "samples"],
        text=text,
    )


def _repair_part(repair: dict[str, Any] | None) -> doc.Repair | None:
    if repair is None:
        return None
    done = [cut for cut in repair["cuts"] if cut["kept"]] if repair["kept"] else []
    places = ", ".join(f"layer {cut['anchor']} for {cut['first']}-{cut['last']}" for cut in done)
    text = f"folded into the MLP down-projection of {places}" if done else "no repair helped: none was kept"
    return doc.Repair(
        name="closed-form repair of the cuts",
        before=repair["kl_before"],
        after=repair["kl_after"],
        unit="nats per token, KL to the dense model's answers",
        text=f"{text}; decided on {repair['confirm_samples']} samples that chose nothing else",
    )
