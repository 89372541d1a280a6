"""Healing as a part of a deployment: asked for, expected, refused, told in the report."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests import tiny
from tests.pipeline import deploying
from tests.pipeline.test_data import context, data_file
from topovlm import cli
from topovlm.checkpoint.live import load
from topovlm.choose.costs import measure_costs
from topovlm.choose.heal import state
from topovlm.choose.heal.state import Kept, Standing
from topovlm.config import resolve
from topovlm.errors import InputError
from topovlm.exit_codes import ExitCode
from topovlm.machine.host import memory_bound
from topovlm.pipeline import preflight
from topovlm.pipeline.context import Context
from topovlm.pipeline.expected import stage_seconds
from topovlm.pipeline.healing import healing_bytes
from topovlm.report.store import read_report


@pytest.fixture
def here(model: Path, tmp_path: Path) -> Context:
    return context(model, tmp_path / "out")


def healing(here: Context, heal_ms: float = 600_000.0) -> Context:
    return replace(here, config=replace(here.config, heal_ms=heal_ms))


def test_the_time_is_given_with_its_unit() -> None:
    """Nothing is healed unless it is asked for; the flag is spelled back as it can be read."""
    assert resolve({}).heal_ms is None
    config = resolve({"heal": "10min"})
    assert config.heal_ms == 600_000
    assert resolve({"heal": config.words()[config.words().index("--heal") + 1]}).heal_ms == 600_000
    with pytest.raises(InputError, match="--heal"):
        resolve({"heal": "10"})


def test_a_healed_deployment_tells_what_it_did(model: Path, tmp_path: Path) -> None:
    """Measured figures in the record, the report and the model's card; the graphs are of the healed model; it
    is reused as it is, and its state is gone."""
    out = tmp_path / "out"
    code, _ = deploying.deploy(model, out, "--heal", "4s", "--repair", "cuts")
    assert code == 0
    record = json.loads((out / ".topovlm" / "stages" / "prune.json").read_text())["value"]
    heal, repair = record["heal"], record["repair"]
    assert heal["kept"]
    assert heal["steps"] > 0
    assert heal["kl_after"] < heal["kl_before"]
    assert heal["kl_before"] == pytest.approx(repair["kl_after"], rel=0.01)  # it begins where the repair ends
    assert heal["confirm_samples"] == repair["confirm_samples"]
    report = read_report(out)
    assert report.selection is not None
    assert report.selection.heal is not None
    assert report.selection.heal.after == heal["kl_after"]
    assert re.search(r"Healing: \d+ s of training", (out / "report.md").read_text())
    assert "## Healing" in (out / "model" / "README.md").read_text()
    assert not (out / ".topovlm" / "shards").exists()
    deploying.deploy(model, out, "--heal", "4s", "--repair", "cuts")
    assert deploying.stages_run(out) == []


def test_a_killed_run_goes_on_with_its_training(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time that was spent is not spent again: the state outlives the process that wrote it."""
    written: list[float] = []
    resumed: list[float] = []
    write, read = Kept.write, Kept.read

    def killed(self: Kept, standing: Standing, *rest: Any) -> None:
        write(self, standing, *rest)
        written.append(standing.elapsed_s)
        raise KeyboardInterrupt

    def watched(self: Kept, *rest: Any) -> Any:
        found = read(self, *rest)
        resumed.extend([found[0].elapsed_s] if found else [])
        return found

    monkeypatch.setattr(state, "_LEAST_S", 0.5)
    out, asked = tmp_path / "out", ("--heal", "2s", "--until", "prune", "--repair", "cuts")
    with monkeypatch.context() as patch:
        patch.setattr(Kept, "write", killed)
        assert cli.main(deploying.arguments(model, out, *asked)) == ExitCode.INTERRUPTED
    monkeypatch.setattr(Kept, "read", watched)
    code, _ = deploying.deploy(model, out, *asked)
    assert code == 0
    assert resumed == written
    assert resumed[0] >= 0.5


def test_samples_that_confirm_nothing_are_refused(model: Path, tmp_path: Path) -> None:
    """Before anything is written: with few questions none is left that could say whether it helps."""
    out = tmp_path / "out"
    few = ("--data", str(data_file(tmp_path, 40)), "--samples", "16")
    assert cli.main(deploying.arguments(model, out, "--heal", "10min", *few)) == 2
    assert not out.exists()


def test_its_memory_and_its_time_are_expected(here: Context, model: Path) -> None:
    """Gradients and moments of what is trained; the time given, and the dense model's answers before."""
    usual, more = ({need.stage: need for need in preflight.needs(one, None)} for one in (here, healing(here)))
    grown = more["prune"].memory_bytes - usual["score"].memory_bytes
    assert grown >= healing_bytes(healing(here), 1)
    assert more["prune"].disk_bytes > usual["prune"].disk_bytes
    costs = measure_costs(load(model), tiny.samples(1)[0])
    seconds = [stage_seconds(one, costs, costs, 6)["prune"] for one in (here, healing(here))]
    assert seconds[1] > seconds[0] + 600


def test_a_model_too_large_to_train_is_refused_by_name(
    here: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that can be cut here layer by layer, but not held whole."""
    monkeypatch.setattr(preflight, "healing_bytes", lambda *_: 1 << 40)
    with memory_bound(64 << 30), pytest.raises(InputError, match=r"stage prune.*leave --heal out"):
        preflight.refuse_too_little(healing(here))
