"""Checks of artefacts: an outcome is what a value and a limit say; a fact is no check."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec
import pytest

from tests.report import factory
from topovlm.checkpoint.outcome import License, SurgeryReport
from topovlm.checkpoint.verify import RELATIVE_TOLERANCE, VerifyReport
from topovlm.errors import InputError
from topovlm.exporters.onnx.parity import parity_checks
from topovlm.exporters.protocol import ExportRecord, ParityResult
from topovlm.pipeline import assemble
from topovlm.pipeline.record import Pruned
from topovlm.report import store
from topovlm.report.document import Verification, check, fact
from topovlm.report.gate import compare
from topovlm.report.markdown import render_markdown
from topovlm.report.summary import cards

replace = msgspec.structs.replace


@pytest.mark.parametrize(
    ("value", "rule", "limit", "passed"),
    [
        (1e-5, "at most", 1e-4, True),
        (1e-3, "at most", 1e-4, False),
        (3.0, "more than", 0.1, True),
        (0.1, "more than", 0.1, False),
        (10, "equal to", 10, True),
        (9, "equal to", 10, False),
        (None, "at most", 1.0, False),
        (math.nan, "at most", 1.0, False),
        (math.inf, "more than", 1.0, False),
    ],
)
def test_a_checks_outcome_is_its_value_against_its_limit(
    value: float | None, rule: Any, limit: float, passed: bool
) -> None:
    """Whoever makes a check cannot say how it ends; without a figure nothing was shown."""
    assert check("parity", "slim", value, rule, limit).passed is passed


def test_nobody_can_declare_a_check_passed() -> None:
    """Neither in the program nor in a file: the outcome must follow from the figures."""
    with pytest.raises(ValueError, match="is not what its value and limit say"):
        Verification(name="parity", model="slim", rule="at most", value=2.0, limit=1.0, passed=True)
    with pytest.raises(ValueError, match="is not what its value and limit say"):
        Verification(name="parity", model="slim", passed=True)
    data = json.loads(store.encode(factory.standard()))
    data["verifications"][2]["value"] = 0.5
    with pytest.raises(InputError, match=r"'ONNX parity'.*verifications\[2\]"):
        store.decode(json.dumps(data).encode())


def test_facts_are_listed_and_not_counted() -> None:
    """Four checks and a fact are four of four checks; facts alone check nothing."""
    report = factory.standard()
    seen = fact("largest logit", "slim", "over 8 steps", 17.5)
    listed = replace(report, verifications=(*report.verifications, seen))
    assert cards(listed)[2].headline.startswith("4 of 4 checks passed")
    assert "| largest logit | slim | fact | 18 | over 8 steps |" in render_markdown(listed)
    card = cards(replace(report, verifications=(seen,)))[2]
    assert (card.status, card.headline) == ("unknown", "the artefacts were not checked")


def test_the_gate_asks_for_checks_and_not_for_facts() -> None:
    """A fact that is gone is no regression; a check that became a mere fact is one."""
    report = factory.standard()
    seen = fact("largest logit", "slim", "over 8 steps")
    listed = replace(report, verifications=(*report.verifications, seen))
    assert not compare(report, listed).regressed
    assert len(compare(listed, report).checks) == len(compare(report, report).checks)
    weaker = replace(
        report, verifications=(fact("ONNX parity", "slim", "not made"), *report.verifications[:2])
    )
    found = {row.name: row.verdict for row in compare(weaker, report).checks}
    assert found["verification.ONNX parity"] == "regressed"


def parity(error: float, shifted: float) -> ExportRecord:
    """An export's record with one graph on one prompt."""
    result = ParityResult(
        graph="decoder",
        prompt="picture",
        prompt_tokens=20,
        compared_tokens=20,
        tolerance=1e-4,
        max_logit=10.0,
        max_logit_error=error,
        decode_steps=8,
        near_ties=0,
        control_position_error=shifted,
        control_mask_error=None,
    )
    checks = parity_checks([result], "")
    return ExportRecord(exporter="onnx", model="slim", dtype="fp32", parity=(result,), checks=checks)


@pytest.mark.parametrize(
    ("error", "shifted", "outcomes"),
    [(2e-5, 3.0, [True, True]), (2e-2, 3.0, [False, True]), (2e-5, 5e-4, [True, False])],
)
def test_parity_checks_can_fail(error: float, shifted: float, outcomes: list[bool]) -> None:
    """A graph that is off fails its check, and so does a control that the gate is blind to."""
    checks = assemble.export_checks({"export": parity(error, shifted)})
    assert [row.passed for row in checks] == outcomes
    assert all(row.limit == pytest.approx(1e-3) for row in checks)


SURGERY = SurgeryReport(
    source="tiny",
    folder="model",
    source_layers=8,
    dropped=(6, 7),
    kept=(0, 1, 2, 3, 4, 5),
    weight_bytes_before=8,
    weight_bytes_after=6,
    parameters_before=8,
    parameters_after=6,
    config_changes={},
    license=License(),
    weight_files=("model.safetensors",),
)
VERIFIED = VerifyReport(
    layers=6,
    tensors=90,
    prompts=2,
    generated_tokens=16,
    cache_difference=RELATIVE_TOLERANCE / 10,
    batch_difference=0.0,
    dense_difference=0.0,
)


@pytest.mark.parametrize(
    ("changed", "failing"),
    [
        ({}, []),
        ({"layers": 7}, ["reload with stock transformers"]),
        ({"cache_difference": 0.5}, ["cached = uncached generation"]),
        ({"batch_difference": 0.5}, ["batch = one by one"]),
        ({"dense_difference": 0.5}, ["surgery = dense with the layers bypassed"]),
        ({"dense_difference": None}, ["surgery = dense with the layers bypassed"]),
    ],
)
def test_checks_of_the_pruned_checkpoint_can_fail(changed: dict[str, Any], failing: list[str]) -> None:
    """Layers that did not come back and logits that differ are failed checks, not passed ones."""
    pruned = Pruned(surgery=SURGERY, verified=replace(VERIFIED, **changed), repair=None)
    assert [row.name for row in assemble.checkpoint_checks(pruned) if not row.passed] == failing


def test_an_exporter_that_the_report_never_heard_of_is_shown() -> None:
    """Format, words and clients travel with the artefact; what was only written is not called checked."""
    report = factory.standard()
    new = replace(report.artifacts[1], path="npu", format="npu-blob", title="", loads_in=("NPU runtime",))
    card = cards(replace(report, artifacts=(new,)))[2]
    assert (card.status, card.headline) == ("yes", "4 of 4 checks passed")
    assert card.detail == ("npu: npu-blob, 12.30 MiB, for NPU runtime",)
    card = cards(replace(report, artifacts=(replace(new, checked=False),)))[2]
    assert (card.status, card.headline) == ("partly", "4 of 4 checks passed, npu-blob not checked")
