"""What `--workers` may say: `ray:local`, or the address of a Ray cluster that this machine is a node of."""

from __future__ import annotations

import re
from dataclasses import dataclass

from topovlm.errors import InputError, explain

HERE = "ray:local"
_CLUSTER = re.compile(r"ray://(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):(?P<port>\d{1,5})")
_REMEDY = "Give ray:local, or ray://host:port as `ray start --head` has printed it"


@dataclass(frozen=True)
class Address:
    """`host` None: a Ray of our own on this machine, which lives as long as the run."""

    text: str
    host: str | None = None
    port: int = 0


def parse_address(text: str, field: str = "--workers") -> Address:
    """Raises `InputError` for anything else."""
    if text == HERE:
        return Address(text)
    found = _CLUSTER.fullmatch(text)
    if found is None:
        raise InputError(explain(field, text, "is no place for workers", _REMEDY))
    port = int(found["port"])
    if not 0 < port < 1 << 16:
        raise InputError(explain(field, text, "has a port beyond 65535", _REMEDY))
    return Address(text, found["host"].strip("[]"), port)


def parse_workers(text: str, field: str) -> str:
    """The same text, which is an address."""
    return parse_address(text, field).text
