"""A run directory from elsewhere names files outside of it: resuming it touches none of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cases.command import topovlm
from tests.pipeline import deploying


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return deploying.build_model(tmp_path_factory.mktemp("model") / "tiny")


def words(model: Path, out: Path) -> list[str]:
    return [*deploying.arguments(model, out), "--dtype", "fp32"]


def record(out: Path, name: str, outputs: dict[str, str]) -> None:
    folder = out / ".topovlm" / "stages"
    folder.mkdir(parents=True, exist_ok=True)
    held = {"schema": 2, "name": name, "inputs": {}, "outputs": outputs, "value": {}, "seconds": 0}
    (folder / f"{name}.json").write_text(json.dumps(held))


def test_a_resumed_run_deletes_nothing_outside(model: Path, tmp_path: Path) -> None:
    """Absolute names, upwards, through links, of stages that there are and of one that there is not."""
    out, victim = tmp_path / "out", tmp_path / "victim"
    (victim / "sub").mkdir(parents=True)
    (victim / "sub" / "file").write_text("precious")
    (out / "mine").mkdir(parents=True)
    (out / "mine" / "file").write_text("precious")
    (out / "link").symlink_to(victim)
    every = {str(victim): "x", "../victim": "x", "link/sub": "x", "mine": "x"}
    for name in ("report", "select", "prune", "export", "score", "mine"):
        record(out, name, every)
    for name in ("report.json", "run.json"):  # goes when the report's stage is forgotten: we know that it was
        (out / name).write_text("{}")
    command = [sys.executable, "-m", "topovlm", *words(model, out)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as run:
        for _ in range(1200):
            if not (out / "report.json").exists() or run.poll() is not None:
                break
            time.sleep(0.1)
        time.sleep(1)
        run.kill()
        _, said = run.communicate()
    assert not (out / "report.json").exists(), said
    assert not (out / "run.json").exists()
    assert (victim / "sub" / "file").read_text() == "precious"
    assert (out / "mine" / "file").read_text() == "precious"


@pytest.mark.parametrize("place", [".topovlm", ".topovlm/stages", ".topovlm/work", ".topovlm/lock", "logs"])
def test_links_in_a_run_directory_are_refused(model: Path, tmp_path: Path, place: str) -> None:
    """Before anything is read through them, written or swept."""
    out, victim = tmp_path / "out", tmp_path / "victim"
    (victim / "work").mkdir(parents=True)
    (victim / "work" / "file").write_text("precious")
    (out / place).parent.mkdir(parents=True)
    (out / ".topovlm").mkdir(exist_ok=True)
    if place == ".topovlm":
        (out / place).rmdir()
    (out / place).symlink_to(victim)
    done = topovlm(*words(model, out), cwd=tmp_path)
    assert done.refused
    assert place in done.last
    assert [path.name for path in victim.iterdir()] == ["work"]
    assert (victim / "work" / "file").read_text() == "precious"


def test_a_pipe_as_a_record_is_refused(model: Path, tmp_path: Path) -> None:
    """Nobody would ever write into it."""
    (tmp_path / "out" / ".topovlm" / "stages").mkdir(parents=True)
    os.mkfifo(tmp_path / "out" / ".topovlm" / "stages" / "report.json")
    done = topovlm(*words(model, tmp_path / "out"), cwd=tmp_path, limit_s=60)
    assert done.refused
    assert "report.json" in done.last


@pytest.mark.parametrize("name", ["../out/model.safetensors", "/etc/passwd", "sub/a.safetensors", "..", ""])
def test_an_index_names_files_of_its_own_folder(tmp_path: Path, name: str) -> None:
    """The other file that says what is read."""
    from tests.cases.command import edit, mini

    folder = mini(tmp_path / "m", sharded=True)
    edit(folder / "model.safetensors.index.json", lambda whole: whole["weight_map"].update(a=name))
    done = topovlm("prune", "--no-verify", "--model", "m", "--drop", 1, "-o", "o", cwd=tmp_path)
    assert done.refused
    assert "weight_map" in done.last
    assert not (tmp_path / "o").exists()
