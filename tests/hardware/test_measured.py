"""Profiles: a line in layers, at the workload that it was measured with."""

from __future__ import annotations

from typing import Any

import pytest

from tests.hardware.test_cost import TINY
from topovlm.errors import InputError
from topovlm.hardware.cost import predict
from topovlm.hardware.shape import ModelShape
from topovlm.hardware.target import load_target
from topovlm.hardware.vision import Workload

SHAPE = ModelShape.from_config(TINY)
WORKLOAD = Workload(prompt_tokens=20, new_tokens=5)


def profile(**changes: Any) -> dict[str, Any]:
    """A profile as the probe writes it (the fields that prediction reads)."""
    return {
        "target": "local",
        "runtime": "onnxruntime-cpu",
        "layers": 16,
        "affine": {
            "vision_ms": 2.0,
            "prefill": {"intercept_ms": 1.0, "slope_ms_per_layer": 0.5},
            "decode": {"intercept_ms": 0.2, "slope_ms_per_layer": 0.1},
        },
        "spread": {"vision": 0.02, "prefill": 0.03, "decode": 0.04},
        "workload": {"visual_tokens": 36, "prefill_tokens": 56, "batch": 1},
        "memory": None,
        **changes,
    }


def test_a_profile_beats_the_data_sheet_and_says_so() -> None:
    """Whatever the board, the measured lines are used, with their own spread."""
    for target in (load_target("jetson-orin"), load_target("local"), profile()):
        given = None if isinstance(target, dict) else profile()
        found = predict(SHAPE, WORKLOAD, target, 8, profile=given)
        assert found.vision_ms.value == 2.0
        assert found.prefill_ms.value == pytest.approx(1.0 + 8 * 0.5)
        assert found.prefill_ms.high == pytest.approx(5.0 * 1.03)
        assert found.token_ms.value == pytest.approx(1.0)
        assert found.total_ms.value == pytest.approx(2 + 5 + 4 * 1.0)
        assert "profile measured on local" in found.source
        assert found.runtime == "onnxruntime-cpu"


def test_measured_memory_replaces_the_form() -> None:
    """Intercept, slope and libraries, when the profile has them."""
    memory = {"intercept_bytes": 1e6, "slope_bytes_per_layer": 1e5, "libraries_bytes": 5e7}
    found = predict(SHAPE, WORKLOAD, profile(memory=memory), 10)
    assert found.memory_bytes.value == pytest.approx(52e6)
    assert found.memory is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": 24}, "24 layers, this one has 16"),
        ({"workload": {"visual_tokens": 72, "prefill_tokens": 92, "batch": 1}}, "72 visual tokens.*36"),
        ({"workload": {"visual_tokens": 36, "prefill_tokens": 200, "batch": 1}}, "200 prefill tokens.*56"),
        ({"affine": {"vision_ms": 1.0}}, "not a usable profile.*prefill"),
        ({"affine": {}}, "not a usable profile"),
    ],
)
def test_a_profile_of_something_else_is_refused(changes: dict[str, Any], message: str) -> None:
    """Another model, another workload, a broken file: no scaling, no guess."""
    with pytest.raises(InputError, match=message):
        predict(SHAPE, WORKLOAD, profile(**changes), 8)
