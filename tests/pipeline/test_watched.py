"""One deployment, watched from the outside: what its stages read, and how often the dense model is there."""

from __future__ import annotations

from tests.pipeline.conftest import Observed
from topovlm.pipeline import constants, stage
from topovlm.pipeline.stages import all_stages

STAGES = {each.name: each for each in all_stages()}


def test_stages_read_only_what_they_declare(observed: Observed) -> None:
    """Every field of the configuration that a stage of a real deployment touches is in its declaration."""
    chain = {"export-dense", "plan", "score", "select", "prune", "export", "measure", "tensorrt", "report"}
    chain |= {"bench-dense", "bench-slim"}
    assert observed.stages >= chain
    undeclared = {field for name, field in observed.reads if field not in STAGES[name].fields}
    assert undeclared <= set(stage.IRRELEVANT)


def test_stages_use_only_constants_that_they_declare(observed: Observed) -> None:
    """The same for the numbers in the code."""
    assert {name for _, name in observed.constants} >= {"repair_samples", "answer_tokens", "timed_tokens"}
    undeclared = {used for name, used in observed.constants if used not in STAGES[name].constants}
    assert undeclared <= set(constants.IRRELEVANT)


def test_a_deployment_reads_the_dense_model_once(observed: Observed) -> None:
    """Export, score, select, prune and repair share it; template, calibration and judge the processor."""
    dense = [kind for kind, folder in observed.loads if folder == str(observed.model)]
    assert sorted(dense) == ["model", "processor"]


def test_it_is_gone_when_memory_is_measured(observed: Observed) -> None:
    """Timings and peaks are of the exported graphs, not of a torch model that happens to be there."""
    assert observed.alive == [0]
