"""The machine that a deployment is measured on: this one, or a board that --device names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from topovlm.config import Config
from topovlm.errors import InputError, explain
from topovlm.predict.target import LOCAL, ResolvedTarget, load_target, unrecognised_target
from topovlm.records import plain

if TYPE_CHECKING:
    from topovlm.console import Display

# What makes two looks at a board the same board: figures taken on one hold on the other.
_IDENTITY = ("target", "board", "cpu", "cores", "memory_total_bytes", "power_mode", "versions")


def resolve_target(config: Config, board: Mapping[str, Any] | None = None) -> ResolvedTarget:
    """The board of --target in its mode; with --device, the board that `board` (its facts) describes.

    Raises `InputError` when it is not given or not known, or when --device leads to another one.
    """
    if board is None:
        if config.target is None:
            remedy = "Name a board (`topovlm targets` lists them), or `local` for this machine"
            raise InputError(explain("--target", None, "is missing", remedy))
        return load_target(config.target, config.mode)
    found = board["target"]
    if config.target is None and found is None:
        return unrecognised_target(board["memory_total_bytes"] or 0, board["cores"], board["board"])
    target = load_target(config.target or found, config.mode)
    if target.board.id == LOCAL:
        rule = f"is this machine, and {config.device} is another one"
        raise InputError(explain("--target", LOCAL, rule, "Leave --target or --device out"))
    if found is not None and found != target.board.id:
        rule = f"is {target.board.id}, and the board at {config.device} is {found}"
        raise InputError(explain("--target", config.target, rule, "Leave --target out: the board is asked"))
    return _in_live_mode(config, target, board["power_mode"])


def _in_live_mode(config: Config, target: ResolvedTarget, live: str | None) -> ResolvedTarget:
    """The target in the mode that the board is in, as far as it tells one that is known."""
    names = {mode.name.casefold(): mode.name for mode in target.board.modes}
    name = names.get((live or "").casefold().removeprefix("mode_"))
    if name is None or name == target.mode.name:
        return target
    if config.mode is not None or "@" in (config.target or ""):
        rule = f"is asked for, and the board at {config.device} is in mode {name}"
        raise InputError(
            explain("--mode", target.mode.name, rule, "Set it there (nvpmodel), or leave it out")
        )
    return load_target(target.board.id if config.target is None else config.target, name)


def look(config: Config, display: Display) -> dict[str, Any] | None:
    """Facts of the board that --device names; None for this machine. Raises `DeviceError`."""
    if config.device == LOCAL:
        return None
    from topovlm.measure.device import open_device

    with open_device(config.device, say=display.note) as device:
        found = device.identify()
    facts = {**plain(found.environment), "target": found.target, "board": found.environment.device_model}
    return {name: facts[name] for name in _IDENTITY}
