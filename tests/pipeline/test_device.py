"""A deployment that is measured on a board: the whole way over a real ssh server on this machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.measure import sshd
from tests.measure.sshd import Sshd
from tests.pipeline import deploying
from topovlm.config import resolve
from topovlm.errors import InputError
from topovlm.machine.host import usable_cores
from topovlm.measure.ssh.address import COMMAND_VARIABLE
from topovlm.pipeline.precision import planned_dtype, precision
from topovlm.pipeline.target import DeviceIdentity, resolve_target

needs_sshd = pytest.mark.skipif(sshd.ABSENT, reason=sshd.WHY)
ORIN = DeviceIdentity(
    target="jetson-orin-nano-8gb",
    model="NVIDIA Jetson Orin Nano",
    cpu="ARMv8",
    cores=6,
    memory_total_bytes=8 << 30,
    power_mode="MODE_7W",
    versions={},
)
UNKNOWN = replace(ORIN, target=None, model="Box 9", power_mode=None)
DEVICE = {"device": "ssh://jetson@nano"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    started = Sshd(tmp_path_factory.mktemp("sshd"))
    try:
        yield started
    finally:
        started.close()


@needs_sshd
def test_layers_go_until_the_board_meets_the_budget(
    server: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Profile, timings and memory are the board's and say so; the plan is made of them; nothing stays."""
    monkeypatch.setenv(COMMAND_VARIABLE, server.command)
    monkeypatch.setattr(deploying, "SMALL", deploying.SMALL[:-2])  # without --threads: the board's own cores
    model, out = deploying.build_model(tmp_path / "model"), tmp_path / "out"
    code, found = deploying.deploy(model, out, budget=["--device", server.url, "--sparsity", "25%"])
    assert code == 0
    assert (found["verdict"], found["keep_layers"], found["total_layers"]) == ("prune", 6, 8)
    report = json.loads((out / "report.json").read_text())
    assert report["target"]["runtime"] == report["latency"]["runtime"] == "onnxruntime-cpu"
    assert "over ssh" in report["latency"]["where"]
    assert report["latency"]["is_target"] is True
    assert report["latency"]["threads"] == report["environment"]["threads"] == usable_cores()
    assert report["run"]["config"]["threads"] is None
    assert report["plan"]["predictor"] == "measured-here"
    assert not [limit for limit in report["provenance"]["limits"] if "nothing was timed" in limit]
    assert json.loads((out / "profile.json").read_text())["target"] == report["target"]["key"].split("@")[0]
    assert server.left_behind() == []

    code, again = deploying.deploy(model, out, budget=["--device", server.url, "--sparsity", "25%"])
    assert (code, again["content_hash"]) == (0, found["content_hash"])
    assert deploying.stages_run(out) == []


def test_the_board_says_what_it_is() -> None:
    """Without --target it is the board that is there, in its present mode; an unknown one as it is."""
    target = resolve_target(resolve(DEVICE), ORIN)
    assert target.key == "jetson-orin-nano-8gb@7W"
    assert resolve_target(resolve({**DEVICE, "target": "jetson-orin-nano-8gb"}), ORIN).key == target.key
    unknown = resolve_target(resolve(DEVICE), UNKNOWN)
    assert (unknown.board.id, unknown.board.name) == ("board", "Box 9")
    assert resolve_target(resolve({**DEVICE, "target": "jetson-xavier-nx"}), UNKNOWN).board.id == (
        "jetson-xavier-nx"
    )
    assert planned_dtype(resolve(DEVICE), target) == "fp32"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"target": "jetson-agx-orin-64gb"}, "the board at ssh://jetson@nano is jetson-orin-nano-8gb"),
        ({"target": "local"}, "ssh://jetson@nano is another one"),
        ({"mode": "15W"}, "the board at ssh://jetson@nano is in mode 7W"),
        ({"target": "jetson-orin-nano-8gb@15W"}, "is in mode 7W"),
    ],
)
def test_another_board_than_the_one_there_is_refused(flags: dict[str, str], words: str) -> None:
    """A name or a mode that the board itself contradicts."""
    with pytest.raises(InputError, match=words):
        resolve_target(resolve({**DEVICE, **flags}), ORIN)


def test_a_board_is_measured_in_the_precision_that_is_asked_for() -> None:
    """fp16 graphs are planned for, sent and timed; a format that no graph is written in is refused."""
    target = resolve_target(resolve(DEVICE), ORIN)
    found = precision(resolve({**DEVICE, "dtype": "fp16"}), target)
    assert (found.planned, found.exported, found.why) == ("fp16", "fp16", "")
    with pytest.raises(InputError, match="graphs are written in fp32 or fp16"):
        precision(resolve({**DEVICE, "dtype": "w4a16"}), target)


def test_addresses_are_checked_and_a_dry_run_measures_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Exit code 2 and one sentence, before any connection."""
    from topovlm import cli

    for words, sentence in (
        (["--device", "ftp://x"], "neither local nor the address of a board"),
        (["--device", "ssh://nano", "--dry-run"], "a dry run measures no board"),
    ):
        assert cli.main(["deploy", *words, "--max-latency", "60%"]) == 2
        assert sentence in capsys.readouterr().err
