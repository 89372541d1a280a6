"""Cores and memory as control groups leave them: files as kernels and containers write them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from topovlm.machine.environment import describe_machine
from topovlm.machine.host import free_memory_bytes, usable_cores
from topovlm.travel import limits

GIB = 1 << 30
CORES = len(os.sched_getaffinity(0))
MEMINFO = "MemTotal:       67108864 kB\nMemFree:         1000000 kB\nMemAvailable:   50331648 kB\n"
V2 = "31 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
UNLIMITED_V1 = "9223372036854771712\n"


def tree(root: Path, files: Mapping[str, str]) -> str:
    """A root folder with these files, and a machine of 64 GiB, 48 free."""
    for name, text in {"proc/meminfo": MEMINFO, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(root)


def memory_v1(folder: str, bound: str, used: int = 0, cached: int = 0) -> dict[str, str]:
    return {
        f"{folder}/memory.limit_in_bytes": bound,
        f"{folder}/memory.usage_in_bytes": f"{used}\n",
        f"{folder}/memory.stat": f"cache {cached}\ninactive_file 1\ntotal_inactive_file {cached}\n",
    }


def test_a_machine_without_bounds_is_all_there(tmp_path: Path) -> None:
    """Also where the system has no control groups, and where nothing tells."""
    root = tree(tmp_path, {})
    assert limits.memory_limits(root) == (64 * GIB, 48 * GIB)
    assert limits.usable_cores(root) == CORES
    assert limits.memory_limits(str(tmp_path / "nowhere")) == (None, None)


def test_version_2_in_a_container_of_its_own_name_space(tmp_path: Path) -> None:
    """Docker and podman: the group is the root in sight; file caches count as free."""
    files = {
        "proc/self/cgroup": "0::/\n",
        "proc/self/mountinfo": V2,
        "sys/fs/cgroup/cpu.max": "150000 100000\n",
        "sys/fs/cgroup/memory.max": f"{8 * GIB}\n",
        "sys/fs/cgroup/memory.current": f"{3 * GIB}\n",
        "sys/fs/cgroup/memory.stat": f"anon 5\nfile 9\ninactive_file {1 * GIB}\n",
    }
    root = tree(tmp_path, files)
    assert limits.usable_cores(root) == 1
    assert limits.memory_limits(root) == (8 * GIB, 6 * GIB)


@pytest.mark.parametrize("bound", ["memory.max", "memory.high"])
@pytest.mark.parametrize("tight", ["user.slice", "user.slice/user-7.slice", "user.slice/user-7.slice/job"])
def test_version_2_nested_takes_the_tightest(tmp_path: Path, tight: str, bound: str) -> None:
    """systemd and batch systems bound a group above the process's own, and leave `max` in the others."""
    own = "user.slice/user-7.slice/job"
    files = {"proc/self/cgroup": f"0::/{own}\n", "proc/self/mountinfo": V2}
    for depth in range(1, 4):
        folder = "sys/fs/cgroup/" + "/".join(own.split("/")[:depth])
        here = folder.endswith(tight)
        files[f"{folder}/memory.max"] = "max\n"
        files[f"{folder}/cpu.max"] = "100000 100000\n" if here else "max 100000\n"
        files[f"{folder}/{bound}"] = f"{4 * GIB}\n" if here else "max\n"
        files[f"{folder}/memory.current"] = f"{1 * GIB}\n"
    root = tree(tmp_path, files)
    assert limits.memory_limits(root) == (4 * GIB, 3 * GIB)
    assert limits.usable_cores(root) == 1


def test_version_1_with_controllers_that_share_a_mount(tmp_path: Path) -> None:
    """Older distributions, JetPack among them; "no limit" is a number there."""
    mounts = (
        "33 30 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
        "34 30 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    )
    files = {
        "proc/self/cgroup": "5:memory:/jobs/7\n4:cpu,cpuacct:/jobs/7\n1:name=systemd:/\n0::/\n",
        "proc/self/mountinfo": mounts,
        "sys/fs/cgroup/cpu,cpuacct/jobs/7/cpu.cfs_quota_us": "-1\n",
        "sys/fs/cgroup/cpu,cpuacct/jobs/cpu.cfs_quota_us": "100000\n",
        "sys/fs/cgroup/cpu,cpuacct/jobs/cpu.cfs_period_us": "100000\n",
        **memory_v1("sys/fs/cgroup/memory/jobs/7", UNLIMITED_V1),
        **memory_v1("sys/fs/cgroup/memory/jobs", f"{2 * GIB}\n", GIB, GIB // 2),
    }
    root = tree(tmp_path, files)
    assert limits.memory_limits(root) == (2 * GIB, 3 * GIB // 2)
    assert limits.usable_cores(root) == 1


def test_version_1_in_a_container_that_sees_the_hosts_path(tmp_path: Path) -> None:
    """Docker without name spaces of groups: the path is the host's, the mount the container's own group."""
    group = "/docker/0123abcd"
    files = {
        "proc/self/cgroup": f"5:memory:{group}\n",
        "proc/self/mountinfo": f"34 30 0:30 {group} /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n",
        **memory_v1("sys/fs/cgroup/memory", f"{GIB}\n"),
    }
    assert limits.memory_limits(tree(tmp_path, files)) == (GIB, GIB)


def test_used_up_is_nothing_left(tmp_path: Path) -> None:
    """Never less than none, also for a group above its bound."""
    files = {
        "proc/self/cgroup": "0::/a b\n",
        "proc/self/mountinfo": V2,
        "sys/fs/cgroup/a b/memory.high": f"{GIB}\n",
        "sys/fs/cgroup/a b/memory.current": f"{2 * GIB}\n",
    }
    assert limits.memory_limits(tree(tmp_path, files)).free_bytes == 0


def test_who_asks_is_told_the_same() -> None:
    """Threads, the check before a load, and what a report says of the machine."""
    told = describe_machine()
    assert told.usable_cores == usable_cores() == limits.usable_cores()
    total, free = limits.memory_limits()
    assert told.memory_total_bytes == total
    assert free is not None
    assert abs((free_memory_bytes() or 0) - free) < GIB
