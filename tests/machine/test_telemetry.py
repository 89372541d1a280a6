"""Readers of a machine's state, against trees of files as boards and laptops show them."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from topovlm import records
from topovlm.machine import tools
from topovlm.machine.look import read_cpu, read_look
from topovlm.machine.power import PowerLog
from topovlm.machine.telemetry import (
    Clock,
    Telemetry,
    doubts,
    last_level_cache_bytes,
    read_power_mode,
    read_rails,
    read_telemetry,
)
from topovlm.machine.tools import Answer, parse_gpus, throttle_reasons

# As an AGX Orin shows itself: nvpmodel, cpufreq, devfreq, thermal zones, over-current events, one INA3221.
ORIN = {
    "var/lib/nvpmodel/status": "pmode:0002",
    "etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=MAXN >\nCPU_ONLINE 1\n< POWER_MODEL ID=2 NAME=30W >\n",
    **{
        f"sys/devices/system/cpu/cpu{core}/cpufreq/{name}": text
        for core in (0, 2, 10)
        for name, text in {
            "scaling_governor": "schedutil",
            "scaling_cur_freq": "729600",
            "scaling_min_freq": "729600",
            "scaling_max_freq": "1728000",
            "cpuinfo_max_freq": "2201600",
        }.items()
    },
    "sys/class/devfreq/17000000.gpu/governor": "nvhost_podgov",
    "sys/class/devfreq/17000000.gpu/cur_freq": "306000000",
    "sys/class/devfreq/17000000.gpu/min_freq": "306000000",
    "sys/class/devfreq/17000000.gpu/max_freq": "612000000",
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal",
    "sys/class/thermal/thermal_zone0/temp": "47656",
    "sys/class/thermal/thermal_zone1/type": "gpu-thermal",  # powered down: no temperature
    "sys/class/thermal/cooling_device0/type": "gpu-throttle-alert",
    "sys/class/thermal/cooling_device0/cur_state": "0",
    "sys/class/thermal/cooling_device1/type": "pwm-fan",
    "sys/class/thermal/cooling_device1/cur_state": "3",
    "sys/class/hwmon/hwmon1/name": "soctherm_oc",
    "sys/class/hwmon/hwmon1/oc1_event_cnt": "0",
    "sys/class/hwmon/hwmon1/oc3_event_cnt": "4",
    "sys/class/hwmon/hwmon3/name": "ina3221",
    "sys/class/hwmon/hwmon3/in1_label": "VDD_IN",
    "sys/class/hwmon/hwmon3/in1_input": "19000",
    "sys/class/hwmon/hwmon3/curr1_input": "500",
    "sys/class/hwmon/hwmon3/in2_label": "VDD_CPU_CV",
    "sys/class/hwmon/hwmon3/in2_input": "19000",
    "sys/class/hwmon/hwmon3/curr2_input": "40",
    "sys/class/hwmon/hwmon3/in7_label": "sum of shunt voltages",
    "sys/class/hwmon/hwmon3/in7_input": "2",
}
LAPTOP = {
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave",
    "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": "7",
    "sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_count": "9",
    "sys/devices/system/cpu/cpu0/cache/index0/size": "48K",
    "sys/devices/system/cpu/cpu0/cache/index3/size": "24M",
    "sys/class/power_supply/AC/type": "Mains",
    "sys/class/power_supply/AC/online": "0",
    "sys/class/powercap/intel-rapl:0/name": "package-0",
    "sys/class/powercap/intel-rapl:0/energy_uj": "900000000",
    "sys/class/powercap/intel-rapl:0/max_energy_range_uj": "1000000000",
}


def write(root: Path, files: dict[str, str]) -> Path:
    """A recorded tree on disk."""
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text + "\n")
    return root


def test_a_board_tells_its_state(tmp_path: Path) -> None:
    """Mode by name, clocks in MHz, heat, events and watts, each under the board's own names."""
    seen = read_telemetry(write(tmp_path, ORIN))
    assert seen.power_mode == "30W"
    assert [clock.name for clock in seen.cpus] == ["cpu0", "cpu2", "cpu10"]
    assert seen.cpus[0] == Clock("cpu0", "schedutil", 729.6, 729.6, 1728.0, 2201.6)
    assert seen.devices == (Clock("17000000.gpu", "nvhost_podgov", 306.0, 306.0, 612.0),)
    assert seen.temperatures_c == {"cpu-thermal": 47.656}
    assert seen.throttle_counts == {"soctherm_oc oc1": 0, "soctherm_oc oc3": 4}
    assert seen.alerts == {"gpu-throttle-alert": 0}
    assert seen.rails_w == pytest.approx({"VDD_IN": 9.5, "VDD_CPU_CV": 0.76})
    assert [clock.name for clock in seen.brief().cpus] == ["cpu0"]
    assert records.decode(records.encode(seen), Telemetry, field="look", name="x") == seen


