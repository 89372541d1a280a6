"""Accuracy and latency parts from raw results."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from tests.report import factory
from topovlm.errors import InputError
from topovlm.report.sections import accuracy_section, latency_section


def test_counts_and_summaries_agree_with_the_raw_outcomes() -> None:
    """Every summary can be recomputed from the questions in the same document."""
    dense = factory.dense_answers()
    slim = factory.slim_answers(dense)
    section = accuracy_section(
        factory.outcomes(dense),
        factory.outcomes(slim, unparsed=4),
        source="engine",
        sample_source="set",
        task="test",
    )
    assert [found.category for found in section.categories] == list(factory.CATEGORIES)
    for found in section.categories:
        right, kept = dense[found.category], slim[found.category]
        assert (found.n, found.dense_right, found.slim_right) == (len(right), right.sum(), kept.sum())
        lost, gained = int((right & ~kept).sum()), int((~right & kept).sum())
        assert (found.worse, found.better) == (lost, gained)
        expected = binomtest(lost, lost + gained).pvalue if lost + gained else 1.0  # McNemar, exact
        assert found.p == pytest.approx(expected)
        assert found.difference is not None
        assert found.difference.value == pytest.approx((gained - lost) / found.n)
        assert found.dense.kind == "measured"
    assert section.overall.n == len(section.questions) == sum(found.n for found in section.categories)
    assert section.overall.slim_unparsed == 4


def test_a_dense_deployment_has_no_comparison() -> None:
    """Without a slim model there is accuracy and nothing to compare it with."""
    section = accuracy_section(
        factory.outcomes(factory.dense_answers()), source="engine", sample_source="set", task="test"
    )
    assert section.overall.slim is None
    assert section.overall.retention is None
    assert all(question.slim is None for question in section.questions)


def test_nothing_evaluated_is_an_error() -> None:
    """An empty question set has no accuracy."""
    with pytest.raises(InputError, match="nothing was evaluated"):
        accuracy_section([], source="engine", sample_source="set", task="test")


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
