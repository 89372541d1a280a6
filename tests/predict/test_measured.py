"""Profiles: a line in layers, at the workload that it was measured with."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from tests.predict.profiles import make_profile
from tests.predict.test_cost import TINY
from topovlm.errors import InputError
from topovlm.families.sizes import read_shape
from topovlm.families.vision import visual_tokens
from topovlm.predict.cost import predict_measured
from topovlm.predict.measured import profile_at
from topovlm.predict.profile import MemoryLine, Profile
from topovlm.predict.surface import Surface
from topovlm.predict.target import load_target
from topovlm.records import write
from topovlm.workload import Workload

SHAPE = read_shape(TINY)
WORKLOAD = Workload(prompt_tokens=20, new_tokens=5)


def test_a_profile_beats_the_data_sheet_and_says_so() -> None:
    """Whatever the board, the measured lines are used, with their own spread; without one as well."""
    for target, measured_on in (
        (load_target("jetson-agx-orin-32gb"), "jetson-agx-orin-32gb"),
        (load_target("jetson-orin"), "board"),
        (load_target("local"), "local"),
        (None, "local"),
    ):
        found = predict_measured(SHAPE, WORKLOAD, make_profile(target=measured_on), 8, target=target)
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
    ],
)
def test_a_profile_of_another_machine_is_refused(measured_on: str, target: str, message: str) -> None:
    """Both machines are named."""
    with pytest.raises(InputError, match=message):
        predict_measured(SHAPE, WORKLOAD, make_profile(target=measured_on), 8, target=load_target(target))


def test_a_profile_of_another_power_mode_is_refused() -> None:
    """By nvpmodel's name for the mode; a governor's name or none is no power mode."""
    board = "jetson-orin-nano-8gb"
    target = load_target(f"{board}@25W")
    for mode in ("25W", "MODE_25W", "schedutil", "default"):
        given = make_profile(target=board, mode=mode)
        assert predict_measured(SHAPE, WORKLOAD, given, 8, target=target).vision_ms.value == 2.0
    for mode in ("15W", "MODE_15W", "MAXN_SUPER"):
        given = make_profile(target=board, mode=mode)
        with pytest.raises(InputError, match=f"in mode '{mode}', the plan is for {board}@25W"):
            predict_measured(SHAPE, WORKLOAD, given, 8, target=target)


def test_a_profile_of_another_model_is_refused(
    tiny_siglip_qwen2: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The configuration's sha256 tells them apart; its own model's profile plans."""
    from topovlm.artifacts import sha256_file
    from topovlm.cli import main

    digest = sha256_file(tiny_siglip_qwen2 / "config.json")
    path = tmp_path / "profile.json"
    words = ["plan", "--target", "local", "--model", str(tiny_siglip_qwen2), "--profile", str(path), "--json"]
    shape = read_shape(json.loads((tiny_siglip_qwen2 / "config.json").read_text()))
    visual = visual_tokens(shape, Workload(image_height=32, image_width=32))
    timed = replace(make_profile().workload, visual_tokens=visual, prefill_tokens=visual + 32)
    for known, code in ((digest, 0), (None, 0), ("0" * 64, 2)):
        write(path, make_profile(layers=6, workload=timed, config_sha256=known))
        assert main(words) == code
    message = capsys.readouterr().err
    assert f"sha256 {'0' * 12}" in message
    assert f"sha256 {digest[:12]}" in message


def test_measured_memory_replaces_the_form() -> None:
    """Intercept, slope and libraries, when the profile has them; a spread that it does not state is 10 %."""
    memory = MemoryLine(intercept_bytes=1e6, slope_bytes_per_layer=1e5, libraries_bytes=5e7)
    found = predict_measured(SHAPE, WORKLOAD, make_profile(memory=memory), 10)
    assert found.memory_bytes.value == pytest.approx(52e6)
    assert found.memory_bytes.high == pytest.approx(52e6 * 1.1)
    assert found.memory is None