def test_a_laptop_tells_other_things(tmp_path: Path) -> None:
    """Throttle counters of the cores, battery, the largest cache."""
    root = write(tmp_path, LAPTOP)
    seen = read_telemetry(root)
    assert seen.throttle_counts == {"cpu0 core": 7, "cpu0 package": 9}
    assert seen.on_battery is True
    assert last_level_cache_bytes(root) == 24 << 20


def test_a_silent_system_is_no_error(tmp_path: Path) -> None:
    """Nothing there: nothing claimed, nothing doubted; unreadable numbers are absent."""
    assert read_telemetry(tmp_path) == Telemetry()
    assert doubts(Telemetry(), Telemetry()) == []
    assert last_level_cache_bytes(tmp_path) is None
    write(tmp_path, {"sys/class/thermal/thermal_zone0/temp": "hot", "var/lib/nvpmodel/status": "pmode:x"})
    assert read_telemetry(tmp_path) == Telemetry()


def test_unlocked_clocks_and_battery_are_named(tmp_path: Path) -> None:
    """Free clocks and a battery are doubts that do not forbid the figures."""
    board = read_telemetry(write(tmp_path / "board", ORIN))
    laptop = read_telemetry(write(tmp_path / "laptop", LAPTOP))
    found = doubts(board, board) + doubts(laptop, laptop)
    assert [doubt.kind for doubt in found] == ["clocks", "clocks", "clocks", "battery"]
    assert "schedutil" in found[0].text
    assert "306 to 612 MHz" in found[1].text
    assert "jetson_clocks" in found[1].text
    assert not any(doubt.grave for doubt in found)


@pytest.mark.parametrize(
    ("files", "locked"),
    [
        ({"scaling_governor": "performance"}, True),
        ({"scaling_governor": "schedutil", "scaling_min_freq": "1000", "scaling_max_freq": "1000"}, True),
        ({"scaling_governor": "schedutil", "scaling_min_freq": "500", "scaling_max_freq": "1000"}, False),
        ({"scaling_governor": "ondemand"}, False),
    ],
)
def test_what_counts_as_locked(tmp_path: Path, files: dict[str, str], locked: bool) -> None:
    """The governor that keeps the highest clock, or a range of one clock."""
    root = write(tmp_path, {f"sys/devices/system/cpu/cpu0/cpufreq/{k}": v for k, v in files.items()})
    assert read_telemetry(root).cpus[0].locked is locked


def test_throttling_is_grave(tmp_path: Path) -> None:
    """A counter that rose, an alert, a driver's reason: each makes the figures unfit to keep."""
    before = read_telemetry(write(tmp_path, ORIN))
    write(tmp_path, {"sys/class/hwmon/hwmon1/oc3_event_cnt": "6"})
    write(tmp_path, {"sys/class/thermal/cooling_device0/cur_state": "1"})
    asked = tools.QUESTIONS["nvidia-smi"][0]
    answer = ", ".join(["Card", *["[N/A]"] * 7, "0x0000000000000041"])
    after = read_telemetry(tmp_path, {"nvidia-smi": Answer(asked, answer)})
    grave = [doubt.text for doubt in doubts(before, after) if doubt.grave]
    assert grave == [
        "throttled: soctherm_oc oc3 counted 2 more events",
        "throttled: gpu-throttle-alert is active",
        "throttled: Card: hardware thermal slowdown",
    ]


def test_reasons_of_the_driver() -> None:
    """Idle clocks and the application's own clocks are no throttling; the older name is read too."""
    assert throttle_reasons({"clocks_event_reasons.active": "0x0000000000000003"}) == []
    assert throttle_reasons({"clocks_throttle_reasons.active": "0x4"}) == ["power cap"]
    assert throttle_reasons({}) == []


