"""Profiles of the machine at hand: the fit, the document, and the predictor that reads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.runtime.toy_export import Toy
from topovlm.errors import InputError
from topovlm.hardware.environment import Environment, describe_machine, gpus, versions
from topovlm.hardware.probe import (
    default_layer_counts,
    fit_line,
    load_profile,
    measure_local,
    paired_medians,
    save_profile,
)
from topovlm.hardware.slices import slice_export
from topovlm.runtime.timing import TimingRules

RULES = TimingRules(warmup=1, min_rounds=4, max_rounds=4, memory=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Toy(layers=8).write(tmp_path_factory.mktemp("probe") / "x", ("plain", "fused"))


@pytest.fixture(scope="module")
def profile(folder: Path) -> dict[str, Any]:
    return measure_local(folder, images=2, prompt_tokens=12, new_tokens=3, threads=1, rules=RULES)


def test_profile_says_what_was_measured(folder: Path, profile: dict[str, Any]) -> None:
    """Depths, workload, raw samples, versions and provenance are all in the profile, as JSON."""
    assert json.loads(json.dumps(profile)) == profile
    assert (profile["target"], profile["runtime"], profile["dtype"]) == ("local", "onnxruntime-cpu", "fp32")
    assert (profile["variant"], profile["layers"]) == ("fused", 8)
    assert set(profile["samples"]) == {"2", "5", "8"}
    assert all(len(s["prefill"]) == 4 for s in profile["samples"].values())
    assert profile["workload"]["prompt_tokens"] == 12
    assert profile["workload"]["visual_tokens"] == 8
    assert profile["environment"]["versions"]["onnxruntime"]
    assert len(profile["model_sha256"]) == 64
    assert not list(folder.parent.glob(".slices-*"))


def test_lines_come_from_the_samples(profile: dict[str, Any]) -> None:
    """The lines are those of the stored raw samples; vision and embedding have no slope."""
    for name in ("prefill", "token"):
        dense = np.array(profile["samples"]["8"][name])
        ratios = {int(n): np.median(s[name] / dense) for n, s in profile["samples"].items()}
        intercept, slope, _ = fit_line({n: float(r * np.median(dense)) for n, r in ratios.items()})
        assert profile["phases"][name]["intercept_ms"] == pytest.approx(intercept)
        assert profile["phases"][name]["slope_ms_per_layer"] == pytest.approx(slope)
    for name in ("vision", "embed"):
        assert profile["phases"][name]["slope_ms_per_layer"] == 0
        pooled = np.concatenate([s[name] for s in profile["samples"].values()])
        assert profile["phases"][name]["intercept_ms"] == pytest.approx(np.median(pooled))
    assert profile["affine"]["vision_ms"] == profile["phases"]["vision"]["intercept_ms"]
    assert min(profile["spread"].values()) >= 0.01


def test_predictor_reads_the_profile(profile: dict[str, Any]) -> None:
    """The predictor takes the profile in place of a target and returns the line's values."""
    cost = pytest.importorskip("topovlm.hardware.cost")
    facts = {
        "model_type": "llava",
        "text_config": {
            "model_type": "qwen2", "hidden_size": 16, "num_hidden_layers": 8, "num_attention_heads": 2,
            "num_key_value_heads": 2, "intermediate_size": 32, "vocab_size": 40,
        },
        "vision_config": {
            "model_type": "siglip_vision_model", "hidden_size": 16, "num_hidden_layers": 1, "image_size": 8,
            "patch_size": 4, "intermediate_size": 32, "num_attention_heads": 2,
        },
    }  # fmt: skip
    shape = cost.ModelShape.from_config(facts)
    found = cost.predict(shape, cost.Workload(), profile, 5, "fp32")
    affine = profile["affine"]
    for name, interval in (("prefill", found.prefill_ms), ("decode", found.token_ms)):
        line = affine[name]["intercept_ms"] + 5 * affine[name]["slope_ms_per_layer"]
        assert interval.value == pytest.approx(max(0.0, line))
    assert found.vision_ms.value == pytest.approx(affine["vision_ms"])
    assert found.runtime == "onnxruntime-cpu"


