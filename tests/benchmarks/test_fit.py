"""Fitting: constants are recovered from rows that the form made, and thin data is not over-trusted."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from benchmarks.fit_predictor import COMMAND, ORIN_TENSORRT, figures, hold_out
from benchmarks.predictor_fit.fit import NO_BORROWING_COST, fit_all, fit_entry, predict_row
from benchmarks.predictor_fit.memory import fit_memory
from benchmarks.predictor_fit.rows import MemoryRow, PhaseRow, read_rows

from topovlm.errors import InputError
from topovlm.predict.efficiencies import Entry, coefficients, efficiency, pick
from topovlm.predict.phases import Machine

DATA = Path(__file__).parents[2] / "benchmarks" / "data"
FAST = Machine(40e12, 40e12, 200e9, 1.3e9)
SLOW = Machine(10e12, 10e12, 70e9, 0.6e9)


def _row(phase: str, size: float, machine: Machine, model: str, layers: int = 30) -> PhaseRow:
    """A row without a timing: `size` billion weights, 300 prompt tokens."""
    weights = size * 1e9
    return PhaseRow(
        phase=phase,
        family="jetson-orin",
        runtime="tensorrt",
        dtype="w4a16",
        device="fast" if machine is FAST else "slow",
        model=model,
        tool="test",
        seconds=1.0,
        layers=layers,
        layer_params=weights / layers,
        machine=machine,
        linear_flop=2 * 300 * weights,
        weight_bytes=weights / 2,
        read_bytes=weights / 2,
    )


def _truth(phase: str, efficiency: float, layer_kcycles: float, overlap: int = 2) -> Entry:
    return Entry(
        family="jetson-orin",
        runtime="tensorrt",
        dtype="w4a16",
        phase=phase,
        efficiency=efficiency,
        layer_kcycles=layer_kcycles,
        overlap=overlap,
        rows=0,
        spread=0.0,
    )


def _rows(truth: Entry, noise: float = 0.0) -> list[PhaseRow]:
    random = np.random.default_rng(7)
    bare = [
        _row(truth.phase, size, machine, f"m{size}", layers)
        for size, layers in ((0.4, 28), (1.4, 28), (3.6, 36), (7, 32), (13, 40))
        for machine in (FAST, SLOW)
    ]
    exact = [replace(row, seconds=predict_row(truth, row, 0.8)) for row in bare]
    return [replace(row, seconds=row.seconds * float(np.exp(noise * random.normal()))) for row in exact]


@pytest.mark.parametrize(
    "truth",
    [_truth("decode", 0.8, 100), _truth("prefill", 0.5, 400, 1), _truth("prefill", 0.45, 300, 2)],
    ids=lambda truth: f"{truth.phase}-{truth.overlap}",
)
def test_constants_are_recovered(truth: Entry) -> None:
    """Exact rows give back efficiency, cost per layer and how reads overlap."""
    found = fit_entry(_rows(truth), 0.8)
    assert found.efficiency == pytest.approx(truth.efficiency, rel=0.01)
    assert found.layer_kcycles == pytest.approx(truth.layer_kcycles, rel=0.03)
    assert found.host_us_per_layer == 0
    if truth.phase == "prefill":
        assert found.overlap == truth.overlap


def test_a_host_floor_is_recognised() -> None:
    """Tokens that take as long as the host needs to launch their layers, whatever the weights."""
    truth = replace_entry(_truth("decode", 0.8, 0), host_us_per_layer=400.0)
    found = fit_entry(_rows(truth))
    assert found.host_us_per_layer == pytest.approx(400, rel=0.05)
    assert found.layer_kcycles == 0


def test_one_wrong_row_does_not_steer_the_fit() -> None:
    """A row that is off by three leaves the constants within a few per cent."""
    truth = _truth("decode", 0.8, 100)
    rows = _rows(truth)
    rows[6] = replace(rows[6], seconds=rows[6].seconds * 3)
    assert fit_entry(rows).efficiency == pytest.approx(0.8, rel=0.08)


def test_noisy_rows_get_a_wider_spread() -> None:
    """The stated spread follows the held-out error."""
    truth = _truth("decode", 0.8, 100)
    quiet, noisy = fit_entry(_rows(truth, 0.01)), fit_entry(_rows(truth, 0.15))
    assert quiet.spread < 0.1 < noisy.spread


def test_an_entry_that_met_one_device_is_trusted_less() -> None:
    """Beside an entry that met two, the one of a single device has the second's hold-out cost added."""
    rows = _rows(_truth("decode", 0.8, 100), noise=0.05)
    alone = [replace(row, runtime="other") for row in rows if row.device == "fast"]
    both, single = sorted(fit_all([*rows, *alone]), key=lambda entry: entry.runtime, reverse=True)
    assert (both.devices, single.devices) == (("fast", "slow"), ("fast",))
    assert single.spread > fit_entry(alone).spread


