"""How long every stage will take on this machine, from what one sample costs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from topovlm.choose.costs import Costs
from topovlm.choose.eliminations import rounds_of
from topovlm.choose.judging import search_samples
from topovlm.choose.repair.strengths import LAMBDAS, PASSED_BYTES
from topovlm.choose.scorers import needed
from topovlm.machine.host import free_memory_bytes
from topovlm.pipeline.choosing import finalists_of, fitting_samples, patched_cuts, repairs_all
from topovlm.pipeline.preflight import needs, passed_bytes, stages_until
from topovlm.units import format_bytes

if TYPE_CHECKING:
    from topovlm.pipeline.context import Context

_BATCH = 8  # of the judge
_ANSWER_TOKENS = 32  # the longest that is judged
_VERIFIED, _VERIFIED_STEPS = 14, 32  # prompts through the model, and steps of cached generation
# Prompts through the model when one form of exported graphs is checked: references, controls, a batch.
_CHECKED = 19
_STRENGTHS = len(LAMBDAS) + 1  # of each cut of a repair: and the one that caution asks for
_WORTH_A_TABLE_S = 600
_MINUTE_S, _MINUTES_SHOWN = 60, 100
_SHORT_ANSWER = 8  # tokens of an answer to a held-out question


def expectations(context: Context, keep: int) -> Iterator[str]:
    """For people: each stage that runs, how long it will take, and what it will hold."""
    from topovlm.choose.costs import measure_costs

    sample = context.data.calibration()[0]
    costs = exact = measure_costs(context.dense.live, sample)
    if context.dense.computing != "float32":
        exact = measure_costs(context.dense.exact, sample)
    seconds = stage_seconds(context, costs, exact, keep)
    held = {need.stage: need for need in needs(context, free_memory_bytes())}
    total = sum(seconds.values())
    most = max(need.memory_bytes for need in held.values())
    disk = sum(need.disk_bytes for need in held.values())
    yield (
        f"expected here: up to {spell_time(total)}, {format_bytes(most)} of memory, {format_bytes(disk)} of "
        "disk (predicted, from two layers measured on this machine)"
    )
    if total > _WORTH_A_TABLE_S:
        for stage, taken_s in seconds.items():
            yield f"  {stage:<8} {spell_time(taken_s)}, {format_bytes(held[stage].memory_bytes)} of memory"
        if seconds.get("select", 0.0) > total / 2:
            yield "  fewer --judgements and --judge-samples make the choice of layers shorter, and coarser"


def spell_time(seconds: float) -> str:
    """For people: what is predicted has no more than two digits."""
    if seconds < _MINUTE_S:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / _MINUTE_S)
    return f"{minutes} min" if minutes < _MINUTES_SHOWN else f"{seconds / 3600:.2g} h"


@dataclass(frozen=True)
class Work:
    """Sums of what stages do: samples before the first layer, samples through a layer, steps of a layer."""

    before: float = 0.0
    layers: float = 0.0
    steps: float = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(self.before + other.before, self.layers + other.layers, self.steps + other.steps)

    def seconds(self, costs: Costs) -> float:
        return self.before * costs.before_s + self.layers * costs.layer_s + self.steps * costs.step_s


def stage_seconds(context: Context, costs: Costs, exact: Costs, keep: int) -> dict[str, float]:
    """Seconds by stage, of those that run: `costs` in what layers are chosen with, `exact` in float32."""
    found = _all_seconds(context, costs, exact, keep)
    return {name: found[name] for name in stages_until(context.config) if name in found}


def _all_seconds(context: Context, costs: Costs, exact: Costs, keep: int) -> dict[str, float]:
    config, constants = context.config, context.constants
    layers, drop = context.source.layers, context.source.layers - keep
    scoring = Work(config.samples, config.samples * layers) + _asking(context)
    searched = search_samples(config.judge_samples)
    raced = config.judge_samples - searched
    finals = finalists_of(context)
    rounds = max(1, (finals - 1).bit_length())
    # All run on a first lot, the better half on another as large as all before.
    judged = config.judgements * searched * keep + finals * rounds * raced / 2 ** (rounds - 1) * keep
    asked_of_dense = searched + raced
    selecting = _answers(asked_of_dense, layers) + Work(asked_of_dense, asked_of_dense * layers + judged)
    cuts = -(-drop // 2)
    quick = min(config.samples, constants.quick_repair_samples)
    runs = len(patched_cuts(context, drop))
    # Where no run of the search has a patch, the finalists' cuts are given theirs.
    anchors, patched = (layers, runs) if runs else (finals * cuts, finals * cuts)
    patching = _answers(quick, layers) + Work(quick, quick * (layers + anchors))
    patching_s = patching.seconds(costs) + _solving_s(context, exact, anchors, solutions=patched)
    fitted = fitting_samples(context)
    # From the first cut on about two thirds of what stays.
    once_s, ready_s = _repair_s(
        context, costs, exact, fitted, max(cuts, 2 * keep // 3) if repairs_all(context) else cuts
    )
    repairs = config.repair != "off"
    confirm = min(config.judge_samples, constants.confirm_samples)
    # As it is cut, and repaired.
    confirming = _answers(confirm, layers) + Work(confirm, confirm * (layers + 2 * keep))
    mending_s = ready_s + once_s + confirming.seconds(costs)
    taught = 0.0
    if config.heal_ms is not None:
        few = min(config.samples, constants.heal_samples) + config.judge_samples + confirm
        taught = (_answers(few, layers) + Work(few, few * layers)).seconds(costs) + config.heal_ms / 1e3
    verifying = Work(_VERIFIED, _VERIFIED * keep, _VERIFIED_STEPS * keep)
    checked = Work(_CHECKED, 2 * _CHECKED * (layers + keep))
    asked = config.eval_samples + sum(len(bench.samples) for bench in context.benches)
    answering = Work(2 * asked, asked * (layers + keep), _SHORT_ANSWER * asked * (layers + keep))
    return {
        "score": scoring.seconds(costs),
        "select": selecting.seconds(costs) + repairs * patching_s if config.drop is None else 0.0,
        "prune": verifying.seconds(exact) + repairs * mending_s + taught,
        "export": checked.seconds(exact),
        "report": answering.seconds(exact) + config.measure_time_ms / 1e3,
    }


def _asking(context: Context) -> Work:
    """What the scorer asks of the model beside the samples' states: each layer left out, slopes, rounds."""
    layers, needs = context.source.layers, needed((context.config.scorer,))
    few = min(context.config.samples, context.constants.bypass_samples)
    asking = Work()
    if "bypassed" in needs:
        asking += Work(few, few * layers * (layers + 1) / 2)
    if "sensitivity" in needs:  # forwards twice, and backwards, which takes as long as two
        asking += _answers(few, layers) + Work(few, 4 * few * layers)
    if "elimination" in needs:  # all sets of a round share their streams up to where they part
        fewer = min(context.config.samples, context.constants.elimination_samples)
        passes = sum(left * (left + 1) / 2 for left in range(layers - rounds_of(layers) + 1, layers + 1))
        asking += _answers(fewer, layers) + Work(fewer, fewer * (layers + passes))
    return asking


