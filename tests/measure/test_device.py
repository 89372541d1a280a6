"""Boards over ssh, against a real sshd on the loopback interface, with real faults."""

from __future__ import annotations

import ast
import contextlib
import fcntl
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.measure import sshd
from tests.measure.sshd import Sshd
from tests.runtime.toy_export import Toy
from topovlm import cli, records
from topovlm.errors import InputError, MissingToolError
from topovlm.machine import look as facts
from topovlm.machine.tools import Answer
from topovlm.measure.devices import open_device
from topovlm.measure.local import LocalDevice
from topovlm.measure.settings import ProfileRequest, RunSettings, TimingRules
from topovlm.measure.ssh import backends, parcel
from topovlm.measure.ssh.address import COMMAND_VARIABLE, parse_address
from topovlm.measure.ssh.checks import target_of
from topovlm.measure.ssh.connection import Limits
from topovlm.measure.ssh.device import SshDevice
from topovlm.measure.ssh.failures import ConnectionLost, DeviceError, DeviceTimeout
from topovlm.measure.ssh.messages import Case, Done, Malformed, Runtimes
from topovlm.measure.ssh.parcel import Load, pack, synthetic
from topovlm.measure.ssh.rounds import Asked, Rounds
from topovlm.measure.timing import Comparison
from topovlm.predict.target import recognise
from topovlm.travel import agent, build_engines
from topovlm.travel.prompts import unpack
from topovlm.travel.timer import MARK

needs_sshd = pytest.mark.skipif(sshd.ABSENT, reason=sshd.WHY)
RULES = TimingRules(warmup=1, min_rounds=4, max_rounds=4, time_limit_s=20, memory=False)
TRT = "TensorrtExecutionProvider"
_LARGE_BYTES = 64 << 20
LONG = TimingRules(warmup=1, min_rounds=10**6, max_rounds=10**6, time_limit_s=60, memory=False)


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    server = Sshd(tmp_path_factory.mktemp("board"))
    yield server
    server.close()


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Toy(layers=3).write(tmp_path_factory.mktemp("export") / "x", ("plain", "fused"))


