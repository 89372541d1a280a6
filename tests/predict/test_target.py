"""Names of targets: aliases, modes, files, near names, and the facts that ship."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.predict.test_board import GOOD
from topovlm.errors import InputError
from topovlm.predict.target import list_boards, load_target

EXPECTED = (
    "jetson-orin-nano-4gb",
    "jetson-orin-nano-8gb",
    "jetson-orin-nx-8gb",
    "jetson-orin-nx-16gb",
    "jetson-agx-orin-32gb",
    "jetson-agx-orin-64gb",
    "jetson-agx-thor-t5000",
    "jetson-t4000",
    "jetson-agx-xavier",
    "jetson-xavier-nx",
    "rtx-2060",
    "rtx-3060-12gb",
    "rtx-3090",
    "rtx-4060",
    "rtx-4090",
    "rtx-4090-laptop",
    "rtx-5090",
    "t4",
    "a10",
    "l4",
    "a100-80gb-sxm",
    "h100-sxm",
    "h200-sxm",
)


def test_every_shipped_target_loads_in_every_mode_with_clocks() -> None:
    """All files are valid; each mode with clocks resolves and its key loads the same again."""
    ids = [board.id for board in list_boards()]
    assert set(EXPECTED) <= set(ids)
    for board in list_boards():
        assert board.provenance["facts"]
        for mode in board.modes:
            if mode.gpu_mhz is not None:
                target = load_target(board.id, mode.name)
                assert load_target(target.key).mode == mode
                assert target.bandwidth_bytes_per_s is not None
                assert target.peak_flop_per_s("f16_acc32") is not None


def test_names_and_aliases_are_unique() -> None:
    """No name means two boards."""
    names = [name for board in list_boards() for name in (board.id, *board.aliases)]
    assert len(names) == len(set(names))


def test_an_alias_says_what_it_resolved_to() -> None:
    """`jetson-orin` is one board in its default mode; the siblings are listed."""
    target = load_target("jetson-orin")
    assert target.board.id == "jetson-agx-orin-64gb"
    assert target.alias_of == "jetson-orin"
    assert "jetson-orin-nano-8gb" in target.siblings
    assert target.board.id not in target.siblings
    assert "jetson-orin-nano-8gb" in target.describe()
    assert load_target("jetson-agx-orin-64gb").alias_of is None


@pytest.mark.parametrize(
    ("name", "mode", "found"),
    [
        ("jetson-orin-nano@15W", None, "jetson-orin-nano-8gb@15W"),
        ("jetson_orin_nano@maxn_super", None, "jetson-orin-nano-8gb@MAXN_SUPER"),
        ("Jetson-Orin-Nano", "7w", "jetson-orin-nano-8gb@7W"),
        ("jetson-orin-nano@15W", "25W", "jetson-orin-nano-8gb@25W"),
        ("rtx-4090", None, "rtx-4090@boost"),
    ],
)
def test_modes_go_by_name(name: str, mode: str | None, found: str) -> None:
    """Suffix or argument, any case; the argument wins."""
    assert load_target(name, mode).key == found


def test_published_peaks_are_reproduced() -> None:
    """Known figures of three very different parts, from SM x clock x operations."""
    agx = load_target("jetson-agx-orin-64gb@MAXN")
    assert agx.peak_flop_per_s("f16_acc32") == pytest.approx(42.6e12, rel=0.01)
    assert agx.peak_flop_per_s("int8") == pytest.approx(85.2e12, rel=0.01)
    assert agx.bandwidth_bytes_per_s == pytest.approx(204.8e9, rel=0.01)
    assert load_target("rtx-4090").peak_flop_per_s("f16_acc32") == pytest.approx(165.2e12, rel=0.01)
    assert load_target("jetson-thor").peak_flop_per_s("fp4") == pytest.approx(1032e12, rel=0.01)
    assert load_target("rtx-2060").peak_flop_per_s("bf16") is None


def test_an_unknown_target_suggests_near_names() -> None:
    """A typing error is answered with names that exist."""
    with pytest.raises(InputError, match=r"jetson-orinn.*Did you mean .*jetson-orin"):
        load_target("jetson-orinn")
    with pytest.raises(InputError, match="topovlm targets"):
        load_target("???")


def test_a_mode_without_published_clocks_is_refused() -> None:
    """Thor's 120 W mode is known by name only: no figure is invented."""
    with pytest.raises(InputError, match=r"120W.*not published.*MAXN"):
        load_target("jetson-thor@120W")


def test_a_users_file_works_by_path(tmp_path: Path) -> None:
    """A TOML path is a target, with or without a mode."""
    path = tmp_path / "mine.toml"
    path.write_text(GOOD)
    assert load_target(str(path)).key == "my-board@MAXN"
    assert load_target(f"{path}@low").key == "my-board@low"
    with pytest.raises(InputError, match="does not exist"):
        load_target(str(tmp_path / "none.toml"))


def test_memory_left_for_a_model() -> None:
    """Total less the system's share and a margin."""
    target = load_target("jetson-orin-nano-8gb")
    assert target.usable_memory_bytes() == round((7.44 - 0.55 - 0.3) * 2**30)


def test_this_machine_is_a_target() -> None:
    """`local` has memory but no data sheet."""
    target = load_target("local")
    assert target.board.family == "local"
    assert target.usable_memory_bytes() > 0
    assert target.bandwidth_bytes_per_s is None