def test_borrowing_prefers_the_nearest_and_adds_its_cost() -> None:
    """Same runtime in another format before another runtime before another family."""
    own = replace_entry(_truth("decode", 0.8, 100), rows=9, spread=0.1)
    other_dtype = replace_entry(own, dtype="fp16")
    other_runtime = replace_entry(own, runtime="llama.cpp")
    other_family = replace_entry(own, family="rtx")
    thin = replace_entry(own, dtype="nvfp4", rows=2)
    cost = {**NO_BORROWING_COST, "dtype:decode": 0.2, "runtime:decode": 0.3, "family:decode": 0.5}
    entries = (other_family, other_runtime, other_dtype, thin)
    found = pick(entries, cost, ("jetson-orin", "tensorrt", "w4a16"), "decode")
    assert found.entry == other_dtype
    assert found.spread == pytest.approx(0.3)
    assert found.borrowed
    assert not pick(entries, cost, ("jetson-orin", "tensorrt", "nvfp4"), "decode").borrowed
    far = pick(entries, cost, ("rtx", "llama.cpp", "fp16"), "decode")
    assert far.entry == other_family
    assert far.spread == pytest.approx(0.1 + 0.2 + 0.3)


def replace_entry(entry: Entry, **changes: object) -> Entry:
    """A changed copy."""
    import msgspec

    return msgspec.structs.replace(entry, **changes)


def test_memory_constants_are_recovered() -> None:
    """Fixed bytes, share of the weights, bytes per image token."""
    rows = [
        MemoryRow(f"m{size}", "d", 0.0, size * 1.5e9, size * 0.5e9, tokens)
        for size in (0.5, 1, 2, 4)
        for tokens in (0, 14336)
    ]
    made = [
        replace(row, peak_bytes=row.known_bytes + 7e8 + 0.2 * row.weight_bytes + 2.8e5 * row.image_tokens)
        for row in rows
    ]
    found = fit_memory(made)
    assert found.fixed_bytes == pytest.approx(7e8, rel=0.01)
    assert found.share_of_weights == pytest.approx(0.2, rel=0.02)
    assert found.bytes_per_image_token == pytest.approx(2.8e5, rel=0.01)


def test_the_stored_coefficients_come_from_the_committed_rows() -> None:
    """Same rows by hash; entries for every phase; intervals and held-out figures are there."""
    stored = coefficients()
    rows, memory_rows, digest = read_rows(DATA / "published_rows.json", DATA / "model_shapes.json")
    assert stored.rows_sha256 == digest
    assert len(rows) + len(memory_rows) == 220
    assert stored.generated_by == COMMAND
    assert stored.default_runtime in {entry.runtime for entry in stored.entries}
    for entry in stored.entries:
        assert 0 < entry.efficiency <= 1
        assert entry.spread >= 0.05
    orin = efficiency("jetson-orin", "tensorrt", "w4a16", "prefill")
    assert not orin.borrowed


@pytest.mark.parametrize("kind", ["model", "device"])
def test_the_aims_hold_on_held_out_rows(kind: str) -> None:
    """Orin with TensorRT: rows of every model and device, each left out of the fit and then predicted."""
    rows, _, _ = read_rows(DATA / "published_rows.json", DATA / "model_shapes.json")
    names = {getattr(row, kind) for row in rows if row.key[:2] == ORIN_TENSORRT and row.phase != "vision"}
    judged = hold_out(rows, lambda row: str(getattr(row, kind)), names)
    for phase, median in (("prefill", 0.05), ("decode", 0.09)):
        hits = [hit for hit in judged if hit.row.key[:2] == ORIN_TENSORRT and hit.row.phase == phase]
        assert len(hits) >= 10
        found = figures(hits)
        assert found.median <= median
        assert found.p90 <= 0.15
        assert found.covered is not None
        assert found.covered >= 0.85
        assert found == coefficients().held_out[f"orin-tensorrt {phase}, new {kind}"]


def test_refitting_one_phase_gives_what_is_stored() -> None:
    """The file is the output of the committed command: every entry of a phase, fitted again, agrees."""
    rows, _, _ = read_rows(DATA / "published_rows.json", DATA / "model_shapes.json")
    again = fit_all([row for row in rows if row.phase == "decode"])
    stored = [entry for entry in coefficients().entries if entry.phase == "decode"]
    assert len(stored) > 10
    assert sorted(again, key=key_of) == sorted(stored, key=key_of)


def key_of(entry: Entry) -> tuple[str, str, str]:
    """What an entry is for."""
    return entry.family, entry.runtime, entry.dtype


def test_a_bad_row_is_named(tmp_path: Path) -> None:
    """Number, model and reason, not a traceback."""
    rows = json.loads((DATA / "published_rows.json").read_text())[:2]
    rows[1]["precision"] = "int3"
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(rows))
    with pytest.raises(InputError, match=r"row 2 .*int3"):
        read_rows(path, DATA / "model_shapes.json")
