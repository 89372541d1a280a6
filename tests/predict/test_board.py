"""Target files: what is refused, and how the message names field, value and remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from topovlm.errors import InputError
from topovlm.predict.board import read_board
from topovlm.predict.target import load_target

GOOD = """
schema = 1
id = "my-board"
name = "My board"
family = "jetson-orin"
default_mode = "MAXN"
[gpu]
sm = 8
flop_per_sm_clk = { f16_acc32 = 2048, f16_acc16 = 2048 }
[memory]
unified = true
total_gib = 7.4
bus_bits = 128
[[mode]]
name = "MAXN"
gpu_mhz = 1000
emc_mhz = 3200
[[mode]]
name = "low"
sm = 4
gpu_mhz = 500
bandwidth_gbs = 50
"""


def written(folder: Path, text: str) -> Path:
    file = folder / "mine.toml"
    file.write_text(text)
    return file


def test_peaks_and_bandwidth_follow_from_clocks(tmp_path: Path) -> None:
    """Peak = SM x clock x operations; bandwidth = memory clock x 2 x bus, unless stated."""
    board = read_board(written(tmp_path, GOOD))
    assert board.peak_flop_per_s(board.mode(), "f16_acc32") == 8 * 1e9 * 2048
    assert board.peak_flop_per_s(board.mode("low"), "f16_acc32") == 4 * 5e8 * 2048
    assert board.bandwidth_bytes_per_s(board.mode()) == 3200e6 * 2 * 128 / 8
    assert board.bandwidth_bytes_per_s(board.mode("LOW")) == 50e9
    assert board.peak_flop_per_s(board.mode(), "fp8") is None


@pytest.mark.parametrize(
    ("old", "new", "names"),
    [
        ('name = "My board"\n', "", ["mine.toml", "name", "missing"]),
        ("sm = 8", 'sm = "eight"', ["mine.toml", "gpu.sm", "eight", "int"]),
        ("sm = 8", "sm = 0", ["gpu.sm", "0", ">= 1"]),
        ("gpu_mhz = 1000", "gpu_mhz = -5", ["mode[0].gpu_mhz", "-5"]),
        ("unified = true", "unifed = true", ["unifed", "mine.toml"]),
        ("schema = 1", "schema = 7", ["schema", "7", "1"]),
        ('default_mode = "MAXN"', 'default_mode = "15W"', ["default_mode", "15W", "maxn"]),
        ('name = "low"', 'name = "maxn"', ["mode.name", "same name"]),
        ("emc_mhz = 3200\n", "", ["MAXN", "bandwidth_gbs"]),
        ("sm = 4", "sm = 9", ["low", "9", "8"]),
        ("schema = 1", "schema = = 1", ["mine.toml", "TOML"]),
    ],
)
def test_a_bad_file_is_refused_by_field_value_and_rule(
    old: str, new: str, names: list[str], tmp_path: Path
) -> None:
    """Each message names the file, the field, its value and the rule."""
    with pytest.raises(InputError) as caught:
        read_board(written(tmp_path, GOOD.replace(old, new, 1)))
    for name in names:
        assert name in str(caught.value)


def test_an_unknown_mode_lists_the_modes(tmp_path: Path) -> None:
    """A wrong mode name is answered with the right ones."""
    with pytest.raises(InputError, match="MAXN, low"):
        read_board(written(tmp_path, GOOD)).mode("15W")


@pytest.mark.parametrize(
    ("key", "names"),
    [
        ("host_us_per_layer = 20", ["mine.toml", "host_us_per_layer", "20", "layer_kcycles", "gpu_mhz"]),
        ("overlap = 2", ["mine.toml", "overlap", "Leave it out"]),
    ],
)
def test_a_file_of_an_earlier_version_is_told_what_to_write(
    key: str, names: list[str], tmp_path: Path
) -> None:
    """Keys that were read once are refused with what replaced them."""
    entry = f"""
[[efficiency]]
runtime = "tensorrt"
dtype = "w4a16"
phase = "prefill"
efficiency = 0.5
{key}
spread = 0.1
source = "calibrated"
"""
    with pytest.raises(InputError) as caught:
        read_board(written(tmp_path, GOOD + entry))
    for name in names:
        assert name in str(caught.value)


def test_kernels_that_unpack_weights_have_the_rate_of_single_warps() -> None:
    """Four-bit weights in 16-bit products: a quarter of the peak on Thor, 63 % on Hopper, all on Orin."""
    for name, share in (("jetson-thor", 0.25), ("h100-pcie", 0.629), ("jetson-orin", 1.0)):
        target = load_target(name)
        packed, peak = (target.peak_flop_per_s(f"{kind}f16_acc16") for kind in ("warp:", ""))
        assert packed is not None
        assert peak is not None
        assert packed / peak == pytest.approx(share, abs=1e-3)
