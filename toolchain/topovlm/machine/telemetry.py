"""What a machine tells about its own state: clocks, heat, throttling, power. Pure readers of files.

Every reader takes the root of the file system, so that a recorded tree can stand for a board. What a system
does not tell is absent, never a guess. Sources: the kernel's sysfs ABI (cpufreq, devfreq, thermal, hwmon,
powercap, power_supply) and, on Jetson, nvpmodel's own files; INA3221 rails as hwmon or as older iio devices.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from topovlm.machine import tools
from topovlm.machine.tools import Answers, Gpu

ROOT = Path("/")
_MOST = 1e15  # of what a sensor tells
_ONE_MHZ = {"khz": 1e3, "hz": 1e6}


@dataclass(frozen=True)
class Clock:
    """One clock domain: its present rate and the range that its governor may choose from."""

    name: str
    governor: str | None
    current_mhz: float | None
    lowest_mhz: float | None
    highest_mhz: float | None
    hardware_mhz: float | None = None  # the most that the silicon offers, where it says so

    @property
    def locked(self) -> bool:
        """Whether the rate stays as it is: a range of one rate, or a governor that keeps the highest."""
        if self.lowest_mhz is not None and self.lowest_mhz == self.highest_mhz:
            return True
        return self.governor in ("performance", "userspace")


@dataclass(frozen=True)
class Telemetry:
    """One look. `throttle_counts` only ever rise; `alerts` are the throttling requests of the moment."""

    power_mode: str | None = None
    cpus: tuple[Clock, ...] = ()
    devices: tuple[Clock, ...] = ()
    temperatures_c: dict[str, float] = field(default_factory=dict)
    throttle_counts: dict[str, int] = field(default_factory=dict)
    alerts: dict[str, int] = field(default_factory=dict)
    rails_w: dict[str, float] = field(default_factory=dict)
    on_battery: bool | None = None
    gpus: tuple[Gpu, ...] = ()

    def brief(self) -> Telemetry:
        """As it is stored: clock domains of cores that agree in all but their rate are given once."""
        return replace(self, cpus=_distinct(self.cpus))


@dataclass(frozen=True)
class Doubt:
    """Why figures taken on this machine may not hold; a `grave` one makes them unfit to be kept."""

    kind: str  # clocks, throttling, battery, drift, load
    text: str
    grave: bool = False


def read_telemetry(root: Path = ROOT, answers: Answers | None = None) -> Telemetry:
    """Look once; `answers` is what the machine's tools said at the same moment (`tools.ask_here`)."""
    answers = answers or {}
    return Telemetry(
        power_mode=tools.power_mode(answers) or read_power_mode(root),
        cpus=tuple(read_cpu_clocks(root)),
        devices=tuple(read_device_clocks(root)),
        temperatures_c=dict(_temperatures(root)),
        throttle_counts=dict(_throttle_counts(root)),
        alerts=dict(_alerts(root)),
        rails_w=read_rails(root),
        on_battery=_on_battery(root),
        gpus=tools.gpus(answers),
    )


def doubts(before: Telemetry, after: Telemetry) -> list[Doubt]:
    """What the machine's state says against figures taken between two looks at it.

    Clocks that may change and a battery are named. Throttling - a counter that rose, an alert, the GPU
    driver's reasons - is grave: such figures describe the cooling, not the machine.
    """
    found = []
    free = [clock for clock in after.cpus if not clock.locked]
    if free:
        found.append(Doubt("clocks", f"CPU clocks are not locked: governor {free[0].governor!r}"))
    loose = [clock for clock in after.devices if not clock.locked and "gpu" in clock.name.lower()]
    if loose:
        ends = (loose[0].lowest_mhz, loose[0].highest_mhz)
        span = " to ".join("unknown" if end is None else f"{end:g}" for end in ends)
        found.append(Doubt("clocks", f"GPU clocks are not locked ({span} MHz): run `sudo jetson_clocks`"))
    for name, count in after.throttle_counts.items():
        rise = count - before.throttle_counts.get(name, count)
        if rise > 0:
            found.append(Doubt("throttling", f"throttled: {name} counted {rise} more events", grave=True))
    for name in after.alerts:
        if before.alerts.get(name, 0) > 0 or after.alerts[name] > 0:
            found.append(Doubt("throttling", f"throttled: {name} is active", grave=True))
    for gpu in after.gpus:
        for reason in tools.throttle_reasons(gpu):
            name = gpu.get("name", "GPU")
            found.append(Doubt("throttling", f"throttled: {name}: {reason}", grave=True))
    if after.on_battery:
        found.append(Doubt("battery", "the machine runs on battery: clocks may be held down"))
    return found


