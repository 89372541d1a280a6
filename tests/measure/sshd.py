"""A real sshd on the loopback interface, with keys and configuration of its own, for one test at a time."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

SSHD = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/sbin:/usr/local/sbin")
ABSENT = SSHD is None or shutil.which("ssh") is None or shutil.which("ssh-keygen") is None
WHY = "needs sshd and ssh (apt-get install openssh-server openssh-client)"


class Sshd:
    """`room` is the board's TMPDIR: what the program leaves there is what it leaves behind."""

    def __init__(self, folder: Path, *options: str, wrapper: tuple[str, ...] = (), room: Path | None = None):
        self.folder = folder
        self.room = room or folder / "room"
        folder.mkdir(parents=True, exist_ok=True)
        self.room.mkdir(parents=True, exist_ok=True)
        for name in ("host", "user"):
            self._key(name)
        self.port = _free_port()
        (folder / "authorized_keys").write_text((folder / "user.pub").read_text())
        lines = [
            f"Port {self.port}", "ListenAddress 127.0.0.1", f"HostKey {folder}/host", "PidFile none",
            f"AuthorizedKeysFile {folder}/authorized_keys", "StrictModes no", "UsePAM no",
            "PasswordAuthentication no", "KbdInteractiveAuthentication no", "PermitRootLogin yes",
            f"SetEnv TMPDIR={self.room} OMP_NUM_THREADS=1", *options,
        ]  # fmt: skip
        (folder / "sshd_config").write_text("\n".join(lines) + "\n")
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        assert SSHD is not None
        log = (folder / "sshd.log").open("wb")
        command = [*wrapper, SSHD, "-D", "-e", "-f", str(folder / "sshd_config")]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        log.close()
        self._wait()
        self.client_config(folder / "known_hosts")
        host_key = (folder / "host.pub").read_text()
        (folder / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {host_key}")

    @property
    def url(self) -> str:
        """The board's address, with the Python that runs this test."""
        return f"{self.bare}?python={sys.executable}"

    @property
    def bare(self) -> str:
        return f"ssh://{getpass.getuser()}@127.0.0.1:{self.port}"

    @property
    def command(self) -> str:
        """For TOPOVLM_SSH_COMMAND."""
        return f"ssh -F {self.folder}/ssh_config"

    def client_config(self, known_hosts: Path, key: str = "user") -> None:
        lines = [
            f"IdentityFile {self.folder}/{key}", "IdentitiesOnly yes", f"UserKnownHostsFile {known_hosts}",
            "GlobalKnownHostsFile /dev/null", "IdentityAgent none",
        ]  # fmt: skip
        (self.folder / "ssh_config").write_text("\n".join(lines) + "\n")

    def new_key(self, name: str) -> Path:
        self._key(name)
        return self.folder / name

    def cut(self) -> int:
        """Kill the server's side of every connection; returns how many there were."""
        sessions = descendants(self.process.pid, "sshd")
        for pid in sessions:
            with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
                os.kill(pid, signal.SIGKILL)
        return len(sessions)

    def left_behind(self, wait_s: float = 8.0) -> list[str]:
        """What is still in the board's TMPDIR once its processes have had time to leave."""
        until = time.monotonic() + wait_s
        while list(self.room.iterdir()) and time.monotonic() < until:
            time.sleep(0.05)
        return sorted(path.name for path in self.room.iterdir())

    def still_running(self, wait_s: float = 8.0) -> list[int]:
        """Our processes there that are not gone after a while."""
        until = time.monotonic() + wait_s
        while (found := descendants(self.process.pid, "python")) and time.monotonic() < until:
            time.sleep(0.05)
        return found

    def close(self) -> None:
        self.cut()
        self.process.terminate()
        self.process.wait(10)

    def _key(self, name: str) -> None:
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(self.folder / name)]
        subprocess.run(command, check=True)

    def _wait(self) -> None:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        raise RuntimeError((self.folder / "sshd.log").read_text())


def descendants(pid: int, name: str) -> list[int]:
    """Processes below `pid` whose name begins with `name`, deepest last."""
    parents: dict[int, list[tuple[int, str]]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            before, _, after = status.read_text().rpartition(")")
        except OSError:
            continue
        number, _, command = before.partition(" (")
        parents.setdefault(int(after.split()[1]), []).append((int(number), command))
    found, open_ones = [], [pid]
    while open_ones:
        for child, command in parents.get(open_ones.pop(), []):
            open_ones.append(child)
            if command.startswith(name):
                found.append(child)
    return found


def _free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])
