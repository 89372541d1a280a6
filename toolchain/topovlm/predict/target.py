"""Names on the command line -> one board in one power mode."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from topovlm.errors import InputError, explain
from topovlm.predict.board import GIB, SCHEMA, Board, Memory, Mode, read_board
from topovlm.predict.phases import Machine
from topovlm.records import Part
from topovlm.travel.limits import memory_limits, usable_cores

__all__ = [
    "Board",
    "Mode",
    "ResolvedTarget",
    "TargetFacts",
    "data_dir",
    "list_boards",
    "load_target",
    "recognise",
    "unrecognised_target",
]

LOCAL = "local"
# What a profile calls a board or GPU that no target matches: its owner knows which it is.
UNRECOGNISED = "board"


class TargetFacts(Part, frozen=True, kw_only=True):
    """A target as plans and `topovlm targets` state it.

    `peak_tflops`: dense, by number format (None: clocks unknown);
    `usable_memory_bytes`: what a model may occupy; `source`: where the board's facts come from.
    """

    key: str
    id: str
    name: str
    family: str
    mode: str
    power_w: float | None
    gpu_mhz: float | None
    sm: int | None
    bandwidth_gbs: float | None
    peak_tflops: dict[str, float | None]
    memory_gib: float
    usable_memory_bytes: int
    compute_capability: str
    alias_of: str | None
    siblings: tuple[str, ...]
    source: str


@dataclass(frozen=True)
class ResolvedTarget:
    """A board in a power mode. `alias_of`: the alias it was asked by; `siblings`: ids of its family."""

    board: Board
    mode: Mode
    alias_of: str | None = None
    siblings: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """`jetson-orin-nano-8gb@25W`: names files and folders, and loads the same target again."""
        return f"{self.board.id}@{self.mode.name}"

    @property
    def bandwidth_bytes_per_s(self) -> float | None:
        return self.board.bandwidth_bytes_per_s(self.mode)

    def peak_flop_per_s(self, number_format: str) -> float | None:
        return self.board.peak_flop_per_s(self.mode, number_format)

    def machine(self, arithmetic: str, attention: str) -> Machine | None:
        """Peaks for work in those number formats; None where the data sheet lacks one."""
        peak, other = self.peak_flop_per_s(arithmetic), self.peak_flop_per_s(attention)
        bandwidth, clock, gpu = self.bandwidth_bytes_per_s, self.mode.gpu_mhz, self.board.gpu
        if peak is None or other is None or bandwidth is None or clock is None or gpu is None:
            return None
        return Machine(peak, other, bandwidth, clock * 1e6, (self.mode.sm or gpu.sm) * clock * 1e6)

    def usable_memory_bytes(self) -> int:
        """What a model may occupy: total less what a system without desktop takes, and a margin."""
        memory = self.board.memory
        reserve_gib = memory.os_reserve_gib.get("headless", 0.0)
        return max(0, round((memory.total_gib - reserve_gib - memory.safety_gib) * GIB))

    def describe(self) -> str:
        """One line for people: what the name resolved to."""
        text = f"{self.board.name} in mode {self.mode.name}"
        if self.alias_of:
            text += f" ({self.alias_of} is an alias; also: {', '.join(self.siblings)})"
        return text

    def facts(self) -> TargetFacts:
        """What plans and reports state of it."""
        gpu = self.board.gpu
        return TargetFacts(
            key=self.key,
            id=self.board.id,
            name=self.board.name,
            family=self.board.family,
            mode=self.mode.name,
            power_w=self.mode.power_w,
            gpu_mhz=self.mode.gpu_mhz,
            sm=self.mode.sm or (gpu.sm if gpu else None),
            bandwidth_gbs=_round(self.bandwidth_bytes_per_s, 1e9),
            peak_tflops={
                name: _round(self.peak_flop_per_s(name), 1e12)
                for name in (gpu.flop_per_sm_clk if gpu else ())
            },
            memory_gib=self.board.memory.total_gib,
            usable_memory_bytes=self.usable_memory_bytes(),
            compute_capability=self.board.match.compute_capability,
            alias_of=self.alias_of,
            siblings=self.siblings,
            source=self.board.provenance.get("facts", ""),
        )


def _round(value: float | None, unit: float) -> float | None:
    return None if value is None else round(value / unit, 1)


def data_dir(kind: str) -> Path:
    """Folder of `targets` or `profiles`: inside the installed package, else at the top of the checkout."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "data" / kind, package.parents[1] / kind):
        if folder.is_dir():
            return folder
    raise InputError(explain(kind, str(package), "no such data in this installation", "Reinstall topovlm"))