def read_cpu_clocks(root: Path = ROOT) -> Iterator[Clock]:
    """The cpufreq domain of every core that has one."""
    for folder in _numbered(root / "sys/devices/system/cpu", "cpu[0-9]*"):
        freq = folder / "cpufreq"
        if freq.is_dir():
            rates = [
                _mhz(freq / name, "khz")
                for name in ("scaling_cur_freq", "scaling_min_freq", "scaling_max_freq", "cpuinfo_max_freq")
            ]
            yield Clock(folder.name, read_text(freq / "scaling_governor"), *rates)


def read_device_clocks(root: Path = ROOT) -> Iterator[Clock]:
    """Devices with a devfreq domain: on Jetson the GPU, the video engines, the memory controller."""
    for folder in _numbered(root / "sys/class/devfreq", "*"):
        rates = [_mhz(folder / name, "hz") for name in ("cur_freq", "min_freq", "max_freq")]
        yield Clock(_device_name(folder), read_text(folder / "governor"), *rates)


def read_power_mode(root: Path = ROOT) -> str | None:
    """Jetson's nvpmodel mode by name: ids mean different modes on different boards."""
    status = re.search(r"(\d{1,9})", read_text(root / "var/lib/nvpmodel/status") or "")
    conf = read_text(root / "etc/nvpmodel.conf") or ""
    if status is None:
        return None
    match = re.search(rf"<\s*POWER_MODEL\s+ID={int(status[1])}\s+NAME=(\S+?)\s*>", conf)
    return match[1] if match else None


def read_rails(root: Path = ROOT) -> dict[str, float]:
    """Watts by supply rail, from power monitors: INA3221 volts x amperes, or a chip's own product."""
    rails: dict[str, float] = {}
    for chip in _numbered(root / "sys/class/hwmon", "hwmon*"):
        name = read_text(chip / "name") or chip.name
        for volts in sorted(chip.glob("in[0-9]*_input")):
            number = volts.name.removeprefix("in").removesuffix("_input")
            millivolts, milliamperes = _number(volts), _number(chip / f"curr{number}_input")
            if millivolts is not None and milliamperes is not None:
                label = read_text(chip / f"in{number}_label") or f"{name}.{number}"
                rails[label] = millivolts * milliamperes / 1e6
        for watts in sorted(chip.glob("power[0-9]*_input")):
            microwatts = _number(watts)
            if microwatts is not None:
                number = watts.name.removesuffix("_input")
                rails[read_text(chip / f"{number}_label") or f"{name}.{number}"] = microwatts / 1e6
    for rail in sorted((root / "sys/bus/i2c/drivers").glob("ina3221*/*/iio:device*/rail_name_*")):
        milliwatts = _number(rail.with_name(f"in_power{rail.name.rpartition('_')[2]}_input"))
        rail_name = read_text(rail)
        if milliwatts is not None and rail_name:
            rails[rail_name] = milliwatts / 1e3
    return rails