@pytest.fixture(autouse=True)
def own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kept rounds go to the test's folder."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@contextlib.contextmanager
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *options: str, **more: Any) -> Iterator[Sshd]:
    """A board of its own for one test."""
    server = Sshd(tmp_path / "sshd", *options, **more)
    monkeypatch.setenv(COMMAND_VARIABLE, server.command)
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def url(board: Sshd, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(COMMAND_VARIABLE, board.command)
    return board.url


# -- the whole way ------------------------------------------------------------------------------------
@needs_sshd
def test_board_gives_what_this_machine_would(board: Sshd, url: str, export: Path) -> None:
    """Same record, same phases, raw samples and memory as a local run; progress comes; nothing stays."""
    rules = TimingRules(warmup=1, min_rounds=4, max_rounds=4, time_limit_s=20)
    workload = synthetic(export, images=1, new_tokens=3)
    seen: list[int] = []
    said: list[str] = []
    with open_device(url, say=said.append) as device:
        there = device.time_export(export, workload, rules, lambda rounds, spent: seen.append(rounds))
    here = LocalDevice().time_export(export, workload, rules)
    engine, local = there.engines["model"], here.engines["model"]
    assert {p: len(v) for p, v in engine.samples.items()} == {p: len(v) for p, v in local.samples.items()}
    assert all(value > 0 for values in engine.samples.values() for value in values)
    assert [len(steps) for steps in engine.token_steps] == [2] * 4
    assert (engine.variant, engine.layers, engine.threads) == ("fused", 3, local.threads)
    assert there.workload == here.workload
    machine = (
        "system",
        "machine",
        "cpu",
        "cores",
        "usable_cores",
        "memory_total_bytes",
        "gpus",
        "power_mode",
    )
    for name in machine:
        assert getattr(there.environment, name) == getattr(here.environment, name)
    assert engine.footprint is not None
    assert engine.footprint.peak_bytes > engine.footprint.libraries_bytes > 0
    assert seen == [1, 2, 3, 4]
    assert any("sending" in text for text in said)
    assert board.left_behind() == []


@needs_sshd
def test_one_connection_serves_many_requests(board: Sshd, url: str, export: Path) -> None:
    """Facts, a program, two timings in a row; two folders that share files are timed in turns."""
    with open_device(url) as device:
        found = device.identify()
        assert found.environment.machine == os.uname().machine
        assert found.environment.versions["onnxruntime"]
        assert (found.environment.memory_available_bytes or 0) > 0
        assert "CPUExecutionProvider" in found.providers
        assert os.uname().nodename not in records.encode(found).decode()
        done = device.run(["sh", "-c", "echo one; echo two; echo wrong >&2; exit 4"])
        assert (done.status, done.lines, done.errors) == (4, ("one", "two"), ("wrong",))
        workload = synthetic(export, images=1, new_tokens=2)
        for variant in ("plain", "fused"):
            run = device.compare({"a": export, "b": export}, workload, RULES, RunSettings(variant=variant))
            assert {name: t.variant for name, t in run.engines.items()} == {"a": variant, "b": variant}
            assert sorted(run.order) == ["a"] * 4 + ["b"] * 4
    assert board.left_behind() == []


@needs_sshd
def test_steady_run_ends_early(board: Sshd, url: str, export: Path) -> None:
    """The rule of enough precision is applied while the rounds come in, and stops the board."""
    rules = TimingRules(warmup=1, min_rounds=5, max_rounds=100_000, precision=10.0, memory=False)
    with open_device(url) as device:
        run = device.compare({"model": export}, synthetic(export, new_tokens=2), rules)
    assert run.stopped == "precise"
    assert 5 <= run.rounds < 100_000


@needs_sshd
def test_login_noise_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a login prints on standard output does not disturb the conversation."""
    force = 'ForceCommand printf "Welcome\\n\\n{}\\n"; eval "$SSH_ORIGINAL_COMMAND"'
    with served(tmp_path, monkeypatch, force) as server, open_device(server.url) as device:
        assert device.run(["echo", "heard"]).lines == ("heard",)


@needs_sshd
def test_profile_of_a_board(board: Sshd, url: str, tmp_path: Path) -> None:
    """The record is that of the machine at hand, with the board's own facts beside it."""
    folder = Toy(layers=8, vocab=100_000).write(tmp_path / "x", ("plain", "fused"))
    request = ProfileRequest(
        images=2,
        prompt_tokens=12,
        new_tokens=3,
        lengths=(20, 32),
        rules=TimingRules(warmup=1, min_rounds=3, max_rounds=3),
        run=RunSettings(threads=1),
    )
    with open_device(url) as device:
        there = device.profile(folder, request)
    here = LocalDevice().profile(folder, replace(request, rules=TimingRules(1, 3, 3, memory=False)))
    same = ("runtime", "dtype", "variant", "threads", "model_sha256", "config_sha256", "layers", "depths")
    for name in (*same, "lengths", "workload"):
        assert getattr(there, name) == getattr(here, name)
    assert {n: set(s) for n, s in there.samples.items()} == {n: set(s) for n, s in here.samples.items()}
    assert there.target == "board"
    assert there.device is not None
    assert here.device is None
    assert there.memory is not None
    assert there.memory.libraries_bytes > 0
    assert board.left_behind() == []


@needs_sshd
def test_bench_on_a_board(board: Sshd, url: str, export: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command times there and prints one document; a board that is not there is exit code 5."""
    options = ["--measure-time", "0.2s", "--new-tokens", "2", "--json"]
    assert cli.main(["bench", str(export), *options, "--device", url]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["engines"][str(export)]["samples"]["ttft"]
    assert cli.main(["bench", str(export), *options, "--device", "ssh://board.invalid"]) == 5
    assert "no host of this name" in json.loads(capsys.readouterr().out)["error"]["message"]
    assert cli.main(["bench", str(export), *options, "--device", "board"]) == 2
    assert board.left_behind() == []


# -- five faults --------------------------------------------------------------------------------------
@needs_sshd
def test_connection_cut_in_the_middle(board: Sshd, url: str, export: Path, tmp_path: Path) -> None:
    """The server's side is killed: the rounds so far are kept in a file that is named; nothing stays."""
    cuts = []

    def cut(rounds: int, spent: float) -> None:
        if rounds == 3:
            cuts.append(board.cut())

    with (
        pytest.raises(ConnectionLost, match="timing: the connection was lost") as caught,
        open_device(url) as it,
    ):
        it.time_export(export, synthetic(export, new_tokens=2), LONG, cut)
    partial = caught.value.partial
    assert cuts[0] >= 1
    assert isinstance(partial, Comparison)
    assert partial.stopped == "lost"
    assert partial.rounds == len(partial.engines["model"].samples["prefill"]) >= 3
    (kept,) = (tmp_path / "state").rglob("partial-*.json")
    assert records.read(kept, Comparison, field="rounds") == partial
    assert str(kept) in str(caught.value)
    assert parse_address(url).text in str(caught.value)
    assert board.left_behind() == []


@needs_sshd
def test_program_over_its_time(board: Sshd, url: str) -> None:
    """A program that takes too long is killed there with its children; the next one runs."""
    with open_device(url) as device:
        with pytest.raises(DeviceTimeout, match=r"took longer than 0\.5 s"):
            device.run(["sh", "-c", "sleep 987; true"], timeout_s=0.5)
        assert device.run(["pgrep", "-f", "sleep 98[7]"]).lines == ()
    assert board.left_behind() == []


@needs_sshd
def test_board_that_hangs(board: Sshd, url: str) -> None:
    """An agent that does not answer is given up; once it wakes it removes its folder."""
    with SshDevice(parse_address(url), limits=Limits(reply_s=1.0)) as device:
        device.run(["true"])
        (agent,) = sshd.descendants(board.process.pid, "python")
        os.kill(agent, signal.SIGSTOP)
        with pytest.raises(DeviceTimeout, match=r"no answer for 1 s"):
            device.identify()
        os.kill(agent, signal.SIGCONT)
    assert board.left_behind() == []


@needs_sshd
def test_login_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A login after which nothing is said is given up, with a way to look into it."""
    with (
        served(tmp_path, monkeypatch, "ForceCommand sleep 60") as server,
        pytest.raises(DeviceTimeout, match=r"connecting: .* said nothing for 1 s.*Try by hand: ssh -p"),
    ):
        SshDevice(parse_address(server.url), limits=Limits(greeting_s=1.0)).__enter__()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 MiB."""
    room = tmp_path / "small"
    room.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(room)]
    if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("needs the right to mount a small file system")
    yield room
    subprocess.run(["umount", "-l", str(room)], check=True)


@needs_sshd
def test_disk_full_before(tmp_path: Path, small_disk: Path, export: Path, monkeypatch: Any) -> None:
    """Too little space is found before a graph is sent."""
    (small_disk / "others").write_bytes(bytes(50 << 20))
    said: list[str] = []
    with served(tmp_path, monkeypatch, room=small_disk) as server:
        message = r"checking the disk: the board's disk is full .*14(\.0+)? MiB free"
        with pytest.raises(DeviceError, match=message), open_device(server.url, say=said.append) as device:
            device.time_export(export, synthetic(export), RULES)
        (small_disk / "others").unlink()
        assert server.left_behind() == []
    assert said == []


@needs_sshd
def test_disk_fills_while_sending(tmp_path: Path, small_disk: Path, export: Path, monkeypatch: Any) -> None:
    """Somebody else fills the disk during the upload: said so, and our part of it is given back."""
    others = small_disk / "others"

    def fill(text: str) -> None:
        with contextlib.suppress(OSError), others.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1 << 12))

    with served(tmp_path, monkeypatch, room=small_disk) as server:
        message = r"sending .*: the board's disk is full .*No space left"
        with pytest.raises(DeviceError, match=message), open_device(server.url, say=fill) as device:
            device.time_export(export, synthetic(export), RULES)
        others.unlink()
        assert server.left_behind() == []


