"""The target of a deployment: a board of the data sheets, this machine, or the one that --device leads to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from topovlm.config import Config
from topovlm.errors import InputError, explain
from topovlm.predict.target import LOCAL, ResolvedTarget, load_target, unrecognised_target
from topovlm.records import Part

if TYPE_CHECKING:
    from topovlm.console import Display


class DeviceIdentity(Part, frozen=True, kw_only=True):
    """What makes two looks at a device the same device: figures taken on one hold on the other.

    `target`: id of the known board that it is, if it is one; `model`: what its device tree says.
    """

    target: str | None
    model: str | None
    cpu: str
    cores: int
    memory_total_bytes: int | None
    power_mode: str | None
    versions: dict[str, str]


def resolve_target(config: Config, identity: DeviceIdentity | None = None) -> ResolvedTarget:
    """The board of --target in its mode; with --device, the board that `identity` describes.

    Raises `InputError` when it is not given or not known, or when --device leads to another one.
    """
    if identity is None:
        if config.target is None:
            remedy = "Name a board (`topovlm targets` lists them), or `local` for this machine"
            raise InputError(explain("--target", None, "is missing", remedy))
        return load_target(config.target, config.mode)
    found = identity.target
    named = config.target or found
    if named is None:
        return unrecognised_target(identity.memory_total_bytes or 0, identity.cores, identity.model)
    target = load_target(named, config.mode)
    if target.board.id == LOCAL:
        rule = f"is this machine, and {config.device} is another one"
        raise InputError(explain("--target", LOCAL, rule, "Leave --target or --device out"))
    if found is not None and found != target.board.id:
        rule = f"is {target.board.id}, and the board at {config.device} is {found}"
        raise InputError(explain("--target", config.target, rule, "Leave --target out: the board is asked"))
    return _in_live_mode(config, target, identity.power_mode)


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


def look(config: Config, display: Display) -> DeviceIdentity | None:
    """Who the device of --device is; None for this machine. Raises `DeviceError`."""
    if config.device == LOCAL:
        return None
    from topovlm.measure.devices import open_device

    with open_device(config.device, say=display.note) as device:
        facts = device.identify()
    return DeviceIdentity(
        target=facts.target,
        model=facts.environment.device_model,
        cpu=facts.environment.cpu,
        cores=facts.environment.cores,
        memory_total_bytes=facts.environment.memory_total_bytes,
        power_mode=facts.environment.power_mode,
        versions=facts.environment.versions,
    )
