"""What counts as a regression, check by check.

The deployed model (slim, or dense where nothing was pruned) of one run against that of another. A regression
is a loss beyond the tolerance that noise does not explain:

- *accuracy*, *benchmarks*: the same questions, paired (`topovlm.report.answers`).
- *latency*: a ratio of medians, run over baseline, is above 1 + tolerance, and its one-sided lower bound
  (over all phases together) is above 1 + the drift that either run showed between its own two halves. Which
  ratio: where both runs timed the same dense model in turns with the deployed one, that model is the clock:
  times are divided by its own, round by round (the machine's mood divides out), and the deployed model must
  not be faster in plain milliseconds; if the software differs too, the plain ratio must stand out as well.
  Without a common dense model it is the plain ratio, and on another machine there is none.
- *verification*: a check of the artefact failed, or the baseline made it and this run did not.

Whatever the baseline has and the run lacks is a failure, too (`topovlm.report.gaps`); here only what both
have is compared.

Faster or more accurate never fails. Neither proven worse nor proven within the tolerance is *inconclusive*:
said, not failed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from topovlm.report.checks import GateCheck, Verdict
from topovlm.report.deployed import deployed, figure, samples_ms
from topovlm.report.document import PhaseTimes, Report, Which
from topovlm.stats import timing as timing_stats
from topovlm.stats.interval import Interval


def latency_checks(run: Report, baseline: Report, tolerance: float, confidence: float) -> list[GateCheck]:
    """One per phase that both runs timed."""
    if not run.latency or not baseline.latency:
        return []
    before = {phase.phase: phase for phase in baseline.latency.phases}
    timed = [phase for phase in run.latency.phases if phase.phase in before]
    phases = [phase for phase in timed if samples_ms(phase, deployed(run))]
    same_dense = run.dense.weights_sha256 == baseline.dense.weights_sha256
    # One false alarm in 1 / (1 - confidence) over all phases together (Bonferroni), one-sided.
    level = 1 - 2 * (1 - confidence) / max(1, len(phases))
    ours, theirs = run.environment.versions, baseline.environment.versions
    # A version that is not told excuses nothing.
    same_software = all(ours[name] == theirs[name] for name in ours.keys() & theirs.keys())
    rules = _LatencyRules(
        tolerance,
        level,
        machine(run) == machine(baseline),
        same_software,
        same_dense,
        (deployed(run), deployed(baseline)),
    )
    return [_latency_check(phase, before[phase.phase], rules) for phase in phases]


@dataclass(frozen=True)
class _LatencyRules:
    """`level`: two-sided confidence whose lower end is the one-sided bound wanted."""

    tolerance: float
    level: float
    same_machine: bool
    same_software: bool
    same_dense: bool
    models: tuple[Which, Which]  # deployed by the run and by the baseline


@dataclass(frozen=True)
class _Change:
    """Run over baseline, with the drift within either run: what noise does anyway."""

    ratio: Interval
    drift: float

    def slower(self, tolerance: float) -> bool:
        return self.ratio.value > 1 + tolerance and self.ratio.low > 1 + self.drift


def machine(report: Report) -> tuple[str, int]:
    """What must be equal for two timings to be of the same machine."""
    return report.environment.cpu, report.environment.cores


def _change(run: PhaseTimes, baseline: PhaseTimes, controlled: bool, rules: _LatencyRules) -> _Change:
    """Of the deployed model; `controlled` measures each run in units of its dense model, round by round."""

    def samples(phase: PhaseTimes, model: Which) -> NDArray[np.float64]:
        times = np.asarray(samples_ms(phase, model))
        return timing_stats.round_ratios(times, phase.dense_samples_ms) if controlled else times

    after, before = samples(run, rules.models[0]), samples(baseline, rules.models[1])
    ratio = timing_stats.change_interval(after, before, rules.level)
    return _Change(ratio, max(timing_stats.drift(after), timing_stats.drift(before)))


def _latency_check(run: PhaseTimes, baseline: PhaseTimes, rules: _LatencyRules) -> GateCheck:
    plain = _change(run, baseline, False, rules)
    in_turns = all(len(phase.slim_samples_ms) == len(phase.dense_samples_ms) for phase in (run, baseline))
    controlled = rules.same_dense and in_turns
    against = _change(run, baseline, True, rules) if controlled else None
    deciding = [against] if against else []
    if rules.same_machine and not (against and rules.same_software):
        deciding.append(plain)
    shown = deciding[0] if deciding else plain
    verdict, text = _latency_verdict(plain, deciding, rules)
    moved = f"{100 * (plain.ratio.value - 1):+.1f} %"
    if against:
        moved += f", {100 * (against.ratio.value - 1):+.1f} % against the dense model timed beside it"
    text = f"{moved} (drift within runs {100 * shown.drift:.1f} %): {text}"
    medians = [figure(phase, model) for phase, model in zip((run, baseline), rules.models, strict=True)]
    ratio, known = shown.ratio, math.isfinite(shown.ratio.high)
    return GateCheck(
        name=f"latency.{run.phase}",
        verdict=verdict,
        text=text,
        unit="ms",
        run=medians[0].value if medians[0] else None,
        baseline=medians[1].value if medians[1] else None,
        change=ratio.value,
        low=ratio.low if known else None,
        high=ratio.high if known else None,
        tolerance=rules.tolerance,
    )


def _latency_verdict(plain: _Change, deciding: list[_Change], rules: _LatencyRules) -> tuple[Verdict, str]:
    tolerance = rules.tolerance
    limit = f"{100 * tolerance:g} %"
    faster = rules.same_machine and plain.ratio.value <= 1
    if not deciding:
        return "inconclusive", "the two runs were timed on different machines"
    if not all(math.isfinite(change.ratio.high) for change in deciding):
        rounds = timing_stats.least_samples(rules.level)
        return "inconclusive", f"timed too few rounds to say: at least {rounds} are needed in both runs"
    if all(change.slower(tolerance) for change in deciding) and not faster:
        return "regressed", f"slower by more than {limit}, and noise does not explain it"
    ratio = deciding[0].ratio
    if faster or ratio.value <= 1 or ratio.high <= 1 + tolerance:
        if rules.same_machine and not rules.same_software and plain.slower(tolerance):
            return "inconclusive", "the unchanged dense model became slower too: the machine or its software"
        return "pass", f"not slower by more than {limit}"
    return "inconclusive", f"slower by more than {limit} can neither be shown nor excluded"


def verification_checks(run: Report, baseline: Report) -> list[GateCheck]:
    """One per verification of the deployed model in this run, and per one that the baseline lets expect.

    A dense deployment is not asked for what only a pruned one has (its surgery, its reload); a slim one is
    asked for all that the dense one had.
    """
    kind = deployed(run)
    expects = "slim" if run.slim and baseline.slim else "dense"
    passed = {v.name: v.passed for v in run.verifications if v.model == kind and v.rule}
    expected = [v.name for v in baseline.verifications if v.rule and v.model == expects]
    checks = []
    for name in dict.fromkeys([*passed, *expected]):
        verdict: Verdict = "pass" if passed.get(name) else "regressed"
        text = "made in the baseline and not in this run"
        if name in passed:
            text = "passed" if passed[name] else "failed: the artefact would be wrong"
        checks.append(GateCheck(name=f"verification.{name}", verdict=verdict, text=text))
    return checks