@needs_sshd
def test_file_size_limit(tmp_path: Path, export: Path, monkeypatch: Any) -> None:
    """A limit on the size of files at the board counts as a full disk, whoever runs this test."""
    wrapper = ("sh", "-c", 'ulimit -f 64; exec "$@"', "sh")  # 32 KiB
    with served(tmp_path, monkeypatch, wrapper=wrapper) as server:
        message = r"sending 0/.*: the board's disk is full .*File too large"
        with pytest.raises(DeviceError, match=message), open_device(server.url) as device:
            device.time_export(export, synthetic(export), RULES)
        assert server.left_behind() == []


@needs_sshd
@pytest.mark.skipif(shutil.which("setarch") is None or os.uname().machine != "x86_64", reason="needs setarch")
def test_wrong_architecture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is no 64-bit one (here the kernel says so to all that sshd starts) gets nothing."""
    with served(tmp_path, monkeypatch, wrapper=("setarch", "i686")) as server:
        with pytest.raises(DeviceError, match=r"checking the machine: wrong architecture: i686"):
            open_device(server.url).__enter__()
        assert server.left_behind() == []


@needs_sshd
def test_missing_runtime(board: Sshd, url: str, export: Path, tmp_path: Path) -> None:
    """A Python without numpy and ONNX Runtime is found before a graph is sent; facts come all the same."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    said: list[str] = []
    with open_device(f"{board.bare}?python={tmp_path}/bare/bin/python", say=said.append) as device:
        assert set(device.identify().lacking) >= {"numpy", "onnxruntime"}
        with pytest.raises(DeviceError, match=r"missing runtime: .*no numpy and no onnxruntime.*pip install"):
            device.time_export(export, synthetic(export), RULES)
    assert said == []
    assert board.left_behind() == []


