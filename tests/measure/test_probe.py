"""Profiles of the machine at hand: the fit, the document, and the predictor that reads it."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from msgspec import structs

from tests.runtime.toy_export import Toy
from topovlm.errors import InputError, VerificationError
from topovlm.exporters.onnx.slices import slice_export
from topovlm.machine.environment import describe_machine, versions
from topovlm.machine.telemetry import Doubt
from topovlm.measure.cells import context_limit, default_layer_counts, default_lengths
from topovlm.measure.footprint import Footprint
from topovlm.measure.probe import measure_local
from topovlm.measure.profile import fit_surfaces, memory_line
from topovlm.measure.settings import ProfileRequest, RunSettings, TimingRules
from topovlm.measure.sweep import Sweep, paired_medians
from topovlm.predict.measured import profile_at
from topovlm.predict.profile import Profile, load_profile, save_profile
from topovlm.records import decode, encode

RULES = TimingRules(warmup=1, min_rounds=4, max_rounds=4, memory=False)
ONE_THREAD = RunSettings(threads=1)
SHORT = ProfileRequest(new_tokens=2, rules=RULES, run=ONE_THREAD)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Toy(layers=8).write(tmp_path_factory.mktemp("probe") / "x", ("plain", "fused"))


@pytest.fixture(scope="module")
def profile(folder: Path) -> Profile:
    request = ProfileRequest(images=2, prompt_tokens=12, new_tokens=3, rules=RULES, run=ONE_THREAD)
    return measure_local(folder, request)


def test_profile_says_what_was_measured(folder: Path, profile: Profile) -> None:
    """Depths, workload, raw samples, versions and provenance are all in the profile, which a file keeps."""
    assert decode(encode(profile), Profile, field="profile", name="x") == profile
    assert (profile.target, profile.runtime, profile.dtype) == ("local", "onnxruntime-cpu", "fp32")
    assert (profile.variant, profile.layers) == ("fused", 8)
    assert set(profile.samples) == {"2", "5", "8"}
    assert (profile.depths, profile.lengths) == ((2, 5, 8), (11, 20, 40, 80))
    cells = [cell for at_depth in profile.samples.values() for cell in at_depth.values()]
    assert len(cells) == 12
    assert all(len(samples) == 4 for cell in cells for samples in cell.values())
    assert profile.workload.prompt_tokens == 12
    assert profile.workload.prefill_tokens == 20
    assert profile.workload.visual_tokens == 8
    assert profile.environment.versions["onnxruntime"]
    assert len(profile.model_sha256) == 64
    assert not list(folder.parent.glob(".slices-*"))


def test_lines_come_from_the_samples(profile: Profile) -> None:
    """The surfaces are those of the stored raw samples, the lines those of the surfaces at the workload."""
    samples = {
        (int(n), int(s)): cell for n, at_depth in profile.samples.items() for s, cell in at_depth.items()
    }
    surfaces = fit_surfaces(Sweep(samples, (), 4, "rounds", 0.0), profile.workload.new_tokens)
    for name, surface in surfaces.items():
        assert profile.surfaces[name].coefficients == pytest.approx(surface.coefficients)
    assert profile.phases["prefill"].slope_ms_per_layer == pytest.approx(
        surfaces["prefill"].ms(9, 20) - surfaces["prefill"].ms(8, 20)
    )
    assert profile.phases["token"].intercept_ms == pytest.approx(surfaces["token"].line(21.5, 6).intercept_ms)
    pooled = [value for at in profile.samples.values() for cell in at.values() for value in cell["vision"]]
    assert profile.phases["vision"].slope_ms_per_layer == 0
    assert profile.affine.vision_ms == pytest.approx(np.median(pooled))
    assert min(profile.spread.vision, profile.spread.prefill, profile.spread.decode) >= 0.01
    same = profile_at(profile, prefill_tokens=20, new_tokens=3)
    assert same.affine == profile.affine
    assert same.workload == profile.workload


def test_predictor_reads_the_profile(profile: Profile) -> None:
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
    found = cost.predict_measured(shape, workload, profile, 5, "fp32")
    affine = profile.affine
    assert found.prefill_ms.value == pytest.approx(affine.prefill.at(5))
    assert found.token_ms.value == pytest.approx(affine.decode.at(5))
    assert found.vision_ms.value == pytest.approx(affine.vision_ms)
    assert found.runtime == "onnxruntime-cpu"
    longer = cost.Workload(images=2, prompt_tokens=50, new_tokens=3)
    moved = cost.predict_measured(
        shape, longer, profile_at(profile, prefill_tokens=58, new_tokens=3), 5, "fp32"
    )
    assert moved.prefill_ms.value >= found.prefill_ms.value


def test_memory_is_a_line_too() -> None:
    """Peak bytes of the models over depth, the libraries apart; depths that say nothing are left out."""

    def footprint(libraries: int, peak: int) -> Footprint:
        return Footprint(libraries_bytes=libraries, peak_bytes=peak, load_ms=1.0)

    silent = footprint(5, 5)
    found = memory_line({2: footprint(50, 70), 5: footprint(60, 110), 8: footprint(70, 150), 9: silent})
    assert found is not None
    assert found.slope_bytes_per_layer == pytest.approx(10)
    assert found.intercept_bytes == pytest.approx(0, abs=1e-6)
    assert found.libraries_bytes == 60
    assert memory_line({2: footprint(50, 70), 5: silent}) is None


def test_memory_is_measured_with_the_times(tmp_path: Path) -> None:
    """Models of some size in processes of their own: what they add is told from the libraries."""
    wide = Toy(layers=4, vocab=200_000).write(tmp_path / "x")
    rules = TimingRules(warmup=0, min_rounds=2, max_rounds=2)
    found = measure_local(wide, ProfileRequest(layer_counts=(3,), new_tokens=2, rules=rules, run=ONE_THREAD))
    assert found.memory is not None
    assert found.memory.libraries_bytes > 10 * 2**20
    assert found.memory.at(4) > found.memory.libraries_bytes + 10 * 2**20


def test_given_exports_replace_slices(folder: Path, tmp_path: Path) -> None:
    """Exports of other depths may be given; a wrong or repeated depth is refused."""
    four = slice_export(folder, 4, tmp_path / "four")
    found = measure_local(folder, SHORT, shallower=[(4, four)])
    assert set(found.samples) == {"4", "8"}
    for bad in ([(3, four)], [(4, four), (4, four)], [(8, folder)], []):
        with pytest.raises(InputError, match="shallower"):
            measure_local(folder, SHORT, shallower=bad)


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
    short = {cell: {name: values[:8] for name, values in found.items()} for cell, found in samples.items()}
    assert Sweep(short, (), 8, "rounds", 1.0).drift == 0


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
    found = measure_local(folder, replace(SHORT, prompt_tokens=12, rules=rules))
    assert found.lengths == (16,)
    assert found.rounds <= 2
    assert profile_at(found, prefill_tokens=18) == found


def test_given_lengths_are_timed(folder: Path) -> None:
    """Lengths may be named; the workload's own is among them."""
    found = measure_local(folder, replace(SHORT, prompt_tokens=12, lengths=(30,)))
    assert found.lengths == (16, 30)