def test_memory_is_a_line_too(folder: Path) -> None:
    """With memory on, the model's peak bytes are fitted over depth, the libraries apart."""
    rules = TimingRules(warmup=0, min_rounds=2, max_rounds=2)
    found = measure_local(folder, layer_counts=[4], threads=1, new_tokens=2, rules=rules)["memory"]
    assert found is None or found["libraries_bytes"] > 10 * 2**20


def test_given_exports_replace_slices(folder: Path, tmp_path: Path) -> None:
    """Exports of other depths may be given; a wrong or repeated depth is refused."""
    four = slice_export(folder, 4, tmp_path / "four")
    found = measure_local(folder, [(4, four)], new_tokens=2, threads=1, rules=RULES)
    assert set(found["samples"]) == {"4", "8"}
    for bad in ([(3, four)], [(4, four), (4, four)], [(8, folder)], []):
        with pytest.raises(InputError, match="shallower"):
            measure_local(folder, bad, threads=1, rules=RULES)


@given(
    intercept=st.floats(0.1, 50),
    slope=st.floats(0.01, 10),
    depths=st.lists(st.integers(1, 80), min_size=2, max_size=6, unique=True),
)
def test_fit_recovers_a_line(intercept: float, slope: float, depths: list[int]) -> None:
    """Noise-free medians give back their line and no residual."""
    a, b, residual = fit_line({n: intercept + slope * n for n in depths})
    assert a == pytest.approx(intercept, rel=1e-4, abs=1e-4)
    assert b == pytest.approx(slope, rel=1e-4, abs=1e-5)
    assert residual < 1e-6


def test_slow_rounds_do_not_bend_the_line() -> None:
    """Rounds that are slow as a whole leave the ratios between depths, and so the line's shape, exact."""
    rng = np.random.default_rng(0)
    rounds = rng.uniform(1, 10, 30)
    medians = paired_medians({n: rounds * (2 + n) for n in (4, 10, 16)})
    intercept, slope, residual = fit_line(medians)
    assert intercept / slope == pytest.approx(2)
    assert residual < 1e-9


def test_fit_reports_curvature() -> None:
    """Points off the line show up in the residual."""
    assert fit_line({2: 1.0, 8: 2.0, 16: 6.0})[2] > 0.1


def test_default_depths() -> None:
    """Two depths beside the dense one, where there is room for them."""
    assert default_layer_counts(16) == [4, 10]
    assert default_layer_counts(28) == [7, 18]
    assert default_layer_counts(3) == [2]
    with pytest.raises(InputError, match="layers"):
        default_layer_counts(2)


def test_saved_profiles_load_back(profile: dict[str, Any], tmp_path: Path) -> None:
    """The file is named by target, runtime and dtype; what is no profile is refused."""
    path = save_profile(profile, tmp_path / "profiles")
    assert path.name == "local--onnxruntime-cpu--fp32.json"
    assert load_profile(path) == profile
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"schema": 7}))
    with pytest.raises(InputError, match="no profile"):
        load_profile(other)
    with pytest.raises(InputError, match="exist"):
        load_profile(tmp_path / "none.json")


def test_machine_facts() -> None:
    """Facts of this machine are plain JSON, and name neither the host nor the user."""
    machine = describe_machine()
    text = json.dumps(machine.to_dict())
    assert 1 <= machine.usable_cores <= machine.cores
    assert machine.cpu
    assert machine.versions["onnxruntime"]
    assert "hostname" not in text
    assert versions(("no-such-package",)) == {}
    assert isinstance(gpus(), tuple)


def test_doubtful_machines_are_named() -> None:
    """A busy machine and a power-saving governor each give a warning; a quiet one gives none."""
    facts = {
        **describe_machine().to_dict(),
        "gpus": (),
        "cores": 4,
        "load_1min": 0.1,
        "governor": "performance",
    }
    assert Environment(**facts).warnings() == []
    assert "busy" in Environment(**{**facts, "load_1min": 3.0}).warnings()[0]
    assert "governor" in Environment(**{**facts, "governor": "powersave"}).warnings()[0]
