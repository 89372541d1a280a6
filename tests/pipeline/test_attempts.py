"""When a measured slim model meets its budget: upper ends, unless noise is larger than a layer."""

from __future__ import annotations

import numpy as np
import pytest

from topovlm.config import resolve
from topovlm.machine.environment import describe_machine
from topovlm.measure.footprint import Footprint
from topovlm.measure.settings import TimingRules
from topovlm.measure.timing import Comparison, EngineTimings
from topovlm.pipeline.attempts import assess
from topovlm.predict.profile import TimedWorkload

WORKLOAD = TimedWorkload(
    images=1,
    image_height=48,
    image_width=48,
    visual_tokens=36,
    prompt_tokens=20,
    prefill_tokens=56,
    new_tokens=8,
)


def timed(
    slim_ms: float,
    noise: float = 0.001,
    dense_ms: float = 20.0,
    token_ms: float = 2.0,
    footprint: Footprint | None = None,
) -> Comparison:
    """40 rounds of a 16-layer dense and an 8-layer slim model; relative noise is the same for each phase."""
    rng = np.random.default_rng(0)

    def samples(median: float) -> list[float]:
        return (median * (1 + noise * rng.standard_normal(40))).tolist()

    def engine(name: str, layers: int, first: float, token: float) -> EngineTimings:
        phases = {"ttft": samples(first), "end_to_end": samples(first + 7 * token), "token": samples(token)}
        return EngineTimings(
            name=name,
            folder=name,
            layers=layers,
            variant="plain",
            threads=1,
            providers={"decoder": ["CPUExecutionProvider"]},
            load_ms=1.0,
            samples=phases,
            token_steps=[],
            footprint=footprint,
        )

    return Comparison(
        engines={
            "dense": engine("dense", 16, dense_ms, 2 * token_ms),
            "slim": engine("slim", 8, slim_ms, token_ms),
        },
        order=("dense", "slim") * 40,
        rounds=40,
        stopped="precise",
        rules=TimingRules(),
        workload=WORKLOAD,
        environment=describe_machine(),
        warnings=(),
    )


@pytest.mark.parametrize(
    ("budget", "slim_ms", "met"),
    [("60%", 11.5, True), ("60%", 12.5, False), ("12ms", 11.5, True), ("12ms", 12.5, False)],
)
def test_a_budget_is_met_or_missed(budget: str, slim_ms: float, met: bool) -> None:
    """Relative to the dense model timed in turns, or absolute."""
    verdict = assess(resolve({"max_latency": budget}), 8, timed(slim_ms))
    assert verdict.met is met
    assert ("misses" in verdict.text) is not met
    assert verdict.missed == (() if met else ("max_latency",))


def test_the_upper_end_must_fit_when_timings_are_quiet() -> None:
    """A median just inside with an interval that reaches beyond is a miss: one more layer is worth it."""
    assert not assess(resolve({"max_latency": "60%"}), 8, timed(11.99, noise=0.01)).met


def test_noise_larger_than_a_layer_does_not_cost_a_layer() -> None:
    """Then the median decides."""
    assert assess(resolve({"max_latency": "60%"}), 8, timed(11.0, noise=0.3)).met


def test_several_new_tokens_are_judged_end_to_end() -> None:
    """--new-tokens above 1: the last token counts, not the first."""
    flags = {"max_latency": "20ms", "new_tokens": "8"}
    assert assess(resolve({"max_latency": "20ms"}), 8, timed(12)).met
    verdict = assess(resolve(flags), 8, timed(12))
    assert (verdict.met, verdict.phase) == (False, "end_to_end")


def test_the_token_budget_counts_too() -> None:
    """--max-token-latency alone can reject."""
    assert not assess(resolve({"max_token_latency": "1.5ms"}), 8, timed(10)).met
    assert assess(resolve({"max_token_latency": "2.5ms"}), 8, timed(10)).met


def test_without_a_latency_budget_nothing_is_missed() -> None:
    """--sparsity alone asks for no latency."""
    assert assess(resolve({"sparsity": "25%"}), 8, timed(30)).met


def test_the_measured_peak_of_memory_counts() -> None:
    """--max-memory judges the process's own peak, where there is a figure; it has no interval."""
    run = timed(10, footprint=Footprint(libraries_bytes=1 << 20, peak_bytes=600 << 20, load_ms=1.0))
    verdict = assess(resolve({"max_memory": "0.5GiB"}), 8, run)
    assert not verdict.met
    assert "of memory at its peak" in verdict.text
    assert verdict.missed == ("max_memory",)
    assert assess(resolve({"max_memory": "1GiB"}), 8, run).met
    assert assess(resolve({"max_memory": "0.5GiB"}), 8, timed(10)).met
