"""A board as its TOML file states it: facts with sources; what does not fit is refused by file and field.

A misspelt key is an error rather than a silently missing fact.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from topovlm.errors import InputError, explain
from topovlm.records import Strict, convert
from topovlm.toml import read_toml

SCHEMA = 1
GIB = 2**30
_FIELD = "target file"
_REMEDY = "Correct it: targets/*.toml show every field"

# Wide enough for any machine, narrow enough that what is computed from two of them stays a number.
Positive = Annotated[float, msgspec.Meta(ge=1e-9, le=1e12)]
NotNegative = Annotated[float, msgspec.Meta(ge=0, le=1e12)]
Count = Annotated[int, msgspec.Meta(ge=1, le=10**9)]
Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$")]


class Match(Strict, frozen=True, kw_only=True):
    """How a live device is recognised: device-tree strings (Jetson) or the driver's GPU names."""

    compatible: tuple[str, ...] = ()
    gpu_names: tuple[str, ...] = ()
    compute_capability: str = ""


class Gpu(Strict, frozen=True, kw_only=True):
    """Peak arithmetic: dense operations per multiprocessor and clock by number format (no key: none).

    `warp_flop_per_sm_clk`: those of products by single warps (mma.sync), where wider ones (wgmma, tcgen05)
    give the peak; kernels that unpack weights on the way use them.
    """

    arch: str = ""
    sm: Count
    flop_per_sm_clk: dict[str, Positive]
    warp_flop_per_sm_clk: dict[str, Positive] = msgspec.field(default_factory=dict)
    l2_mb: NotNegative | None = None


class Memory(Strict, frozen=True, kw_only=True):
    """`total_gib` is what the system can use; on `unified` boards CPU and GPU share it."""

    unified: bool
    total_gib: Positive
    nominal_gb: Positive | None = None
    type: str = ""
    bus_bits: Count | None = None
    os_reserve_gib: dict[str, NotNegative] = msgspec.field(default_factory=dict)
    safety_gib: NotNegative = 0.3
    swap_usable_by_gpu: bool = False


class Mode(Strict, frozen=True, kw_only=True):
    """One power mode. A mode without `gpu_mhz` is known by name only and cannot be planned for."""

    name: Name
    sm: Count | None = None
    gpu_mhz: Positive | None = None
    emc_mhz: Positive | None = None
    bandwidth_gbs: Positive | None = None
    power_w: Positive | None = None
    cpu_cores: Count | None = None
    cpu_mhz: Positive | None = None
    nvpmodel_id: int | None = None
    note: str = ""


class Software(Strict, frozen=True, kw_only=True):
    """A software release that the board runs."""

    jetpack: str = ""
    l4t: str = ""
    cuda: str = ""
    cudnn: str = ""
    tensorrt: str = ""
    edge_llm: str = ""
    python: str = ""
    notes: tuple[str, ...] = ()


class BoardEfficiency(Strict, frozen=True, kw_only=True):
    """A phase's constants on this very board; they win over those that were fitted for its family.

    `efficiency`: share of peak arithmetic (decode: of bandwidth); `runtime_versions`: what it was found with.
    """

    runtime: str
    runtime_versions: str = ""
    dtype: str
    phase: Literal["vision", "prefill", "decode"]
    efficiency: Annotated[float, msgspec.Meta(ge=1e-9, le=1)]
    layer_kcycles: NotNegative = 0.0
    bytes_per_sm_clock: NotNegative = 0.0  # 0: reads are never held up by the multiprocessors
    spread: Positive
    source: Literal["published", "calibrated"]


