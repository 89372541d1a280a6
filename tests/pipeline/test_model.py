"""The dense model of a run is read once, and given back before memory is measured."""

from __future__ import annotations

from tests.pipeline.conftest import Observed


def test_a_deployment_reads_the_dense_model_once(observed: Observed) -> None:
    """Export, score, select, prune and repair share it; template, calibration and judge the processor."""
    dense = [kind for kind, folder in observed.loads if folder == str(observed.model)]
    assert sorted(dense) == ["model", "processor"]


def test_it_is_gone_when_memory_is_measured(observed: Observed) -> None:
    """Timings and peaks are of the exported graphs, not of a torch model that happens to be there."""
    assert observed.alive == [0]
