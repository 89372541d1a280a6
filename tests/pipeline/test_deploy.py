"""The whole chain on a tiny model: what is written, what is reused, what a kill leaves."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

import topovlm
from tests.pipeline import deploying
from topovlm.errors import BudgetError
from topovlm.pipeline.attempts import assess
from topovlm.pipeline.record import Attempt
from topovlm.report.store import read_report


def test_everything_promised_is_there(finished: tuple[Path, dict]) -> None:
    """Plan, scores, selection, checkpoint, graphs, three reports and the run file; nothing temporary."""
    out, outcome = finished
    names = {path.name for path in out.iterdir()}
    expected = {"plan.json", "scores.json", "selection.json", "model", "onnx", "baseline", "logs", "run.json"}
    assert names == expected | {"report.json", "report.md", "report.html", ".topovlm"}
    assert not list(out.rglob("*.tmp"))
    assert outcome["verdict"] == "prune"
    assert outcome["keep_layers"] == 8 - len(outcome["dropped"]) < 8
    config = json.loads((out / "model" / "config.json").read_text())
    assert config["text_config"]["num_hidden_layers"] == outcome["keep_layers"]


def test_the_run_file_says_how_to_repeat_it(finished: tuple[Path, dict]) -> None:
    """Command line, resolved configuration, seed, versions, licence, digests and times of each stage."""
    out, _ = finished
    document = json.loads((out / "run.json").read_text())
    assert document["argv"][:2] == ["topovlm", "deploy"]
    assert document["config"]["max_latency"] == {"absolute_ms": None, "share_of_dense": 0.7}
    assert document["repeat"][:2] == ["topovlm", "deploy"]
    assert document["repeat"][document["repeat"].index("--max-latency") + 1] == "70%"
    assert document["seed"] == 0
    assert document["model"]["licence"] == "apache-2.0"
    assert {"torch", "onnxruntime"} <= set(document["versions"])
    for facts in document["stages"].values():
        assert len(facts["inputs_sha256"]) == 64


def test_the_report_holds_raw_data_and_marks_kinds(finished: tuple[Path, dict]) -> None:
    """Answers and timings of both models; the target's figures are predicted, this machine's measured."""
    out, outcome = finished
    report = read_report(out)
    assert report.accuracy is not None
    assert len(report.accuracy.questions) == 12
    assert report.latency is not None
    assert not report.latency.is_target
    assert all(phase.dense.kind == "measured" for phase in report.latency.phases)
    assert all(row.ttft.kind == "predicted" for row in report.plan.rows)
    assert report.selection is not None
    assert list(report.selection.dropped) == outcome["dropped"]
    assert {layer.decision for layer in report.selection.layers} >= {"dropped", "protected"}
    assert all(check.passed for check in report.verifications)


def test_the_deployed_folder_answers(finished: tuple[Path, dict], capsys: pytest.CaptureFixture[str]) -> None:
    """`topovlm run RUN` finds the exported model in a run directory."""
    from topovlm import cli

    assert cli.main(["run", str(finished[0]), "--prompt", "Hello?", "--max-new-tokens", "3", "--json"]) == 0
    assert 1 <= len(json.loads(capsys.readouterr().out)["token_ids"]) <= 3


def test_running_again_reuses_every_stage(finished: tuple[Path, dict], model: Path, tmp_path: Path) -> None:
    """Same inputs: nothing runs, the content hash is the same."""
    out = deploying.copy_without(finished[0], tmp_path / "out")
    code, outcome = deploying.deploy(model, out)
    assert code == 0
    assert outcome["content_hash"] == finished[1]["content_hash"]
    assert deploying.stages_run(out) == []


@pytest.mark.parametrize("name", ["onnx/onnx/*.onnx*", "model/model.safetensors", "report.html"])
def test_changed_bytes_of_the_same_size_and_time_do_not_ship(
    finished: tuple[Path, dict], model: Path, tmp_path: Path, name: str
) -> None:
    """Every result that is reused has been read again: one that was changed is made again, the same."""
    out, outcome = finished
    shutil.copytree(out, tmp_path / "out")
    file = max((tmp_path / "out").glob(name), key=lambda path: path.stat().st_size)
    before, sound = file.stat(), file.read_bytes()
    file.write_bytes(sound[:-9] + bytes([sound[-9] ^ 1]) + sound[-8:])
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    code, again = deploying.deploy(model, tmp_path / "out")
    assert (code, again["content_hash"]) == (0, outcome["content_hash"])
    assert "report" in deploying.stages_run(tmp_path / "out")
    if name != "report.html":
        assert file.read_bytes() == sound


def test_a_changed_option_runs_only_what_depends_on_it(
    finished: tuple[Path, dict], model: Path, tmp_path: Path
) -> None:
    """Other questions: accuracy and report are made again, nothing else."""
    out = deploying.copy_without(finished[0], tmp_path / "out")
    code, _ = deploying.deploy(model, out, "--eval-samples", "10")
    assert code == 0
    assert deploying.stages_run(out) == ["evaluate-dense", "evaluate-slim", "report"]


def test_a_looser_budget_deploys_the_dense_model(
    finished: tuple[Path, dict], model: Path, tmp_path: Path
) -> None:
    """The dense graphs are deployed, the report says so, and no slim result stays behind."""
    out = deploying.copy_without(finished[0], tmp_path / "out")
    loose = ["--target", "jetson-orin", "--max-latency", "200ms"]
    code, outcome = deploying.deploy(model, out, budget=loose)
    assert code == 0
    assert (outcome["verdict"], outcome["keep_layers"], outcome["dropped"]) == ("dense", 8, [])
    assert not (out / "model").exists()
    assert not (out / "selection.json").exists()
    report = read_report(out)
    assert report.slim is None
    manifest = json.loads((out / "onnx" / "topovlm_runtime.json").read_text())
    assert manifest["decoder"]["layers"] == 8
    assert "export-dense" not in deploying.stages_run(out)


def kill_in_stage(command: list[str], out: Path, stage: str) -> None:
    """Start a run and SIGKILL it while it works on `stage`."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    work = out / ".topovlm" / "work" / stage
    deadline = time.monotonic() + 300
    while not work.exists():
        assert process.poll() is None, f"ended before {stage}: {process.stderr and process.stderr.read()}"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert process.stderr is not None
    process.stderr.close()


