"""Profiles: a line in layers, at the workload that it was measured with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.predict.test_cost import TINY
from topovlm.errors import InputError
from topovlm.families.sizes import read_shape
from topovlm.predict.cost import predict
from topovlm.predict.target import load_target
from topovlm.workload import Workload

SHAPE = read_shape(TINY)
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
    for target, measured_on in (
        (load_target("jetson-agx-orin-32gb"), "jetson-agx-orin-32gb"),
        (load_target("jetson-orin"), "board"),
        (load_target("local"), "local"),
        (profile(), "local"),
    ):
        given = None if isinstance(target, dict) else profile(target=measured_on)
        found = predict(SHAPE, WORKLOAD, target, 8, profile=given)
        assert found.vision_ms.value == 2.0
        assert found.prefill_ms.value == pytest.approx(1.0 + 8 * 0.5)
        assert found.prefill_ms.high == pytest.approx(5.0 * 1.03)
        assert found.token_ms.value == pytest.approx(1.0)
        assert found.total_ms.value == pytest.approx(2 + 5 + 4 * 1.0)
        assert f"profile measured on {measured_on}" in found.source
        assert found.runtime == "onnxruntime-cpu"


@pytest.mark.parametrize(
    ("measured_on", "target", "message"),
    [
        ("local", "jetson-agx-orin-32gb", "on 'local', the plan is for 'jetson-agx-orin-32gb'"),
        ("jetson-agx-orin-32gb", "local", "on 'jetson-agx-orin-32gb', the plan is for 'local'"),
        ("jetson-orin-nano-8gb", "jetson-orin-nano-4gb", "orin-nano-8gb', the plan is for .*orin-nano-4gb"),
        (None, "local", "on None"),
    ],
)
def test_a_profile_of_another_machine_is_refused(measured_on: str, target: str, message: str) -> None:
    """Both machines are named."""
    with pytest.raises(InputError, match=message):
        predict(SHAPE, WORKLOAD, load_target(target), 8, profile=profile(target=measured_on))


def test_a_profile_of_another_power_mode_is_refused() -> None:
    """By nvpmodel's name for the mode; a governor's name or none is no power mode."""
    board = "jetson-orin-nano-8gb"
    for mode in ("25W", "MODE_25W", "schedutil", None):
        given = profile(target=board, mode=mode)
        assert predict(SHAPE, WORKLOAD, load_target(f"{board}@25W"), 8, profile=given).vision_ms.value == 2.0
    for mode in ("15W", "MODE_15W", "MAXN_SUPER"):
        with pytest.raises(InputError, match=f"in mode '{mode}', the plan is for {board}@25W"):
            predict(
                SHAPE,
                WORKLOAD,
                load_target(f"{board}@25W"),
                8,
                profile=profile(target=board, mode=mode),
            )


def test_a_profile_of_another_model_is_refused(
    tiny_siglip_qwen2: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The configuration's sha256 tells them apart; its own model's profile plans."""
    from topovlm.artifacts import sha256_file
    from topovlm.cli import main

    digest = sha256_file(tiny_siglip_qwen2 / "config.json")
    path = tmp_path / "profile.json"
    words = ["plan", "--target", "local", "--model", str(tiny_siglip_qwen2), "--profile", str(path), "--json"]
    fitting = {"schema": 1, "layers": 6, "workload": {}, "mode": "powersave"}
    for known, code in ((digest, 0), (None, 0), ("0" * 64, 2)):
        path.write_text(json.dumps(profile(**fitting, config_sha256=known)))
        assert main(words) == code
    message = capsys.readouterr().err
    assert f"sha256 {'0' * 12}" in message
    assert f"sha256 {digest[:12]}" in message


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


def test_lengths_that_were_never_timed() -> None:
    """A profile over lengths predicts at any of them; far beyond them it is refused as before."""
    lines = {"residual": 0.01, "held_out": [0.02, -0.01]}
    surfaces = {
        "embed": {"fixed_ms": 0.1, "per_token_ms": 0.001, **lines},
        "prefill": {"fixed_ms": 0.2, "per_layer_ms": 0.05, "per_layer_token_ms": 0.002, **lines},
        "token": {"fixed_ms": 0.1, "per_layer_ms": 0.05, "per_layer_beyond_6_ms": 0.02, **lines},
    }
    noise = {"prefill": 0.005, "token": 0.005}
    known = profile(surfaces=surfaces, lengths=[40, 56, 224], noise=noise)
    found = predict(SHAPE, Workload(prompt_tokens=100, new_tokens=5), known, 8)
    assert found.prefill_ms.value == pytest.approx(0.1 + 0.136 + 0.2 + 8 * (0.05 + 0.002 * 136))
    assert found.token_ms.value == pytest.approx(0.1 + 8 * 0.05 + 2 * 0.02)
    with pytest.raises(InputError, match="prefill tokens"):
        predict(SHAPE, Workload(prompt_tokens=500), known, 8)