def _answers(samples: float, layers: int) -> Work:
    """The dense model's own, with a cache."""
    return Work(samples, samples * layers, samples / _BATCH * _ANSWER_TOKENS * layers)


def _repair_s(context: Context, costs: Costs, exact: Costs, samples: int, places: int) -> tuple[float, float]:
    """Seconds of one repair of so many layers, and of what all repairs on these samples share."""
    layers = context.source.layers
    # The dense model and the slim one, whose repaired layers run twice in a model of some size.
    again = places if passed_bytes(context) > PASSED_BYTES else 0
    fitting = Work(samples, samples * (2 * layers + again))
    return (
        fitting.seconds(costs) + _solving_s(context, exact, places, solutions=_STRENGTHS * places),
        _answers(samples, layers).seconds(costs),
    )


def _solving_s(context: Context, exact: Costs, places: int, *, solutions: int) -> float:
    """Normal equations in float64, factored once or in every strength: products at half the rate of float32,
    factors at a quarter of that."""
    decoder = context.source.checkpoint.facts.shape.decoder
    inner, outer = decoder.intermediate, decoder.hidden
    rate = 2 * exact.tokens * decoder.linear_params_per_layer / exact.layer_s
    products = 2 * outer * inner**2 * (places + solutions)
    factors = inner**3 / 3 * min(solutions, _STRENGTHS * places)
    return 2 * products / rate + 8 * factors / rate
