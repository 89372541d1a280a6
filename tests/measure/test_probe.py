"""Profiles of the machine at hand: the fit, the document, and the predictor that reads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.runtime.toy_export import Toy
from topovlm.errors import InputError, VerificationError
from topovlm.exporters.onnx.slices import slice_export
from topovlm.machine.environment import Environment, describe_machine, gpus, versions
from topovlm.measure.probe import (
    context_limit,
    default_layer_counts,
    default_lengths,
    load_profile,
    measure_local,
    save_profile,
)
from topovlm.measure.profile import fit_surfaces
from topovlm.measure.sweep import Sweep, paired_medians
from topovlm.measure.timing import TimingRules
from topovlm.predict.surface import Surface, profile_at

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
    assert (profile["depths"], profile["lengths"]) == ([2, 5, 8], [11, 20, 40, 80])
    cells = [cell for at_depth in profile["samples"].values() for cell in at_depth.values()]
    assert len(cells) == 12
    assert all(len(samples) == 4 for cell in cells for samples in cell.values())
    assert profile["workload"]["prompt_tokens"] == 12
    assert profile["workload"]["prefill_tokens"] == 20
    assert set(profile["telemetry"]) == {"before", "after"}
    assert profile["workload"]["visual_tokens"] == 8
    assert profile["environment"]["versions"]["onnxruntime"]
    assert len(profile["model_sha256"]) == 64
    assert not list(folder.parent.glob(".slices-*"))


def test_lines_come_from_the_samples(profile: dict[str, Any]) -> None:
    """The surfaces are those of the stored raw samples, the lines those of the surfaces at the workload."""
    samples = {
        (int(n), int(s)): cell for n, at_depth in profile["samples"].items() for s, cell in at_depth.items()
    }
    surfaces = fit_surfaces(Sweep(samples, (), 4, "rounds", 0.0), profile["workload"]["new_tokens"])
    for name, surface in surfaces.items():
        assert Surface.from_dict(profile["surfaces"][name]).coefficients == pytest.approx(
            surface.coefficients
        )
    assert profile["phases"]["prefill"]["slope_ms_per_layer"] == pytest.approx(
        surfaces["prefill"].ms(9, 20) - surfaces["prefill"].ms(8, 20)
    )
    assert profile["phases"]["token"]["intercept_ms"] == pytest.approx(
        surfaces["token"].line(21.5, 6)["intercept_ms"]
    )
    pooled = [value for at in profile["samples"].values() for cell in at.values() for value in cell["vision"]]
    assert profile["phases"]["vision"]["slope_ms_per_layer"] == 0
    assert profile["affine"]["vision_ms"] == pytest.approx(np.median(pooled))
    assert min(profile["spread"].values()) >= 0.01
    same = profile_at(profile, prefill_tokens=20, new_tokens=3)
    assert same["affine"] == profile["affine"]
    assert same["workload"] == profile["workload"]


def test_predictor_reads_the_profile(profile: dict[str, Any]) -> None:
    """The predictor takes the profile in place of a target and returns the line's values."""
    from topovlm.families.sizes import read_shape
    from topovlm.predict import cost

    facts = {
        "model_type": "llava",
        "vision_feature_select_strategy": "full",
        "text_config": {
            "model_type": "qwen2", "hidden_size": 16, "num_hidden_layers": 8, "num_attention_heads": 2,
            "num_key_value_heads": 2, "intermediate_size": 32, "vocab_size": 40,
        },
        "vision_config": {
            "model_type": "siglip_vision_model", "hidden_size": 16, "num_hidden_layers": 1, "image_size": 8,
            "patch_size": 4, "intermediate_size": 32, "num_attention_heads": 2,
        },
    }  # fmt: skip
    shape = read_shape(facts)
    workload = cost.Workload(images=2, prompt_tokens=12, new_tokens=3)
    found = cost.predict(shape, workload, profile, 5, "fp32")
    affine = profile["affine"]
    for name, interval in (("prefill", found.prefill_ms), ("decode", found.token_ms)):
        line = affine[name]["intercept_ms"] + 5 * affine[name]["slope_ms_per_layer"]
        assert interval.value == pytest.approx(max(0.0, line))
    assert found.vision_ms.value == pytest.approx(affine["vision_ms"])
    assert found.runtime == "onnxruntime-cpu"
    longer = cost.Workload(images=2, prompt_tokens=50, new_tokens=3)
    moved = cost.predict(shape, longer, profile_at(profile, prefill_tokens=58, new_tokens=3), 5, "fp32")
    assert moved.prefill_ms.value >= found.prefill_ms.value


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


