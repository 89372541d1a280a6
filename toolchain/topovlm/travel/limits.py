"""How many cores and how much memory this process may use: the system's, less what control groups leave.

Containers, batch systems and systemd units bound a process by control groups, of version 1, 2 or both, nested
to any depth: each group on the way from the process to the root may be the tightest. What the machine as a
whole has is then no measure. Python >= 3.8, standard library alone.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import NamedTuple

_UNBOUNDED = 1 << 60  # version 1 says "no limit" by a number of about 2**63
_LARGEST_FILE_BYTES = 1 << 20


class MemoryLimits(NamedTuple):
    """What this process may use at most, and what is left of it; None where nobody tells."""

    total_bytes: int | None
    free_bytes: int | None


def usable_cores(root: str = "/") -> int:
    """Cores that this process may run on: its affinity mask, cut by the CPU quotas of its control groups."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for folder in _groups(root, "cpu"):
        quota, period = _quota(folder)
        if quota > 0 and period > 0:
            cores = min(cores, quota // period)
    return max(1, cores)


def memory_limits(root: str = "/") -> MemoryLimits:
    """The system's memory (MemTotal, MemAvailable), cut by the bounds of the process's control groups.

    File caches that a group could give back count as free, as MemAvailable counts them.
    """
    system = parse_meminfo(_read(os.path.join(root, "proc/meminfo")))
    totals = [system["MemTotal"]] if "MemTotal" in system else []
    frees = [system["MemAvailable"]] if "MemAvailable" in system else []
    for folder in _groups(root, "memory"):
        bound, used = _bound(folder)
        if bound is not None:
            totals.append(bound)
            frees.append(max(0, bound - used))
    return MemoryLimits(min(totals) if totals else None, min(frees) if frees else None)


def parse_meminfo(text: str) -> dict[str, int]:
    """Bytes by field of Linux's memory table (MemAvailable: what is free without swapping)."""
    return {name: int(kib) * 1024 for name, kib in re.findall(r"^(\w+):\s+(\d{1,15}) kB", text, re.MULTILINE)}


def _quota(folder: str) -> tuple[int, int]:
    """Microseconds of processor time in each period of so many; 0 where there is no bound."""
    quota, _, period = _read(os.path.join(folder, "cpu.max")).strip().partition(" ")
    if not quota:
        quota = _read(os.path.join(folder, "cpu.cfs_quota_us")).strip()
        period = _read(os.path.join(folder, "cpu.cfs_period_us")).strip()
    return (int(quota), int(period)) if quota.isdigit() and period.isdigit() else (0, 0)


def _bound(folder: str) -> tuple[int | None, int]:
    """The tightest bound of a group in bytes, and the bytes in use that it could not give back."""
    found = [_number(folder, name) for name in ("memory.max", "memory.high", "memory.limit_in_bytes")]
    bounds = [value for value in found if value is not None and value < _UNBOUNDED]
    if not bounds:
        return None, 0
    used = _number(folder, "memory.current") or _number(folder, "memory.usage_in_bytes") or 0
    counts = dict(re.findall(r"^(\w+) (\d+)$", _read(os.path.join(folder, "memory.stat")), re.MULTILINE))
    cached = int(counts.get("total_inactive_file") or counts.get("inactive_file") or 0)
    return min(bounds), max(0, used - cached)


def _number(folder: str, name: str) -> int | None:
    text = _read(os.path.join(folder, name)).strip()
    return int(text) if text.isdigit() else None


def _groups(root: str, controller: str) -> Iterator[str]:
    """Folders of the control groups that bind this process, from its own to the outermost one in sight."""
    for group, mount, start in _memberships(root, controller):
        # A container without a name space of its own sees its path on the host, and its group as the mount.
        inside = group[len(start) :] if start != "/" and (group + "/").startswith(start + "/") else group
        parts = [part for part in inside.split("/") if part not in ("", ".", "..")]
        folder = os.path.join(root, mount.lstrip("/"))
        if not os.path.isdir(os.path.join(folder, *parts)):
            parts = []
        for depth in range(len(parts), -1, -1):
            yield os.path.join(folder, *parts[:depth])


def _memberships(root: str, controller: str) -> list[tuple[str, str, str]]:
    """(group of this process, where its hierarchy is mounted, which group is mounted there)."""
    mounts = _mounts(root)
    found = []
    for line in _read(os.path.join(root, "proc/self/cgroup")).splitlines():
        number, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        for kind, options, mount, start in mounts:
            unified = number == "0" and not controllers and kind == "cgroup2"
            own = kind == "cgroup" and controller in controllers.split(",") and controller in options
            if unified or own:
                found.append((group, mount, start))
    return found


def _mounts(root: str) -> list[tuple[str, list[str], str, str]]:
    """(kind, options, mount point, group mounted there) of the control groups' file systems."""
    found = []
    for line in _read(os.path.join(root, "proc/self/mountinfo")).splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(" "), after.split(" ")
        if len(fields) >= 5 and len(kind) >= 3 and kind[0] in ("cgroup", "cgroup2"):
            found.append((kind[0], kind[2].split(","), _unescaped(fields[4]), _unescaped(fields[3])))
    return found


def _unescaped(path: str) -> str:
    """The kernel writes blanks in paths as octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), path)


def _read(path: str) -> str:
    """The text of a small file; empty when it is absent or not ours to read."""
    try:
        with open(path, "rb") as file:
            return file.read(_LARGEST_FILE_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""