# -- who is there -------------------------------------------------------------------------------------
def refused(url: str, **limits: float) -> str:
    with pytest.raises(MissingToolError) as caught:
        SshDevice(parse_address(url), limits=Limits(**limits)).__enter__()
    text = str(caught.value)
    assert parse_address(url).text in text
    return text


@needs_sshd
def test_changed_host_key(board: Sshd, url: str, tmp_path: Path) -> None:
    """Another machine in the board's place is refused, with the danger named."""
    other = board.new_key(f"other-{tmp_path.name}").with_suffix(".pub").read_text()
    (tmp_path / "known").write_text(f"[127.0.0.1]:{board.port} {other}")
    board.client_config(tmp_path / "known")
    try:
        assert "shows another host key" in refused(url)
        board.client_config(tmp_path / "empty")
        assert "its host key is not in known_hosts. Connect once by hand" in refused(url)
    finally:
        board.client_config(board.folder / "known_hosts")


@needs_sshd
def test_key_that_is_not_accepted(board: Sshd, url: str, tmp_path: Path) -> None:
    """Permission denied says that passwords are never used, and what to do."""
    board.new_key(f"stranger-{tmp_path.name}")
    board.client_config(board.folder / "known_hosts", f"stranger-{tmp_path.name}")
    try:
        assert "permission denied: it accepts none of your keys" in refused(url)
    finally:
        board.client_config(board.folder / "known_hosts")