def test_slow_rounds_do_not_bend_the_medians() -> None:
    """Rounds that are slow as a whole leave the ratios between cells exact."""
    rng = np.random.default_rng(0)
    rounds = rng.uniform(1, 10, 30)
    cells = [(n, s) for n in (4, 10, 16) for s in (50, 100)]
    medians = paired_medians({(n, s): (rounds * (2 + n) * s).tolist() for n, s in cells})
    for n, s in cells:
        assert medians[n, s] / medians[4, 50] == pytest.approx((2 + n) * s / 300)
    assert medians[4, 50] == pytest.approx(300 * np.median(rounds), rel=0.05)


def test_drift_is_that_of_the_pace() -> None:
    """A run that slows down by a tenth says so; noise of single cells does not count."""
    rng = np.random.default_rng(1)
    pace = np.repeat([1.0, 1.05, 1.1], 10)
    samples = {
        (n, 50): {name: (n * pace * rng.normal(1, 0.01, 30)).tolist() for name in ("prefill", "token")}
        for n in (2, 6, 16, 20)
    }
    assert Sweep(samples, (), 30, "rounds", 1.0).drift == pytest.approx(0.1, abs=0.01)
    assert Sweep(samples, (), 8, "rounds", 1.0).drift == 0


def test_default_lengths_stay_within_the_context(tmp_path: Path) -> None:
    """From the bare template to four times the workload, as far as the positions reach."""
    assert default_lengths(39, 55, 2048, 8) == [39, 55, 110, 220]
    assert default_lengths(39, 55, 128, 8) == [39, 55, 110, 120]
    assert default_lengths(55, 55, 60, 8) == [55]
    assert default_lengths(39, 55, None, 8)[-1] == 220
    assert context_limit(tmp_path) is None
    (tmp_path / "config.json").write_text('{"text_config": {"max_position_embeddings": 512}}')
    assert context_limit(tmp_path) == 512


def test_slow_machines_time_fewer_lengths(folder: Path) -> None:
    """Where the least number of rounds would overrun the limit, the workload alone is timed."""
    rules = TimingRules(warmup=1, min_rounds=2, max_rounds=2, time_limit_s=1e-4, memory=False)
    found = measure_local(folder, prompt_tokens=12, new_tokens=2, threads=1, rules=rules)
    assert found["lengths"] == [16]
    assert found["stopped"] in ("time", "rounds")
    assert profile_at(found, prefill_tokens=18) == found


def test_given_lengths_are_timed(folder: Path) -> None:
    """Lengths may be named; the workload's own is among them."""
    found = measure_local(folder, lengths=[30], prompt_tokens=12, new_tokens=2, threads=1, rules=RULES)
    assert found["lengths"] == [16, 30]


def test_default_depths() -> None:
    """Two, six and the middle of the rest beside the dense model; nearer ones where it is small."""
    assert default_layer_counts(16) == [2, 6, 11]
    assert default_layer_counts(28) == [2, 6, 17]
    assert default_layer_counts(9) == [2, 5]
    assert default_layer_counts(8) == [2, 5]
    assert default_layer_counts(3) == [2]
    with pytest.raises(InputError, match="layers"):
        default_layer_counts(2)


def test_saved_profiles_load_back(profile: dict[str, Any], tmp_path: Path) -> None:
    """The file is named by target, runtime and dtype; what is no profile is refused."""
    path = save_profile({**profile, "doubts": []}, tmp_path / "profiles")
    assert path.name == "local--onnxruntime-cpu--fp32.json"
    assert load_profile(path) == {**profile, "doubts": []}
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"schema": 7}))
    with pytest.raises(InputError, match="no profile"):
        load_profile(other)
    with pytest.raises(InputError, match="exist"):
        load_profile(tmp_path / "none.json")


def test_restless_machines_are_not_filed(profile: dict[str, Any], tmp_path: Path) -> None:
    """Throttling or drift: the figures may be used, but are not kept unless one insists."""
    mild = {"kind": "clocks", "text": "CPU clocks are not locked", "grave": False}
    grave = {"kind": "throttling", "text": "throttled: cpu0", "grave": True}
    with pytest.raises(VerificationError, match=r"throttled: cpu0.*measure again"):
        save_profile({**profile, "doubts": [mild, grave]}, tmp_path)
    assert not list(tmp_path.iterdir())
    save_profile({**profile, "doubts": [mild, grave]}, tmp_path, force=True)
    save_profile({**profile, "doubts": [mild]}, tmp_path)


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
