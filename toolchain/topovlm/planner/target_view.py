"""Boards and targets on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import asdict
from rich.console import Console
from rich.table import Table

from topovlm.console import line, shown
from topovlm.predict.board import Board
from topovlm.predict.target import ResolvedTarget
from topovlm.units import format_bytes


def render_targets(boards: Sequence[Board], console: Console) -> None:
    """One line per board: default mode, peaks, bandwidth, memory, modes, aliases."""
    table = Table(header_style="bold")
    for column in ("target", "default mode", "fp16 TFLOPS", "GB/s", "GiB", "modes", "aliases"):
        table.add_column(column, justify="right" if column in ("fp16 TFLOPS", "GB/s", "GiB") else "left")
    for board in boards:
        mode = board.mode()
        peak, bandwidth = board.peak_flop_per_s(mode, "f16_acc32"), board.bandwidth_bytes_per_s(mode)
        cells = (
            board.id,
            mode.name,
            f"{peak / 1e12:.1f}" if peak else "-",
            f"{bandwidth / 1e9:.0f}" if bandwidth else "-",
            f"{board.memory.total_gib:.1f}",
            ", ".join(known.name for known in board.modes),
            ", ".join(board.aliases),
        )
        table.add_row(*map(shown, cells))
    console.print(table)


def render_target(target: ResolvedTarget, console: Console) -> None:
    """Everything known about one board, mode by mode, with sources."""
    board = target.board
    line(console, f"({board.id}), family {board.family}", label=board.name)
    if target.alias_of:
        line(console, f"{target.alias_of} is an alias; siblings: {', '.join(target.siblings)}")
    table = Table(header_style="bold")
    formats = list(board.gpu.flop_per_sm_clk) if board.gpu else []
    for column in ("mode", "W", "SM", "GPU MHz", "GB/s", *(f"{name} T/s" for name in formats), "note"):
        table.add_column(shown(column))
    for mode in board.modes:
        bandwidth = board.bandwidth_bytes_per_s(mode)
        peaks = [board.peak_flop_per_s(mode, name) for name in formats]
        cells = (
            mode.name + (" (default)" if mode.name == board.default_mode else ""),
            f"{mode.power_w:g}" if mode.power_w else "-",
            str(mode.sm or "-"),
            f"{mode.gpu_mhz:g}" if mode.gpu_mhz else "-",
            f"{bandwidth / 1e9:.1f}" if bandwidth else "-",
            *(f"{peak / 1e12:.1f}" if peak else "-" for peak in peaks),
            mode.note,
        )
        table.add_row(*map(shown, cells))
    console.print(table)
    memory = board.memory
    kind = "shared by CPU and GPU" if memory.unified else "on the card"
    usable = format_bytes(target.usable_memory_bytes())
    line(console, f"Memory {memory.total_gib:.1f} GiB {memory.type}, {kind}; {usable} usable")
    for software in board.software:
        versions = {name: value for name, value in asdict(software).items() if name != "notes" and value}
        parts = [f"{name} {value}" for name, value in versions.items()]
        line(console, "Software " + ", ".join(parts))
        for note in software.notes:
            line(console, f"  note: {note}")
    for name, value in board.provenance.items():
        line(console, f"{name}: {value}")