def read_energy_counters(root: Path = ROOT) -> dict[str, tuple[float, float]]:
    """(joules counted, joules at which the counter starts again) by domain; needs leave to read them."""
    found = {}
    for folder in _numbered(root / "sys/class/powercap", "*:*"):
        used, wrap = _number(folder / "energy_uj"), _number(folder / "max_energy_range_uj")
        if used is not None and wrap:
            found[f"{read_text(folder / 'name') or 'domain'} ({folder.name})"] = (used / 1e6, wrap / 1e6)
    return found


def last_level_cache_bytes(root: Path = ROOT) -> int | None:
    """Size of the largest cache of the first core."""
    sizes = []
    for file in (root / "sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        match = re.fullmatch(r"(\d+)([KMG]?)", read_text(file) or "")
        if match:
            sizes.append(int(match[1]) * 1024 ** " KMG".index(match[2] or " "))
    return max(sizes, default=None)


def read_text(path: Path) -> str | None:
    """A file's stripped text; None when it is absent, empty or not ours to read."""
    try:
        return path.read_text(errors="replace").strip("\0 \n") or None
    except OSError:
        return None


def _temperatures(root: Path) -> Iterator[tuple[str, float]]:
    for zone in _numbered(root / "sys/class/thermal", "thermal_zone*"):
        millidegrees = _number(zone / "temp")  # a zone that is switched off refuses to be read
        if millidegrees is not None:
            yield read_text(zone / "type") or zone.name, millidegrees / 1e3


def _throttle_counts(root: Path) -> Iterator[tuple[str, int]]:
    for folder in _numbered(root / "sys/devices/system/cpu", "cpu[0-9]*"):
        for kind in ("core", "package"):
            count = _number(folder / f"thermal_throttle/{kind}_throttle_count")
            if count is not None:
                yield f"{folder.name} {kind}", int(count)
    for chip in _numbered(root / "sys/class/hwmon", "hwmon*"):  # Jetson: over-current events
        for file in sorted(chip.glob("oc[0-9]*_event_cnt")):
            count = _number(file)
            if count is not None:
                yield f"{read_text(chip / 'name') or chip.name} {file.name.partition('_')[0]}", int(count)


def _alerts(root: Path) -> Iterator[tuple[str, int]]:
    for device in _numbered(root / "sys/class/thermal", "cooling_device*"):
        kind, state = read_text(device / "type") or "", _number(device / "cur_state")
        if state is not None and kind.endswith("-alert"):
            yield kind, int(state)


def _on_battery(root: Path) -> bool | None:
    mains = [
        _number(supply / "online")
        for supply in _numbered(root / "sys/class/power_supply", "*")
        if read_text(supply / "type") == "Mains"
    ]
    known = [online for online in mains if online is not None]
    return not any(known) if known else None


def _distinct(clocks: tuple[Clock, ...]) -> tuple[Clock, ...]:
    kinds = {(c.governor, c.lowest_mhz, c.highest_mhz, c.hardware_mhz): c for c in reversed(clocks)}
    return tuple(sorted(kinds.values(), key=lambda clock: _order(clock.name)))


def _device_name(folder: Path) -> str:
    """`17000000.gpu` says gpu by itself; `17000000.gv11b` is known by its driver's class only."""
    known = {"gv11b": "gpu", "gp10b": "gpu", "ga10b": "gpu"}
    suffix = folder.name.rpartition(".")[2]
    return f"{folder.name} ({known[suffix]})" if suffix in known else folder.name


def _numbered(parent: Path, pattern: str) -> list[Path]:
    """Entries in the order of their numbers: cpu2 before cpu10."""
    return sorted(parent.glob(pattern), key=lambda path: _order(path.name))


def _order(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def _mhz(path: Path, unit: str) -> float | None:
    value = _number(path)
    return None if value is None else value / _ONE_MHZ[unit]


def _number(path: Path) -> float | None:
    try:
        value = float(read_text(path) or "")
    except ValueError:
        return None
    return value if abs(value) <= _MOST else None  # neither is what is no number