def other_workload(**changes: int) -> Profile:
    """The profile, as if something else had been timed."""
    return make_profile(workload=replace(make_profile().workload, **changes))


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        (make_profile(layers=24), "24 layers, this one has 16"),
        (other_workload(visual_tokens=72, prefill_tokens=92), "72 visual tokens.*36"),
        (other_workload(prefill_tokens=200), "200 prefill tokens.*56"),
        (other_workload(batch=4), "4 batch.*1"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_profile_of_something_else_is_refused(profile: Profile, message: str) -> None:
    """Another model, another workload: no scaling, no guess."""
    with pytest.raises(InputError, match=message):
        predict_measured(SHAPE, WORKLOAD, profile, 8)


def surface(**coefficients: float) -> Surface:
    """A surface that misses held-out points by 2 %."""
    return Surface(coefficients=coefficients, residual=0.01, held_out=(0.02, -0.01))


def test_lengths_that_were_never_timed() -> None:
    """A profile over lengths predicts at any of them; far beyond them it is refused as before."""
    surfaces = {
        "embed": surface(fixed_ms=0.1, per_token_ms=0.001),
        "prefill": surface(fixed_ms=0.2, per_layer_ms=0.05, per_layer_token_ms=0.002),
        "token": surface(fixed_ms=0.1, per_layer_ms=0.05, per_layer_beyond_6_ms=0.02),
    }
    known = make_profile(surfaces=surfaces, lengths=(40, 56, 224))
    found = predict_measured(SHAPE, Workload(prompt_tokens=100, new_tokens=5), known, 8)
    assert found.prefill_ms.value == pytest.approx(0.1 + 0.136 + 0.2 + 8 * (0.05 + 0.002 * 136))
    assert found.token_ms.value == pytest.approx(0.1 + 8 * 0.05 + 2 * 0.02)
    with pytest.raises(InputError, match="prefill tokens"):
        predict_measured(SHAPE, Workload(prompt_tokens=500), known, 8)


LENGTHS = (39, 55, 110, 220)


def over_lengths() -> Profile:
    """At four lengths: prefill 0.3 + 0.001 s + n (0.05 + 0.002 s) ms, a token 0.1 + n (0.05 + 1e-5 c) ms."""
    surfaces = {
        "embed": surface(fixed_ms=0.1, per_token_ms=0.001),
        "prefill": surface(fixed_ms=0.2, per_layer_ms=0.05, per_layer_token_ms=0.002),
        "token": surface(fixed_ms=0.1, per_layer_ms=0.05, per_layer_token_ms=1e-5),
    }
    noise = {"prefill": 0.005, "token": 0.004}
    return make_profile(surfaces=surfaces, lengths=LENGTHS, noise=noise)


def test_a_profile_moves_to_another_length() -> None:
    """Lines, workload and spread at an untimed length; vision stays; the original is not touched."""
    before = over_lengths()
    moved = profile_at(before, prefill_tokens=160, new_tokens=20)
    assert moved.affine.prefill.at(9) == pytest.approx(0.1 + 0.16 + 0.2 + 9 * (0.05 + 0.002 * 160))
    assert moved.affine.decode.at(9) == pytest.approx(0.1 + 9 * (0.05 + 1e-5 * 170))
    assert moved.affine.vision_ms == 2.0
    work = moved.workload
    assert (work.visual_tokens, work.prompt_tokens) == (36, 124)
    assert (work.prefill_tokens, work.new_tokens) == (160, 20)
    held_out = np.quantile([0.01, 0.02], 0.9)
    assert moved.spread.vision == 0.02
    assert moved.spread.prefill == pytest.approx(held_out + 0.005)
    assert moved.spread.decode == pytest.approx(held_out + 0.004)
    assert before == over_lengths()


def test_reach_beyond_the_timed_lengths() -> None:
    """A little beyond, the spread grows; far beyond, and with one length alone, nothing is claimed."""
    known = over_lengths()
    inside, beyond = (profile_at(known, prefill_tokens=tokens).spread for tokens in (220, 330))
    assert beyond.prefill == pytest.approx(inside.prefill * 1.5**2)
    assert profile_at(known, prefill_tokens=500) == known
    single = make_profile(lengths=(55,))
    assert profile_at(single, prefill_tokens=60) == single