def test_default_depths() -> None:
    """Two, six and the middle of the rest beside the dense model; nearer ones where it is small."""
    assert default_layer_counts(16) == [2, 6, 11]
    assert default_layer_counts(28) == [2, 6, 17]
    assert default_layer_counts(9) == [2, 5]
    assert default_layer_counts(8) == [2, 5]
    assert default_layer_counts(3) == [2]
    with pytest.raises(InputError, match="layers"):
        default_layer_counts(2)


def test_saved_profiles_load_back(profile: Profile, tmp_path: Path) -> None:
    """The file is named by target, runtime and dtype; what is no profile is refused."""
    quiet = structs.replace(profile, doubts=())
    path = save_profile(quiet, tmp_path / "profiles")
    assert path.name == "local--onnxruntime-cpu--fp32.json"
    assert load_profile(path) == quiet
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"schema": 7}))
    with pytest.raises(InputError, match="has schema 7"):
        load_profile(other)
    with pytest.raises(InputError, match="exist"):
        load_profile(tmp_path / "none.json")


def test_restless_machines_are_not_filed(profile: Profile, tmp_path: Path) -> None:
    """Throttling or drift: the figures may be used, but are not kept unless one insists."""
    mild = structs.replace(profile, doubts=(Doubt("clocks", "CPU clocks are not locked"),))
    throttled = Doubt("throttling", "throttled: cpu0", grave=True)
    grave = structs.replace(profile, doubts=(*mild.doubts, throttled))
    with pytest.raises(VerificationError, match=r"throttled: cpu0.*measure again"):
        save_profile(grave, tmp_path)
    assert not list(tmp_path.iterdir())
    save_profile(grave, tmp_path, force=True)
    save_profile(mild, tmp_path)


def test_machine_facts() -> None:
    """Facts of this machine are plain JSON, and name neither the host nor the user."""
    machine = describe_machine()
    text = encode(machine).decode()
    assert 1 <= machine.usable_cores <= machine.cores
    assert machine.cpu
    assert machine.versions["onnxruntime"]
    assert os.uname().nodename not in text
    assert versions(("no-such-package",)) == {}


def test_doubtful_machines_are_named() -> None:
    """A busy machine and a power-saving governor each give a warning; a quiet one gives none."""
    quiet = structs.replace(describe_machine(), cores=4, load_1min=0.1, governor="performance")
    assert quiet.warnings() == []
    assert "busy" in structs.replace(quiet, load_1min=3.0).warnings()[0]
    assert "governor" in structs.replace(quiet, governor="powersave").warnings()[0]
