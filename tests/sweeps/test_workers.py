"""A sweep on a real Ray gives what this process gives, also when a worker is killed in the middle."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.sweeps import sweeping
from topovlm.errors import InputError
from topovlm.sweeps.combinations import combinations
from topovlm.sweeps.task import DeployTask, inputs_of
from topovlm.workers.node import packages, perform_task

pytestmark = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="a platform without a wheel")
_RUN = "tiny_jetson-orin-nano-8gb@7W_70percent"


def holders(lock: Path) -> Iterator[int]:
    """Processes that have the file open."""
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if os.readlink(link) == str(lock):
                yield int(link.parts[2])
        except OSError:  # it is gone
            continue


def kill_in_stage(run: Path, stage: str, killed: list[int]) -> None:
    """SIGKILL whoever holds the run directory while it works on `stage`."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        if (run / ".topovlm" / "work" / stage).exists():
            for process in holders(run / ".topovlm" / "lock"):
                killed.append(process)
                os.kill(process, signal.SIGKILL)
            return
        time.sleep(0.005)


def test_with_workers_and_a_killed_one_the_sweep_is_the_same(
    finished: tuple[Path, int, dict[str, Any]], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same content hashes and figures; the killed worker's run goes on on another. Paths are relative."""
    _, code, found = finished
    monkeypatch.chdir(model.parent)
    killed: list[int] = []
    killer = threading.Thread(target=kill_in_stage, args=(tmp_path / "out" / _RUN, "select", killed))
    killer.start()
    out = Path(os.path.relpath(tmp_path / "out"))
    words = sweeping.arguments(model.name, out, "--workers", "ray:local")
    done = subprocess.run(
        [sys.executable, "-m", "topovlm", *words], capture_output=True, text=True, check=False
    )
    killer.join()
    assert len(killed) == 1
    assert done.returncode == code, done.stderr
    again = json.loads(done.stdout)
    assert sweeping.hashes(again) == sweeping.hashes(found)
    for ours, theirs in zip(found["rows"], again["rows"], strict=True):
        for name in ("verdict", "dropped", "latency", "dense", "slim", "difference", "ended"):
            assert ours[name] == theirs[name]


_WATCHED = """
import json, sys
import topovlm
from topovlm.console import Display

seen = []
class Watching(Display):
    def note(self, text):
        seen.append((text, "ray" in sys.modules and sys.modules["ray"].is_initialized()))

model, target, output = sys.argv[1:]
found = topovlm.sweep(
    model=model, target=["local", target], sparsity="25%", until="plan", threads=1, measure_time="0.2s",
    output=output, workers="ray:local", display=Watching(quiet=True),
)
print(json.dumps({"seen": seen, "rows": topovlm.records.plain(found.rows)}))
"""


def test_a_measured_target_runs_here_when_all_workers_are_done(model: Path, tmp_path: Path) -> None:
    """Predicted ones first, whatever the order of the list; no worker is left when the timing begins."""
    words = [sys.executable, "-c", _WATCHED, str(model), sweeping.TARGET, str(tmp_path / "out")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    measured, predicted = found["rows"]
    assert (measured["target"], predicted["target"]) == ("local", sweeping.TARGET)
    assert measured["ended"] is predicted["ended"] is None
    texts = [text for text, _ in found["seen"]]
    ended = next(number for number, text in enumerate(texts) if text.startswith(f"{predicted['run']}: "))
    begun = texts.index(f"{measured['run']} (1 of 2)")
    assert ended < begun
    assert found["seen"][ended][1]
    assert not any(running for _, running in found["seen"][begun:])


def test_other_inputs_on_a_worker_are_refused(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another model under the same path, and a folder that is not there: by the option, with what to do."""
    monkeypatch.chdir(tmp_path)
    given = {"model": str(model), "target": sweeping.TARGET, "output": str(tmp_path / "out")}
    (one,) = combinations(given)
    inputs = inputs_of(one.config)
    task = DeployTask(one, (), tmp_path, 1, 1, 0, {**inputs, "--model": "0" * 64}, tmp_path / "log")
    with pytest.raises(InputError, match=r"--model = .*tiny.* is another one here .*copy it"):
        task.run()
    with pytest.raises(InputError, match=r"folder = '/nowhere': .* Share it under the same path"):
        replace(task, folder=Path("/nowhere")).run()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # a task that asks for no GPU hides them
    with pytest.raises(InputError, match=r"worker on .*numpy.*the run has 0\.1.*Install numpy==0\.1 there"):
        perform_task(task, {**packages(), "numpy": "0.1"})
    assert not (tmp_path / "out").exists()
