"""Bad input through the command line: exit code, one clear sentence, no traceback, nothing half-written."""

from __future__ import annotations

import json
import os
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests import tiny
from topovlm import cli

TARGET = ["--target", "jetson-orin"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.build(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def deploy(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Runs `topovlm deploy` into tmp_path/out; returns (exit code, message); checks what must always hold."""

    def run(*words: str, folder: Path | None = None, out: Path | None = None) -> tuple[int, str]:
        target = out or tmp_path / "out"
        before = target.exists()
        code = cli.main(["deploy", "--model", str(folder or model), "-o", str(target), *words])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        assert captured.out == ""
        assert before or not target.exists() or code == 0, "something was written"
        return code, captured.err.splitlines()[-1]

    return run


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 2, "--target = None: is missing"),
        (["--target", "jetson-orinn"], 2, "Did you mean jetson-orin"),
        (["--target", "jetson-orin@99W"], 2, "is not a power mode of jetson-agx-orin-64gb"),
        ([*TARGET, "--max-latency", "200"], 2, "has no unit"),
        ([*TARGET, "--max-latency", "0.01ms"], 3, "Infeasible on Jetson AGX Orin 64GB"),
        ([*TARGET, "--max-memory", "1MiB"], 3, "of the 1.00 MiB of the budget"),
        ([*TARGET, "--drop", "99"], 2, "the model has layers 0 to 5"),
        ([*TARGET, "--scorer", "zigzagg"], 2, "is none of zigzag"),
        ([*TARGET, "--data", "/nothing/here.jsonl"], 2, "does not exist"),
        ([*TARGET, "--config", "/nothing/here.toml"], 2, "does not exist"),
        (["--target", "local", "--format", "onnx,tensorrt"], 2, "has no known NVIDIA compute capability"),
    ],
)
def test_bad_options(deploy, words: list[str], code: int, message: str) -> None:
    """Unknown names, missing units, impossible budgets: the message says what to do."""
    got, text = deploy(*words)
    assert got == code
    assert message in text


def test_an_infeasible_budget_names_its_floor(deploy) -> None:
    """What binds, with its figure: here the vision encoder alone takes more than the whole budget."""
    code, text = deploy(*TARGET, "--max-latency", "0.01ms")
    assert code == 3
    assert "the vision encoder alone takes" in text


@pytest.mark.skipif(find_spec("tensorrt_rtx") is not None, reason="TensorRT-RTX is installed")
def test_an_engine_without_its_builder_says_how_to_get_it(deploy) -> None:
    """An RTX target with --format tensorrt and no extra: exit code 5 before anything runs."""
    code, text = deploy("--target", "rtx-4090", "--format", "onnx,tensorrt")
    assert code == 5
    assert "topovlm[tensorrt-rtx]" in text


def spoilt(model: Path, folder: Path, how: str) -> Path:
    """A model folder with one thing wrong."""
    shutil.copytree(model, folder)
    weights = folder / "model.safetensors"
    data = weights.read_bytes()
    if how == "no config":
        (folder / "config.json").unlink()
    elif how == "broken config":
        (folder / "config.json").write_text("{")
    elif how == "no weights":
        weights.unlink()
    elif how == "pickle":
        weights.unlink()
        (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    elif how == "cut short":
        weights.write_bytes(data[: len(data) // 2])
    elif how == "garbage":
        weights.write_bytes(b"\xff" * 4096)
    elif how == "empty":
        weights.write_bytes(b"")
    elif how == "another family":
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "model_type": "blip_2"}))
    return folder


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("no config", "has no config.json"),
        ("broken config", "is not JSON"),
        ("no weights", "has no weights"),
        ("pickle", "holds only pickled weights"),
        ("cut short", "is truncated"),
        ("garbage", "is not a safetensors file"),
        ("empty", "is truncated"),
        ("another family", "is not supported yet"),
    ],
)
def test_bad_models(deploy, model: Path, tmp_path: Path, how: str, message: str) -> None:
    """A folder that is no usable checkpoint is refused before anything is written."""
    code, text = deploy(*TARGET, folder=spoilt(model, tmp_path / "spoilt", how))
    assert code == 2
    assert message in text


def test_a_model_that_is_nowhere(deploy, tmp_path: Path) -> None:
    """A path that does not exist is not looked up on the hub."""
    code, text = deploy(*TARGET, folder=tmp_path / "absent")
    assert code == 2
    assert "is neither a folder nor a hub id" in text


@pytest.mark.parametrize("how", ["absent", "broken", "bad json", "too few"])
def test_bad_data_is_named_by_line(deploy, tmp_path: Path, how: str) -> None:
    """Pictures are checked before anything runs; the message starts with file:line."""
    tiny.picture(0).save(tmp_path / "good.png")
    (tmp_path / "broken.png").write_bytes((tmp_path / "good.png").read_bytes()[:60])
    good = json.dumps({"image": "good.png", "prompt": "?", "answer": "a"})
    lines = [good.replace('"prompt"', f'"id": "{n}", "prompt"') for n in range(3 if how == "too few" else 20)]
    if how in ("absent", "broken"):
        lines[6] = json.dumps({"image": f"{how}.png", "prompt": "?"})
    if how == "bad json":
        lines[6] = "{"
    data = tmp_path / "data.jsonl"
    data.write_text("\n".join(lines))
    code, text = deploy(*TARGET, "--data", str(data))
    assert code == 2
    assert (f"{data}:7: " in text) or ("at least 16" in text and how == "too few")


def test_an_output_that_is_a_file(deploy, tmp_path: Path) -> None:
    """The file is left alone."""
    (tmp_path / "out").write_text("mine")
    code, text = deploy(*TARGET)
    assert code == 2
    assert "is a file, not a directory" in text
    assert (tmp_path / "out").read_text() == "mine"


def test_an_output_with_somebodys_files(deploy, tmp_path: Path) -> None:
    """A folder that is no run directory is not written to."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    code, text = deploy(*TARGET)
    assert code == 2
    assert "is no run directory" in text
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_a_read_only_output(deploy, tmp_path: Path) -> None:
    """Said before any work: where, and what to do. Root may write anywhere but into the kernel's files."""
    place = tmp_path / "locked"
    place.mkdir(mode=0o555)
    if os.access(place, os.W_OK):
        place = Path("/sys")
    if not place.is_dir():
        pytest.skip("no read-only place on this system")
    code, text = deploy(*TARGET, out=place / "out")
    assert code == 2
    assert "permitted" in text or "read-only" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["prune", "-o", "x"], "--drop = None: is missing"),
        (["check", "nothing", "--baseline", "nothing"], "nothing"),
        (["report", "nothing"], "nothing"),
        (["run", "nothing", "--prompt", "?"], "no such folder"),
        (["bench", "nothing"], "no such folder"),
        (["eval", "nothing"], "no such folder"),
    ],
)
def test_other_commands_refuse_what_is_not_there(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2 and a sentence that names it."""
    assert cli.main(words) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err


def test_a_dry_run_writes_nothing(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--dry-run is the plan, and only the plan."""
    words = ["deploy", *TARGET, "--max-latency", "200ms", "--model", str(model), "--dry-run", "--json"]
    assert cli.main([*words, "-o", str(tmp_path / "out")]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == "dense"
    assert list(tmp_path.iterdir()) == []


def test_a_plan_reads_no_weights(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """config.json is enough."""
    shutil.copy(model / "config.json", tmp_path / "config.json")
    words = ["plan", *TARGET, "--max-latency", "60%", "--model", str(tmp_path), "--json"]
    assert cli.main(words) == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == "prune"
