"""A sweep in this process: each combination is what `deploy` makes of it, the table says what came of all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import topovlm
from tests.pipeline import deploying
from tests.sweeps import sweeping
from topovlm import records
from topovlm.console import Display
from topovlm.errors import InputError
from topovlm.report.store import read_report
from topovlm.sweeps.record import SCHEMA, Sweep

Finished = tuple[Path, int, dict[str, Any]]


def test_each_combination_is_the_deployment_with_its_options(
    finished: Finished, model: Path, tmp_path: Path
) -> None:
    """The same content hash, although what does not depend on the budget was computed once."""
    out, _, found = finished
    first, _, last = found["rows"]
    budget = ["--target", sweeping.TARGET, "--max-latency", "80%"]
    code, alone = deploying.deploy(model, tmp_path / "alone", "--repair", "off", budget=budget)
    assert (code, alone["content_hash"]) == (0, last["content_hash"])
    assert (last["keep_layers"], last["dropped"]) == (alone["keep_layers"], alone["dropped"])
    for name in (".topovlm/results/states.npy", "baseline/topovlm_runtime.json"):
        assert (out / first["run"] / name).samefile(out / last["run"] / name)
    code, again = deploying.deploy(model, out / last["run"], "--repair", "off", budget=budget)
    assert (code, again["content_hash"]) == (0, last["content_hash"])
    assert deploying.stages_run(out / last["run"]) == []


def test_a_combination_that_cannot_be_met_is_a_row(finished: Finished) -> None:
    """With the reason; those behind it ran, and the exit code is its own."""
    out, code, found = finished
    assert code == 3
    assert [row["verdict"] for row in found["rows"]] == ["prune", "infeasible", "prune"]
    infeasible = found["rows"][1]
    assert infeasible["ended"]["kind"] == "BudgetError"
    assert "Infeasible on Jetson Orin Nano" in infeasible["ended"]["message"]
    assert infeasible["latency"] is None
    assert not (out / infeasible["run"]).exists()


def test_the_files_say_what_the_command_prints(finished: Finished) -> None:
    """sweep.json is the document; sweep.md has a line per combination, and no figure without its kind."""
    out, _, found = finished
    read = records.read(out / "sweep.json", Sweep, field="sweep", schema=SCHEMA)
    assert {**records.plain(read), "wall_s": 0} == {**found, "wall_s": 0}
    assert read.combinations == len(read.rows) == 3
    page = (out / "sweep.md").read_text(encoding="utf-8")
    assert page.startswith("# 2 of 3 combinations deployed\n")
    for row in read.rows:
        (line,) = [line for line in page.splitlines() if line.startswith("|") and row.run in line]
        if row.latency is not None:
            assert f"]({row.run}/report.md)" in line
            assert (out / row.run / "report.md").is_file()
            assert "ms), predicted |" in line
            assert "%), measured |" in line


def test_figures_are_those_of_the_reports(finished: Finished) -> None:
    """Predicted for a board's time to first token, measured for answers; with their intervals."""
    out, _, found = finished
    for row in (found["rows"][0], found["rows"][2]):
        report = read_report(out / row["run"])
        kept = next(line for line in report.plan.rows if line.kept == row["keep_layers"])
        assert row["latency"] == records.plain(kept.ttft)
        assert row["latency"]["kind"] == "predicted"
        assert report.accuracy is not None
        for name in ("dense", "slim", "difference"):
            assert row[name] == records.plain(getattr(report.accuracy.overall, name))


def test_running_again_reuses_what_is_finished(finished: Finished, model: Path) -> None:
    """As after a kill: no stage runs a second time, and the rows are the same."""
    out, code, found = finished
    again = sweeping.sweep(model, out)
    assert (again[0], sweeping.hashes(again[1])) == (code, sweeping.hashes(found))
    for row in found["rows"]:
        assert row["ended"] or deploying.stages_run(out / row["run"]) == []


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--target", f"{sweeping.TARGET},jetson-orinn"), "--target = 'jetson-orinn': is not a known target"),
        (("--model", "reference,/nowhere"), "--model = '/nowhere'"),
        (("--scorer", "zigzagg"), "zigzagg"),
        (("--data", "/nowhere.jsonl"), "/nowhere.jsonl"),
        (("--dtype", "w4a16"), "--dtype = 'w4a16'"),
        (("--max-lat", "60%"), "--max-lat"),
        (("--workers", "ray://127.0.0.1:1"), "does not answer"),
    ],
)
def test_what_concerns_all_is_refused_before_anything_runs(
    tmp_path: Path, more: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One sentence, exit code of its kind, and nothing is written."""
    code, found = sweeping.sweep("reference", tmp_path / "out", *more)
    assert code == found["error"]["exit_code"] == (5 if "--workers" in more else 2)
    assert message in found["error"]["message"]
    assert not (tmp_path / "out").exists()


def test_other_directories_are_left_alone(finished: Finished, tmp_path: Path) -> None:
    """A directory that no sweep made, one run's among them; and a run does not go into a sweep's."""
    out, _, found = finished
    (tmp_path / "mine").write_text("mine")
    for place in (tmp_path, out / found["rows"][0]["run"]):
        code, answer = sweeping.sweep("reference", place)
        assert (code, answer["error"]["kind"]) == (2, "InputError")
        assert "is not empty and is no directory of a sweep" in answer["error"]["message"]
    with pytest.raises(InputError, match="is no run directory"):
        topovlm.deploy(target="jetson-orin", output=out)


def test_an_unexpected_error_is_a_row_with_a_log(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever ends one deployment: the others go on, and the traceback is kept."""
    from topovlm.sweeps import task

    deploy = task.deploy

    def fails_once(config: Any, *given: Any, **more: Any) -> Any:
        if config.max_latency.share_of_dense == 0.7:
            raise ZeroDivisionError("by zero")
        return deploy(config, *given, **more)

    monkeypatch.setattr(task, "deploy", fails_once)
    found = topovlm.sweep(
        model=model, target=sweeping.TARGET, max_latency=["70%", "80%"], until="plan", output=tmp_path / "out"
    )
    first, second = found.rows
    assert first.ended is not None
    assert (first.verdict, first.ended.kind) == ("failed", "InternalError")
    assert "ZeroDivisionError: by zero" in first.ended.message
    assert "fails_once" in (tmp_path / "out" / ".sweep" / f"{first.run}.log").read_text()
    assert (second.verdict, second.latency, second.deployed) == ("prune", None, True)


def test_an_interrupted_sweep_says_how_far_it_came(model: Path, tmp_path: Path) -> None:
    """Rows are on the disk as they come, those of an earlier sweep are not."""

    class Stops(Display):
        """Ctrl-C when the second combination begins."""

        def note(self, text: str) -> None:
            if text.endswith("(2 of 2)"):
                raise KeyboardInterrupt

    asked = {"model": model, "target": sweeping.TARGET, "max_latency": "70%,80%", "until": "plan"}
    topovlm.sweep(**asked, output=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        topovlm.sweep(**asked, output=tmp_path, display=Stops(quiet=True))
    document = json.loads((tmp_path / "sweep.json").read_text())
    assert (document["combinations"], len(document["rows"])) == (2, 1)
    assert "1 of 2 combinations deployed, 1 have not ended yet" in (tmp_path / "sweep.md").read_text()