def test_rows_of_the_driver() -> None:
    """What the driver does not support is left out."""
    text = "NVIDIA A10, 550.54, [N/A]\nNVIDIA A10, 550.54, 61\n"
    first, second = parse_gpus(text, ("name", "driver_version", "temperature.gpu"))
    assert first == {"name": "NVIDIA A10", "driver_version": "550.54"}
    assert second["temperature.gpu"] == "61"


def test_older_rails_and_unknown_modes(tmp_path: Path) -> None:
    """Rails as iio devices, chips that multiply by themselves; a mode id that the file lacks has no name."""
    device = "sys/bus/i2c/drivers/ina3221x/1-0040/iio:device0"
    root = write(
        tmp_path,
        {
            f"{device}/rail_name_0": "VDD_IN",
            f"{device}/in_power0_input": "4321",
            "sys/class/hwmon/hwmon0/name": "ina238",
            "sys/class/hwmon/hwmon0/power1_input": "2500000",
            "var/lib/nvpmodel/status": "pmode:0009",
            "etc/nvpmodel.conf": ORIN["etc/nvpmodel.conf"],
        },
    )
    assert read_rails(root) == pytest.approx({"VDD_IN": 4.321, "ina238.power1": 2.5})
    assert read_power_mode(root) is None


def test_energy_is_power_over_time(tmp_path: Path) -> None:
    """A constant rail gives watts times seconds; nothing to read gives nothing and no thread."""
    root = write(tmp_path / "board", ORIN)
    pause = threading.Event()
    with PowerLog(root, interval_s=0.01) as log:
        pause.wait(0.1)
    assert log.energy_j["VDD_IN"] == pytest.approx(9.5 * log.seconds, rel=0.2)
    assert log.mean_w["VDD_IN"] == pytest.approx(9.5, rel=0.2)
    with PowerLog(tmp_path) as silent:
        pass
    assert (silent.energy_j, silent.mean_w) == ({}, {})


def test_energy_counters_wrap(tmp_path: Path) -> None:
    """A counter that started again is read across its end."""
    root = write(tmp_path, LAPTOP)
    with PowerLog(root) as log:
        write(root, {"sys/class/powercap/intel-rapl:0/energy_uj": "100000000"})
    assert log.energy_j == pytest.approx({"package-0 (intel-rapl:0)": 200.0})


def test_the_tool_is_asked_less_until_it_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that knows no reasons at all still tells its GPU: with the fields it was asked for last."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text('#!/bin/sh\ncase "$1" in *reasons*) exit 2;; esac\necho "Card, 550.54, [N/A], 300 MHz"\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    answers = tools.ask_here()
    assert "reasons" not in " ".join(answers["nvidia-smi"].asked)
    assert tools.gpus(answers) == ({"name": "Card", "driver_version": "550.54", "clocks.sm": "300 MHz"},)


def test_the_tools_own_mode_comes_first(tmp_path: Path) -> None:
    """`nvpmodel -q` says the mode by name, under its new or its old form; else the files say it."""
    root = write(tmp_path, ORIN)
    said = Answer(("nvpmodel", "-q"), "NV Fan Mode:quiet\nNV Power Mode: MODE_15W\n0")
    assert read_telemetry(root, {"nvpmodel": said}).power_mode == "15W"
    assert read_telemetry(root, {"nvpmodel": Answer(("nvpmodel", "-q"), "")}).power_mode == "30W"


def test_names_of_processors(tmp_path: Path) -> None:
    """The marketing name, else what an Arm kernel tells; a look at nothing claims nothing."""
    root = write(tmp_path, {"proc/cpuinfo": "processor\t: 0\nCPU part\t: 0xd42"})
    assert read_cpu(root) == "CPU part 0xd42"
    write(tmp_path, {"proc/cpuinfo": "processor\t: 0\nmodel name\t: Thing 9000\ncpu MHz\t\t: 2100.5"})
    look = read_look(root, {})
    assert (look.cpu, look.cpu_mhz, look.compatible, look.l4t) == ("Thing 9000", 2100.5, (), None)
