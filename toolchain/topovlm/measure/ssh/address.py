"""`ssh://user@host:port` -> the OpenSSH client's command line; the client's complaints -> words and a remedy.

The user's own configuration, agent and known_hosts decide who is who. Nothing here weakens them: no password
is ever asked for or taken, and the check of host keys is left as the user has it.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from dataclasses import dataclass
from urllib.parse import parse_qs, unquote, urlsplit

from topovlm.errors import InputError, MissingToolError, explain

COMMAND_VARIABLE = "TOPOVLM_SSH_COMMAND"  # as GIT_SSH_COMMAND: the client and its options
FLAG = "--device"
_FORM = "Write ssh://user@host[:port], for instance ssh://jetson@192.168.55.1"
_SAFE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*|[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*(%[A-Za-z0-9_.-]+)?")


@dataclass(frozen=True)
class Address:
    """Where a board is. `python`: the interpreter to use there, a name or an absolute path."""

    host: str
    user: str | None = None
    port: int | None = None
    python: str = "python3"

    @property
    def text(self) -> str:
        """As people write it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"ssh://{self.user + '@' if self.user else ''}{host}{f':{self.port}' if self.port else ''}"

    @property
    def by_hand(self) -> str:
        """What to type to try the connection without us."""
        port = f"-p {self.port} " if self.port else ""
        return f"ssh {port}{self.user + '@' if self.user else ''}{self.host}"

    def client(self, remote_command: str, connect_s: float) -> list[str]:
        """argv of the OpenSSH client. Raises `MissingToolError` when there is none."""
        words = shlex.split(os.environ.get(COMMAND_VARIABLE, "")) or ["ssh"]
        if shutil.which(words[0]) is None:
            rule = f"needs the OpenSSH client, and {words[0]!r} is not there"
            raise MissingToolError(explain(FLAG, self.text, rule, "Install it (apt: openssh-client)"))
        options = {
            "BatchMode": "yes",
            "ConnectTimeout": str(max(1, round(connect_s))),
            "ServerAliveInterval": "5",
            "ServerAliveCountMax": "3",
            "RequestTTY": "no",
            "RemoteCommand": "none",
            "ClearAllForwardings": "yes",
            "ControlMaster": "no",  # a shared connection is used where there is one, never left behind
        }
        words += [part for key, value in options.items() for part in ("-o", f"{key}={value}")]
        words += ["-a", "-x"]  # the board gets neither the user's agent nor the screen
        if self.port:
            words += ["-p", str(self.port)]
        if self.user:
            words += ["-l", self.user]
        return [*words, "--", self.host, remote_command]


def parse_address(text: str) -> Address:
    """Read `ssh://[user@]host[:port][?python=PATH]`. Raises `InputError`; a password is refused."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise InputError(explain(FLAG, text, f"is no address: {error}", _FORM)) from None
    if parts.scheme != "ssh" or not parts.hostname:
        raise InputError(explain(FLAG, text, "is neither local nor the address of a board", _FORM))
    if parts.password is not None:
        shown = text.replace(f":{parts.password}@", ":...@")
        remedy = f"Use a key: ssh-copy-id {parts.username}@{parts.hostname}"
        raise InputError(explain(FLAG, shown, "must not hold a password", remedy))
    query = parse_qs(parts.query, keep_blank_values=True)
    if parts.path not in ("", "/") or parts.fragment or set(query) - {"python"}:
        rule = "only ?python=PATH may follow host and port"
        raise InputError(explain(FLAG, text, rule, _FORM))
    user = unquote(parts.username) if parts.username else None
    python = query.get("python", ["python3"])[-1]
    # The case of names in ssh_config matters; `hostname` has lost it.
    host = parts.netloc.rpartition("@")[2]
    host = unquote(parts.hostname) if host.startswith("[") else host.partition(":")[0]
    for name, value in (("host", host), ("user", user)):
        if value is not None and not _SAFE.fullmatch(value):
            raise InputError(explain(FLAG, text, f"{value!r} is no {name} name", _FORM))
    if not re.fullmatch(r"[A-Za-z0-9_./+-]+", python) or python.startswith("-"):
        rule = f"{python!r} is no path of a Python interpreter"
        raise InputError(explain(FLAG, text, rule, "Give its absolute path on the board"))
    return Address(host, user, port, python)


def complaint(address: Address, errors: str) -> tuple[str, str] | None:
    """(what happened, remedy) from the client's words; None when they say nothing known."""
    for pattern, rule, remedy in _COMPLAINTS:
        if re.search(pattern, errors, re.IGNORECASE):
            return rule, remedy.format(by_hand=address.by_hand, host=address.host)
    return None


def no_python(address: Address, status: int | None, errors: str) -> tuple[str, str] | None:
    """The same for a login that worked and a Python that did not; None when it is something else."""
    remedy = f"Install Python 3.8 or later there, or name one: {address.text}?python=/path/to/bin/python"
    if "future feature annotations is not defined" in errors:
        return f"{address.python} is older than Python 3.8", remedy
    if status in (126, 127):
        return f"{address.python} is not there", remedy
    return None


_COMPLAINTS = (
    (
        r"REMOTE HOST IDENTIFICATION HAS CHANGED|host key .* has changed",
        "the board shows another host key than the one in known_hosts: another machine may answer there",
        "If the board was installed anew, compare the fingerprint on its own screen, then: "
        "ssh-keygen -R {host}, and connect once by hand: {by_hand}",
    ),
    (
        r"Host key verification failed|No .* host key is known",
        "its host key is not in known_hosts",
        "Connect once by hand and compare the fingerprint: {by_hand}",
    ),
    (
        r"Permission denied \(|Too many authentication failures|no more authentication methods",
        "permission denied: it accepts none of your keys (passwords are never used)",
        "Try by hand: {by_hand}. Put your key there (ssh-copy-id) or load it (ssh-add)",
    ),
    (
        r"Could not resolve hostname|Name or service not known",
        "no host of this name is known",
        "Check the name, or add it to ~/.ssh/config",
    ),
    (
        r"Connection refused",
        "the connection was refused: no ssh server listens there",
        "Check the port, and that the board runs sshd",
    ),
    (
        r"timed out|Timeout, server .* not responding",
        "no answer in time",
        "Check that the board is on and reachable: {by_hand}",
    ),
    (
        r"No route to host|Network is unreachable",
        "the network does not reach it",
        "Check the cable and the address",
    ),
    (
        r"Bad configuration option|Bad owner or permissions|terminating, \d+ bad configuration",
        "the ssh client refuses your own configuration",
        "Try by hand: {by_hand}",
    ),
)
