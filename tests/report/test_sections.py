"""Accuracy and latency parts from raw results."""

from __future__ import annotations

import numpy as np
import pytest

from tests.report import factory
from topovlm.errors import InputError
from topovlm.report.sections import accuracy_section, latency_section
from topovlm.stats.paired import mcnemar_exact


def test_counts_and_summaries_agree_with_the_raw_outcomes() -> None:
    """Every summary can be recomputed from the questions in the same document."""
    dense = factory.dense_answers()
    slim = factory.slim_answers(dense)
    section = accuracy_section(
        factory.outcomes(dense), factory.outcomes(slim, unparsed=4), source="engine", sample_source="set"
    )
    assert [family.family for family in section.families] == list(factory.FAMILIES)
    for family in section.families:
        right, kept = dense[family.family], slim[family.family]
        assert (family.n, family.dense_correct, family.slim_correct) == (len(right), right.sum(), kept.sum())
        lost, gained = int((right & ~kept).sum()), int((~right & kept).sum())
        assert (family.only_dense_correct, family.only_slim_correct) == (lost, gained)
        assert family.mcnemar_p == pytest.approx(mcnemar_exact(lost, gained))
        assert family.difference is not None
        assert family.difference.value == pytest.approx((gained - lost) / family.n)
        assert family.dense.kind == "measured"
    assert section.overall.n == len(section.questions) == sum(family.n for family in section.families)
    assert section.overall.slim_unparsed == 4


def test_a_dense_deployment_has_no_comparison() -> None:
    """Without a slim model there is accuracy and nothing to compare it with."""
    section = accuracy_section(
        factory.outcomes(factory.dense_answers()), source="engine", sample_source="set"
    )
    assert section.overall.slim is None
    assert section.overall.retention is None
    assert all(question.slim is None for question in section.questions)


def test_nothing_evaluated_is_an_error() -> None:
    """An empty question set has no accuracy."""
    with pytest.raises(InputError, match="nothing was evaluated"):
        accuracy_section([], source="engine", sample_source="set")


def test_latency_keeps_raw_samples_and_pairs_rounds() -> None:
    """Samples stay in order; the ratio is the median over rounds; phases come in the document's order."""
    dense, slim = factory.samples_ms(10, seed=1), factory.samples_ms(6, seed=2)
    section = latency_section(
        {"ttft": dense, "vision": dense},
        {"ttft": slim, "vision": dense},
        workload=factory.WORKLOAD,
        where="here",
        runtime="onnxruntime-cpu",
        variant="plain",
        threads=1,
        warmup=3,
        order=("dense", "slim"),
        is_target=True,
    )
    vision, ttft = section.phases
    assert (vision.phase, ttft.phase) == ("vision", "ttft")
    assert list(ttft.slim_samples_ms) == slim
    assert ttft.ratio is not None
    assert ttft.slim is not None
    assert ttft.ratio.value == pytest.approx(np.median(np.array(slim) / np.array(dense)))
    assert vision.ratio is not None
    assert (vision.ratio.value, vision.ratio.low, vision.ratio.high) == (1, 1, 1)


def test_unknown_phases_are_refused() -> None:
    """A typo in a phase name does not vanish from the report."""
    with pytest.raises(ValueError, match="prefil"):
        latency_section(
            {"prefil": [1.0]},
            workload=factory.WORKLOAD,
            where="here",
            runtime="r",
            variant="v",
            threads=1,
            warmup=0,
            order=("dense",),
            is_target=False,
        )
