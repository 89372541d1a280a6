"""A sweep on a real Ray gives what this process gives, also when a worker is killed in the middle."""

from __future__ import annotations

import importlib.util
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import topovlm
from tests.sweeps import sweeping
from topovlm.console import Display
from topovlm.errors import InputError
from topovlm.sweeps.combinations import combinations
from topovlm.sweeps.task import DeployTask, inputs_of

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
    again = sweeping.sweep(model.name, Path(os.path.relpath(tmp_path / "out")), "--workers", "ray:local")
    killer.join()
    assert len(killed) == 1
    assert os.getpid() not in killed
    assert (again[0], sweeping.hashes(again[1])) == (code, sweeping.hashes(found))
    for ours, theirs in zip(found["rows"], again[1]["rows"], strict=True):
        for name in ("verdict", "dropped", "latency", "dense", "slim", "difference", "ended"):
            assert ours[name] == theirs[name]


def test_a_measured_target_runs_here_when_all_workers_are_done(model: Path, tmp_path: Path) -> None:
    """Predicted ones first, whatever the order of the list; no worker is left when the timing begins."""
    import ray

    seen: list[tuple[str, bool]] = []

    class Watching(Display):
        """What is said, and whether a Ray of ours runs then."""

        def note(self, text: str) -> None:
            seen.append((text, ray.is_initialized()))

    found = topovlm.sweep(
        model=model,
        target=["local", sweeping.TARGET],
        sparsity="25%",
        until="plan",
        threads=1,
        measure_time="0.2s",
        output=tmp_path / "out",
        workers="ray:local",
        display=Watching(),
    )
    assert [row.target for row in found.rows] == ["local", sweeping.TARGET]
    assert all(row.deployed for row in found.rows)
    texts = [text for text, _ in seen]
    ended = next(number for number, text in enumerate(texts) if text.startswith(f"{found.rows[1].run}: "))
    begun = texts.index(f"{found.rows[0].run} (1 of 2)")
    assert ended < begun
    assert not any(runs for _, runs in seen[begun:])


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
    assert not (tmp_path / "out").exists()