@pytest.mark.parametrize("stage", ["select", "export"])
def test_a_killed_run_resumes_to_the_same_report(
    finished: tuple[Path, dict], model: Path, tmp_path: Path, stage: str
) -> None:
    """SIGKILL inside a stage: no report, no half-written result; the next run ends with the same content."""
    later = ["select", "prune", "export", "measure", "evaluate-slim"]
    out = deploying.copy_without(finished[0], tmp_path / "out", *later[later.index(stage) :])
    kill_in_stage([sys.executable, "-m", "topovlm", *deploying.arguments(model, out)], out, stage)
    assert not (out / "report.json").exists()
    code, outcome = deploying.deploy(model, out)
    assert code == 0
    assert outcome["content_hash"] == finished[1]["content_hash"]
    assert not (out / ".topovlm" / "work" / stage).exists()


def test_this_machine_as_the_target(finished: tuple[Path, dict], model: Path, tmp_path: Path) -> None:
    """`local` is profiled, the plan is marked as measured here, and attempts are recorded."""
    out = deploying.copy_without(finished[0], tmp_path / "out")
    code, outcome = deploying.deploy(model, out, budget=["--target", "local", "--sparsity", "25%"])
    assert code == 0
    assert outcome["keep_layers"] == 6
    assert [attempt["met"] for attempt in outcome["attempts"]] == [True]
    assert json.loads((out / "profile.json").read_text())["target"] == "local"
    report = read_report(out)
    assert report.plan.predictor == "measured-here"
    assert report.latency is not None
    assert report.latency.is_target


def test_a_measured_miss_says_which_budget(
    finished: tuple[Path, dict], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Layers named by hand that measure too slow: the error names the budget, and why it ends."""
    from topovlm.pipeline import deploy

    def too_slow(*asked: Any) -> Attempt:
        return structs.replace(
            assess(*asked), met=False, missed=("max_token_latency",), text="5 ms per token"
        )

    monkeypatch.setattr(deploy, "assess", too_slow)
    out = deploying.copy_without(finished[0], tmp_path / "out")
    with pytest.raises(BudgetError) as caught:
        topovlm.deploy(
            target="local",
            drop="6-7",
            max_token_latency="10s",
            model=model,
            output=out,
            **deploying.SMALL_OPTIONS,
        )
    error = caught.value
    assert (error.field, error.value, error.rule) == ("--max-token-latency", "10000ms", "5 ms per token")
    assert "--drop says which layers go" in error.remedy
    assert not (out / "report.json").exists()


def test_layers_by_hand(finished: tuple[Path, dict], model: Path, tmp_path: Path) -> None:
    """--drop says exactly what goes, protected or not."""
    out = deploying.copy_without(finished[0], tmp_path / "out")
    code, outcome = deploying.deploy(model, out, "--drop", "6-7", budget=["--target", "jetson-orin"])
    assert code == 0
    assert outcome["dropped"] == [6, 7]


def test_user_data_is_split_and_used(model: Path, tmp_path: Path) -> None:
    """--data: half calibrates, the rest with answers is held out; the report names the file."""
    from tests import tiny

    lines = []
    for number in range(24):
        tiny.picture(number, 32).save(tmp_path / f"{number}.png")
        lines.append({"image": f"{number}.png", "prompt": f"What is {number}?", "answer": "yes"})
    data = tmp_path / "mine.jsonl"
    data.write_text("\n".join(map(json.dumps, lines)))
    more = ["--data", str(data), "--scorer", "zigzag-seed", "--sparsity", "25%"]
    code, outcome = deploying.deploy(model, tmp_path / "out", *more, budget=["--target", "jetson-orin"])
    assert code == 0
    assert outcome["keep_layers"] == 6
    report = read_report(tmp_path / "out")
    assert report.accuracy is not None
    assert report.selection is not None
    assert report.selection.calibration_samples == 12
    assert len(report.accuracy.questions) == 12
    assert report.provenance.data_source == "mine.jsonl"
    assert report.selection.judge is None


def test_python_resumes_what_the_command_began(
    model: Path, finished: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    """`topovlm.deploy` with the same options has the same keys: nothing runs again."""
    out, outcome = finished
    shutil.copytree(out, tmp_path / "out")
    found = topovlm.deploy(
        target="jetson-orin-nano-8gb@7W",
        max_latency="70%",
        model=model,
        output=tmp_path / "out",
        **deploying.SMALL_OPTIONS,
    )
    assert deploying.stages_run(tmp_path / "out") == []
    assert list(found.dropped) == outcome["dropped"]
    assert found.content_hash == outcome["content_hash"]