@needs_sshd
def test_nobody_there(board: Sshd, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unknown name, closed port, absent Python, absent ssh: each its own sentence."""
    assert "no host of this name is known" in refused("ssh://board.invalid")
    assert "the connection was refused" in refused("ssh://127.0.0.1:1")
    assert "/no/python is not there" in refused(f"{board.bare}?python=/no/python")
    monkeypatch.setenv(COMMAND_VARIABLE, "/no/ssh")
    assert "needs the OpenSSH client" in refused(url)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ssh://jetson:secret@nano", "must not hold a password"),
        ("http://nano", "neither local nor the address"),
        ("nano", "neither local nor the address"),
        ("ssh://-oProxyCommand=x", "no host name"),
        ("ssh://-l@nano", "no user name"),
        ("ssh://nano:99999", "is no address"),
        ("ssh://nano/tmp", "only \\?python=PATH"),
        ("ssh://nano?python=sh;reboot", "only|no path"),
    ],
)
def test_address_that_is_none(text: str, words: str) -> None:
    """A wrong address is refused before anything starts; a password is not repeated."""
    with pytest.raises(InputError, match=words) as caught:
        open_device(text)
    assert "secret" not in str(caught.value)


def test_addresses_and_options() -> None:
    """User, port, upper case and IPv6 survive; the client asks nothing and checks host keys as it is told."""
    address = parse_address("ssh://jetson@Nano-1.lan:2222?python=/opt/venv/bin/python")
    assert (address.user, address.host, address.port) == ("jetson", "Nano-1.lan", 2222)
    six = parse_address("ssh://[fe80::1%25eth0]:22")
    assert (six.host, six.text) == ("fe80::1%eth0", "ssh://[fe80::1%eth0]:22")
    argv = parse_address("ssh://nano").client("true", 10)
    assert "BatchMode=yes" in argv
    assert not any("StrictHostKeyChecking" in word or "KnownHosts" in word for word in argv)
    assert argv[-3:] == ["--", "nano", "true"]


# -- nothing left behind ------------------------------------------------------------------------------
@needs_sshd
def test_interrupted_here(board: Sshd, url: str, export: Path) -> None:
    """Ctrl-C in the middle leaves nothing there."""

    def interrupt(rounds: int, spent: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), open_device(url) as device:
        device.time_export(export, synthetic(export, new_tokens=2), LONG, interrupt)
    assert board.left_behind() == []


@needs_sshd
def test_interrupted_in_the_middle_of_a_file(board: Sshd, url: str) -> None:
    """Ctrl-C while a file travels ends without the rest of it being sent, and leaves nothing there."""
    arrivals: list[int] = []

    def interrupt(arrived: int) -> None:
        arrivals.append(arrived)
        raise KeyboardInterrupt

    def send() -> None:
        with open_device(url) as device:
            assert isinstance(device, SshDevice)
            device.run(["true"])
            device.connection.put("x", bytes(_LARGE_BYTES), "0" * 64, interrupt)

    with pytest.raises(KeyboardInterrupt):
        send()
    assert len(arrivals) == 1
    assert arrivals[0] < _LARGE_BYTES
    assert board.left_behind() == []


@needs_sshd
def test_shared_connections_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A configuration that shares connections is used when one is open, and no new one is left behind."""
    with served(tmp_path, monkeypatch) as server:
        socket = tmp_path / "shared"
        with (server.folder / "ssh_config").open("a") as file:
            file.write(f"ControlMaster auto\nControlPath {socket}\nControlPersist 60\n")
        with open_device(server.url) as device:
            assert device.run(["echo", "alone"]).lines == ("alone",)
        assert not socket.exists()
        master = subprocess.Popen(
            [*server.command.split(), "-N", "-M", "-p", str(server.port), "127.0.0.1"],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            while not socket.exists() and master.poll() is None:
                time.sleep(0.05)
            with open_device(server.url) as device:
                assert device.run(["echo", "shared"]).lines == ("shared",)
            assert socket.exists()
        finally:
            master.terminate()
            master.wait(10)
        assert server.left_behind() == []


@needs_sshd
@pytest.mark.parametrize("victim", ["caller", "agent"])
def test_killed_without_warning(board: Sshd, url: str, export: Path, victim: str) -> None:
    """The caller, or the agent on the board, dies at once: what runs there ends and the folder goes."""
    code = (
        "import sys\n"
        "from topovlm.measure.devices import open_device\n"
        "from topovlm.measure.ssh.parcel import synthetic\n"
        "from topovlm.measure.timing import TimingRules\n"
        f"rules = TimingRules(min_rounds=10**6, max_rounds=10**6, time_limit_s=60, memory=False)\n"
        f"with open_device({url!r}) as device:\n"
        f"    device.time_export({str(export)!r}, synthetic({str(export)!r}), rules,\n"
        "        lambda rounds, spent: rounds == 2 and print('running', flush=True))\n"
    )
    caller = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert caller.stdout is not None
    assert caller.stdout.readline() == "running\n"
    assert len(list(board.room.iterdir())) == 1
    agent, *_ = sshd.descendants(board.process.pid, "python")
    os.kill(caller.pid if victim == "caller" else agent, signal.SIGKILL)
    _, errors = caller.communicate(timeout=30)
    assert victim == "caller" or "the connection was lost" in errors
    assert board.left_behind() == []
    assert board.still_running() == []


@needs_sshd
def test_network_that_is_gone(board: Sshd, url: str) -> None:
    """A connection that stays open but carries nothing any more: the board's side tidies up by itself."""
    with SshDevice(parse_address(url), limits=Limits(silence_s=0.9)) as device:
        assert isinstance(device, SshDevice)
        device.run(["true"])
        time.sleep(1.2)
        assert device.run(["echo", "here"]).lines == ("here",)
        ours = os.getpid()
        (client,) = set(sshd.descendants(ours, "ssh")) - set(sshd.descendants(ours, "sshd"))
        os.kill(client, signal.SIGSTOP)
        assert board.left_behind() == []
        os.kill(client, signal.SIGCONT)
        with pytest.raises(ConnectionLost):
            device.run(["true"])


@needs_sshd
def test_leftovers_of_a_dead_agent(board: Sshd, url: str) -> None:
    """An old folder that no process holds is removed at the next visit; a held one is not touched."""
    for name in ("dead", "held"):
        folder = board.room / f"{agent.PREFIX}{name}"
        folder.mkdir()
        (folder / agent.LOCK).touch()
        os.utime(folder, (time.time() - 2 * agent.STALE_S,) * 2)
    with (board.room / f"{agent.PREFIX}held" / agent.LOCK).open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with open_device(url) as device:
            device.run(["true"])
        assert [path.name for path in board.room.iterdir()] == [f"{agent.PREFIX}held"]
    shutil.rmtree(board.room / f"{agent.PREFIX}held")


@needs_sshd
def test_damaged_file_is_refused(board: Sshd, url: str) -> None:
    """A file whose sha256 is another one on arrival stops the run; a path out of the folder is refused."""
    with open_device(url) as device:
        assert isinstance(device, SshDevice)
        device.run(["true"])
        with pytest.raises(DeviceError, match="arrived damaged"):
            device.connection.put("x", b"abc", "0" * 64, lambda done: None)
        with pytest.raises(DeviceError, match="outside of the folder"):
            device.connection.call("copying", "copy", Done, source="x", path="../x")
    assert board.left_behind() == []


def newer_than_3_8(tree: ast.Module) -> list[str]:
    """What parses there but does not run: generics by subscript, zip(strict), methods of later versions."""
    generics = {"dict", "list", "set", "tuple", "type", "frozenset"}
    generics |= {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module in ("collections.abc", "collections")
        for alias in node.names
    }
    notes = [
        note
        for node in ast.walk(tree)
        for note in (getattr(node, "annotation", None), getattr(node, "returns", None))
        if isinstance(note, ast.AST)
    ]
    unread = {id(part) for note in notes for part in ast.walk(note)}  # annotations are never evaluated
    found = []
    for node in ast.walk(tree):
        if id(node) in unread:
            continue
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id in generics:
            found.append(ast.unparse(node))
        if isinstance(node, ast.Call) and any(word.arg == "strict" for word in node.keywords):
            found.append(ast.unparse(node))
        if isinstance(node, ast.Attribute) and node.attr in ("removeprefix", "removesuffix", "bit_count"):
            found.append(ast.unparse(node))
    return found


@needs_sshd
def test_oldest_python(board: Sshd, url: str) -> None:
    """What travels is Python 3.8 by its grammar, and runs on one where there is one."""
    rows = backends.backends()
    sent = {"agent.py", *backends.COMMON, *(name for row in rows for name in row.files)}
    assert sent == {file.name for file in backends.TRAVEL.glob("*.py")}
    for name in sent:
        tree = ast.parse((backends.TRAVEL / name).read_text(), feature_version=(3, 8))
        used = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert not {module for module in used if module and module.startswith("topovlm")}
        assert newer_than_3_8(tree) == []
    candidates = [shutil.which("python3.8"), *Path.home().glob(".pyenv/versions/3.8*/bin/python3.8")]
    for python in filter(None, candidates):
        if subprocess.run([str(python), "--version"], capture_output=True, check=False).returncode == 0:
            with open_device(f"{board.bare}?python={python}") as device:
                assert device.identify().environment.python.startswith("3.8")
            assert board.left_behind() == []


def test_timer_spares_other_folders(tmp_path: Path) -> None:
    """Started by hand in a folder of somebody's, the timer never removes it."""
    (tmp_path / "precious").touch()
    shutil.copytree(backends.TRAVEL, tmp_path / "travel")
    command = [sys.executable, "-m", "travel.timer", "time"]
    subprocess.run(command, cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    assert (tmp_path / "precious").exists()


# -- which runtime ------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("versions", "providers", "asked", "chosen"),
    [
        ({"numpy": "1.26", "onnxruntime": "1.19"}, ["CPU"], None, "onnxruntime"),
        ({"numpy": "1.26", "onnxruntime": "1.19", "tensorrt": "10.3.0"}, ["CPU"], None, "onnxruntime"),
        ({"numpy": "1.26", "onnxruntime": "1.19", "tensorrt": "10.3.0"}, ["CPU"], ["tensorrt"], "tensorrt"),
        ({"numpy": "1.26", "onnxruntime": "1.19", "tensorrt": "10.3.0"}, [TRT], ["tensorrt"], "onnxruntime"),
        ({"numpy": "1.26", "tensorrt": "10.3.0"}, [], None, "tensorrt"),
        ({"numpy": "1.26", "tensorrt": "8.5.2"}, [], None, "onnxruntime"),
        ({"tensorrt": "10.3.0"}, [], None, "onnxruntime"),
    ],
)
def test_runtime_that_is_chosen(versions: Any, providers: Any, asked: Any, chosen: str) -> None:
    """ONNX Runtime where it is; TensorRT alone where only that is there, or where it was asked for."""
    found = Runtimes(python="python3", versions=versions, lacking={}, providers=tuple(providers))
    assert backends.choose(found, asked).name == chosen


def test_rows_of_backends() -> None:
    """Names differ, what each needs is there to travel, and the bundle's builder needs what its row says."""
    rows = backends.backends()
    assert len({row.name for row in rows}) == len(rows)
    for row in rows:
        assert (backends.TRAVEL / f"{row.module}.py").is_file()
        assert f"{row.module}.py" in row.files
        assert row.needs.partition(">=")[0] == row.package
    assert build_engines.BINDINGS[0] in {row.needs for row in rows}


def test_parcel_for_tensorrt(export: Path) -> None:
    """TensorRT gets the plain graph, its builder, and shapes that reach up to the longest prompt."""
    prompts = [synthetic(export, images=1, prompt_tokens=n).prompts[0] for n in (20, 30)]
    cases = [Case(name="a@20", engine="a", prompts=(0,)), Case(name="a@30", engine="a", prompts=(1,))]
    (native,) = (row for row in backends.backends() if row.native)
    packed = pack({"a": export}, Load(prompts, cases, 4), RULES, native, RunSettings(threads=1))
    items = {item.path: item for item in packed.items}
    assert packed.variants == {"a": "plain"}
    assert {"travel/trt_engine.py", "travel/build_engines.py", "0/decoder_model_merged.onnx"} <= items.keys()
    assert "0/decoder_model_merged_fused.onnx" not in items
    source = items["request.json"].source
    assert isinstance(source, bytes)
    request = json.loads(source)
    assert (request["module"], request["needs"]) == (native.module, native.needs)
    prefill, decode = request["engines"]["a"]["profiles"]["decoder"]
    assert prefill["inputs"]["inputs_embeds"]["opt"] == [1, 30, 16]
    assert decode["inputs"]["past_key_values.2.key"]["max"][2] >= 34
    assert request["engines"]["a"]["profiles"]["vision"][0]["inputs"]["pixel_values"]["max"] == [1, 3, 8, 8]
    sent = items["prompts.npz"].source
    assert isinstance(sent, bytes)
    with np.load(io.BytesIO(sent)) as arrays:
        there = unpack(dict(arrays))
    for here, found in zip(prompts, there, strict=True):
        np.testing.assert_array_equal(found.ids, here.ids)
        np.testing.assert_array_equal(found.positions, here.positions)
        np.testing.assert_array_equal(found.pictures[0]["pixel_values"], here.pictures[0]["pixel_values"])


# -- what cannot be read ----------------------------------------------------------------------------------
_ROUND = {"vision_ms": 0.0, "embed_ms": 0.1, "prefill_ms": 2.0, "token_ms": [1.0]}


def say(kind: str, **message: object) -> str:
    """A line as the timer says it."""
    return MARK + json.dumps({"kind": kind, **message})


def said_round(run: object, **more: object) -> str:
    return say("round", **{"spent_s": 1.0, "order": ["a"], "runs": {"a": run}, **more})


@pytest.mark.parametrize(
    "line",
    [
        MARK,
        MARK + "{",
        MARK + "[" * 100_000,
        say("gossip"),
        said_round({**_ROUND, "prefill_ms": float("nan")}),
        said_round({**_ROUND, "prefill_ms": float("inf")}),
        said_round({**_ROUND, "prefill_ms": -1.0}),
        said_round({**_ROUND, "prefill_ms": 0.0}),
        said_round({**_ROUND, "prefill_ms": "2"}),
        said_round({**_ROUND, "token_ms": [-1.0]}),
        said_round({**_ROUND, "token_ms": []}),
        said_round({**_ROUND, "token_ms": [1.0] * 1000}),
        said_round({"vision_ms": 0.0}),
        said_round(None),
        said_round(_ROUND, order=["b"]),
        said_round(_ROUND, order=["a", "a"]),
        said_round(_ROUND, runs={"b": _ROUND}),
        said_round(_ROUND, spent_s=-1.0),
        say("loaded", name="b", load_ms=1.0, threads=1, providers={}, dtype="float32"),
        say("loaded", name="a", load_ms=1.0, threads=0, providers={}, dtype="float32"),
        say("footprint", name="a", libraries_bytes=-1, peak_bytes=1, load_ms=1.0),
    ],
)
def test_line_that_cannot_be(line: str) -> None:
    """A line of the timer that is cut, impossible, or about something else is refused, never taken in."""
    rounds = Rounds(Asked({"a": "a"}, new_tokens=2), 1, lambda runs: False, None)
    cpu = {"decoder": ["CPUExecutionProvider"]}
    rounds.line(say("loaded", name="a", load_ms=1.0, threads=1, providers=cpu, dtype="float32"))
    rounds.line("what a library prints")
    rounds.line(said_round(_ROUND))
    with pytest.raises(Malformed):
        rounds.line(line)
    assert rounds.count == 1


@needs_sshd
@pytest.mark.parametrize(
    "lie",
    [
        ("run.prefill_ms * -1", r"cannot be read \(Expected `float` > 0\.0"),
        ("float('nan')", r"cannot be read \(JSON is malformed"),
        ("[0.1] * 3_000_000", r"cannot be read \("),
    ],
    ids=["negative", "no number", "endless"],
)
def test_timer_that_says_nonsense(
    url: str, export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lie: tuple[str, str]
) -> None:
    """Times that cannot be end the run with one sentence that names the board."""
    shutil.copytree(backends.TRAVEL, tmp_path / "travel")
    timer = tmp_path / "travel/timer.py"
    honest = '"prefill_ms": run.prefill_ms'
    assert honest in timer.read_text()
    timer.write_text(timer.read_text().replace(honest, f'"prefill_ms": {lie[0]}'))
    monkeypatch.setattr(parcel, "TRAVEL", tmp_path / "travel")
    with pytest.raises(DeviceError, match=rf"ssh://.*timing: what it says {lie[1]}"), open_device(url) as it:
        it.time_export(export, synthetic(export, new_tokens=2), RULES)


# -- a GPU that throttles ---------------------------------------------------------------------------------
# The driver's tool as it answers: `known` is the one name of the reasons' field that its version has.
_TOOL = """#!/bin/sh
fields=$(printf '%s' "$1" | sed 's/--query-gpu=//')
case "$fields" in *{unknown}*) echo "Field {unknown} is not a valid field to query." >&2; exit 2;; esac
answer=
for field in $(printf '%s' "$fields" | tr , ' '); do
  case $field in
    name) value="NVIDIA Thing";; {known}) value="0x0000000000000040";; *) value="[N/A]";;
  esac
  answer="$answer${{answer:+, }}$value"
done
echo "$answer"
"""


@needs_sshd
@pytest.mark.parametrize("old", [False, True], ids=["today's driver", "older driver"])
def test_a_throttled_gpu_there_is_noticed(
    tmp_path: Path, export: Path, monkeypatch: pytest.MonkeyPatch, old: bool
) -> None:
    """The board's driver is asked why clocks are held down, by the name that it knows, as it is here."""
    names = ["clocks_event_reasons.active", "clocks_throttle_reasons.active"]
    unknown, known = names if old else names[::-1]
    tool = tmp_path / "tools/nvidia-smi"
    tool.parent.mkdir()
    tool.write_text(_TOOL.format(unknown=unknown, known=known))
    tool.chmod(0o755)
    force = f'ForceCommand export PATH={tool.parent}:$PATH; eval "$SSH_ORIGINAL_COMMAND"'
    with served(tmp_path, monkeypatch, force) as server, open_device(server.url) as device:
        run = device.compare({"model": export}, synthetic(export, new_tokens=2), RULES)
    assert "throttled: NVIDIA Thing: hardware thermal slowdown" in run.warnings


# -- what a board is ----------------------------------------------------------------------------------
def test_jetson_is_recognised() -> None:
    """Device tree, release, power mode by name, clocks, throttling and rails from a Jetson's own files."""
    compatible = "nvidia,p3768-0000+p3767-0005-super\0nvidia,p3767-0005\0nvidia,tegra234\0"
    release = "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n"
    gpu = "/sys/class/devfreq/17000000.gpu"
    hwmon = "/sys/class/hwmon/hwmon3"
    files = {
        "/proc/device-tree/compatible": compatible,
        "/proc/device-tree/model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0",
        "/etc/nv_tegra_release": release,
        "/proc/meminfo": "MemTotal:        7802508 kB\nMemFree: 1 kB\nMemAvailable:    6291456 kB\n",
        f"{gpu}/cur_freq": "306000000\n", f"{gpu}/min_freq": "306000000\n", f"{gpu}/max_freq": "918000000\n",
        f"{gpu}/governor": "nvhost_podgov\n",
        f"{hwmon}/name": "ina3221\n", f"{hwmon}/in1_label": "VDD_IN\n", f"{hwmon}/in1_input": "5040\n",
        f"{hwmon}/curr1_input": "1200\n",
        "/sys/class/hwmon/hwmon1/name": "soctherm_oc\n", "/sys/class/hwmon/hwmon1/oc1_event_cnt": "2\n",
        "/../../etc/evil": "x",
    }  # fmt: skip
    look = facts.understand(files, {"nvpmodel": Answer(("nvpmodel", "-q"), "NV Power Mode: 25W\n1\n")})
    assert target_of(look) == "jetson-orin-nano-8gb"
    assert (look.l4t, look.telemetry.power_mode) == ("36.4.3", "25W")
    assert look.memory_available_bytes == 6291456 * 1024
    assert [(c.current_mhz, c.highest_mhz) for c in look.telemetry.devices] == [(306.0, 918.0)]
    assert look.telemetry.throttle_counts == {"soctherm_oc oc1": 2}
    assert look.telemetry.rails_w["VDD_IN"] == pytest.approx(5.04 * 1.2)


def test_unknown_boards() -> None:
    """A board that is no known one has no target."""
    assert recognise(("acme,board",), []) is None