@lru_cache(maxsize=1)
def _catalogue() -> tuple[Board, ...]:
    return tuple(read_board(path) for path in sorted(data_dir("targets").glob("*.toml")))


def list_boards() -> list[Board]:
    """Every board shipped with the package, by id."""
    return sorted(_catalogue(), key=lambda board: board.id)


def _local_board() -> Board:
    total_bytes = memory_limits().total_bytes or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return _bare_board(LOCAL, "this machine", total_bytes, usable_cores())


def _bare_board(board_id: str, name: str, memory_bytes: int, cores: int) -> Board:
    """A machine without a data sheet: all that counts about it is measured."""
    reserve = {"headless": 0.55, "desktop": 1.6}
    mode = Mode(name="as-is", cpu_cores=cores, note=f"{name}: measured, not looked up")
    return Board(
        schema=SCHEMA,
        id=board_id,
        name=name,
        family=board_id,
        default_mode=mode.name,
        memory=Memory(unified=True, total_gib=memory_bytes / GIB, os_reserve_gib=reserve),
        modes=(mode,),
        provenance={"facts": f"measured on {name}"},
    )


def unrecognised_target(memory_bytes: int, cores: int, model: str | None = None) -> ResolvedTarget:
    """A machine at hand that is none of the known boards; `model`: what it calls itself."""
    board = _bare_board(UNRECOGNISED, model or "the board", memory_bytes, cores)
    return ResolvedTarget(board, board.mode())


def _looks_like_path(name: str) -> bool:
    return name.endswith(".toml") or os.sep in name


def _find(name: str) -> tuple[Board, str | None]:
    """Board of that id or alias, and the alias when it was one."""
    if name == LOCAL:
        return _local_board(), None
    if _looks_like_path(name):
        return read_board(Path(os.path.expanduser(name))), None
    wanted = name.casefold().replace("_", "-")
    names: dict[str, Board] = {}
    for board in list_boards():
        if board.id == wanted:
            return board, None
        names |= dict.fromkeys((board.id, *board.aliases), board)
    if wanted in names:
        return names[wanted], wanted
    near = difflib.get_close_matches(wanted, [*names, LOCAL], n=4, cutoff=0.5)
    hint = f"Did you mean {', '.join(near)}?" if near else "`topovlm targets` lists them all."
    raise InputError(
        explain("--target", name, "is not a known target", f"{hint} A path to a TOML file works too")
    )


def load_target(name_or_path: str, mode: str | None = None) -> ResolvedTarget:
    """`jetson-orin`, `jetson-orin-nano-8gb@15W`, `my-board.toml`, `local` -> a board in a power mode.

    `mode` (by name) wins over an `@mode` suffix. Raises `InputError` with near names for an unknown
    target, with the board's modes for an unknown mode, and for a mode whose clocks nobody published.
    """
    name, _, suffix = (
        name_or_path.partition("@") if not _looks_like_path(name_or_path) else (name_or_path, "", "")
    )
    if _looks_like_path(name_or_path) and ".toml@" in name_or_path:
        name, _, suffix = name_or_path.rpartition("@")
    board, alias = _find(name.strip())
    chosen = board.mode(mode or suffix or None)
    if board.gpu is not None and chosen.gpu_mhz is None:
        usable = ", ".join(known.name for known in board.modes if known.gpu_mhz is not None)
        remedy = f"Choose {usable}, or measure the board with `topovlm profile --device ssh://...`"
        raise InputError(explain("mode", chosen.name, f"{board.id}: its clocks are not published", remedy))
    family = [other.id for other in list_boards() if other.family == board.family and other.id != board.id]
    return ResolvedTarget(board, chosen, alias, tuple(family))


def recognise(compatible: tuple[str, ...], gpu_names: list[str]) -> str | None:
    """Id of the target with these device-tree strings or this GPU; None when it is none, or not one alone."""
    found = [
        board.id
        for board in list_boards()
        if any(mark in text for mark in board.match.compatible for text in compatible)
        or any(name in gpu_names for name in board.match.gpu_names)
    ]
    return found[0] if len(found) == 1 else None