class Board(Strict, frozen=True, kw_only=True):
    """One board or GPU: facts, power modes, software, where each fact comes from."""

    schema: int
    id: Name
    name: str
    family: Name
    default_mode: Name
    gpu: Gpu | None = None
    memory: Memory
    modes: Annotated[tuple[Mode, ...], msgspec.Meta(min_length=1)] = msgspec.field(name="mode")
    aliases: tuple[Name, ...] = ()
    match: Match = Match()
    software: tuple[Software, ...] = ()
    efficiencies: tuple[BoardEfficiency, ...] = msgspec.field(name="efficiency", default=())
    provenance: dict[str, str] = msgspec.field(default_factory=dict)

    def mode(self, name: str | None = None) -> Mode:
        """The mode of that name (any case), or the default one. Raises `InputError` listing the modes."""
        wanted = (name or self.default_mode).casefold()
        for mode in self.modes:
            if mode.name.casefold() == wanted:
                return mode
        known = ", ".join(mode.name for mode in self.modes)
        raise InputError(explain("mode", name, f"is not a power mode of {self.id}", f"Its modes: {known}"))

    def bandwidth_bytes_per_s(self, mode: Mode) -> float | None:
        """Peak memory bandwidth: stated, or memory clock x 2 (double data rate) x bus width."""
        if mode.bandwidth_gbs is not None:
            return mode.bandwidth_gbs * 1e9
        if mode.emc_mhz is None or self.memory.bus_bits is None:
            return None
        return mode.emc_mhz * 1e6 * 2 * self.memory.bus_bits / 8

    def peak_flop_per_s(self, mode: Mode, number_format: str) -> float | None:
        """Dense peak of a number format (a key of `gpu.flop_per_sm_clk`), or None where unsupported.

        `warp:KEY`: that of products by single warps.
        """
        if self.gpu is None or mode.gpu_mhz is None:
            return None
        kind, _, name = number_format.rpartition(":")
        rate = self.gpu.flop_per_sm_clk.get(name)
        if kind:
            rate = self.gpu.warp_flop_per_sm_clk.get(name, rate)
        return None if rate is None else rate * (mode.sm or self.gpu.sm) * mode.gpu_mhz * 1e6


def read_board(path: Path) -> Board:
    """Read one target file. Raises `InputError` for a missing, unreadable or invalid file."""
    found = read_toml(path, field=_FIELD)
    _refuse_retired(found, path.name)
    board = convert(found, Board, field=_FIELD, name=path.name, remedy=_REMEDY)
    _check(board, path.name)
    return board


# Keys of [[efficiency]] that files of earlier versions have, and what to do about them.
_RETIRED = {
    "host_us_per_layer": "Give layer_kcycles instead: microseconds x gpu_mhz / 1000",
    "overlap": "Leave it out: how computing and reading overlap is part of the form",
}


def _refuse_retired(found: Mapping[str, Any], origin: str) -> None:
    entries = found.get("efficiency")
    for entry in entries if isinstance(entries, list) else []:
        for key, remedy in _RETIRED.items():
            if isinstance(entry, dict) and key in entry:
                field = f"{origin}: efficiency.{key}"
                raise InputError(explain(field, entry[key], "is not read any more", remedy))


def _check(board: Board, origin: str) -> None:
    """Rules that span fields."""
    if board.schema != SCHEMA:
        raise InputError(explain(f"{origin}: schema", board.schema, f"only {SCHEMA} is understood"))
    names = [mode.name.casefold() for mode in board.modes]
    if len(set(names)) != len(names):
        raise InputError(explain(f"{origin}: mode.name", names, "two modes have the same name"))
    if board.default_mode.casefold() not in names:
        rule = "is not one of the modes of this file"
        raise InputError(explain(f"{origin}: default_mode", board.default_mode, rule, ", ".join(names)))
    for mode in board.modes:
        field = f"{origin}: mode {mode.name}"
        if mode.gpu_mhz is not None and board.gpu is None:
            raise InputError(explain(field, mode.gpu_mhz, "gpu_mhz needs a [gpu] table"))
        if mode.gpu_mhz is not None and board.bandwidth_bytes_per_s(mode) is None:
            rule = "a mode with gpu_mhz needs its memory bandwidth"
            raise InputError(explain(field, None, rule, "Give bandwidth_gbs, or emc_mhz and memory.bus_bits"))
        if board.gpu is not None and mode.sm is not None and mode.sm > board.gpu.sm:
            raise InputError(explain(field, mode.sm, f"sm exceeds the {board.gpu.sm} of the GPU"))
