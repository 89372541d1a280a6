"""The families, decoders and towers that are known: ours from data files, others from plug-ins.

A plug-in's entry point in the group `topovlm.families` gives a `Family`, most simply
`FAMILY = read_family(Path(__file__).with_name("mine.toml"))`; `topovlm.decoders` and `topovlm.towers` alike.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from topovlm.errors import InputError, explain
from topovlm.families.configs import TEXT_KEYS, VISION_KEY, ModelConfig, text_part
from topovlm.families.family import Action, Decoder, Family, Tower
from topovlm.records import Strict, convert
from topovlm.registry import OURS, Registry
from topovlm.toml import read_toml

_DATA = Path(__file__).with_name("data")
Kind = TypeVar("Kind", Family, Decoder, Tower)


def _read(path: Path, kind: type[Kind]) -> Kind:
    field = kind.__name__.lower()
    return convert(read_toml(path, field=field), kind, field=field, name=str(path))


def read_family(path: Path) -> Family:
    """A family's data file. Raises `InputError` naming the file and the field that does not fit."""
    return _read(path, Family)


def _own(
    folder: Path, kind: type[Kind], more: Mapping[str, Callable[[], Kind]] | None = None
) -> Registry[Kind]:
    group = {"Family": "families", "Decoder": "decoders", "Tower": "towers"}[kind.__name__]
    files = {path.stem: functools.partial(_read, path, kind) for path in sorted(folder.glob("*.toml"))}
    return Registry(f"topovlm.{group}", {**files, **(more or {})}, needs=kind.__struct_fields__)


class _TextOnly(Strict, frozen=True, kw_only=True):
    decoders: tuple[str, ...]
    family: ModelConfig


def _text_only() -> dict[str, Callable[[], Family]]:
    """A family for each decoder that is published by itself: they differ in their decoder alone."""
    path = _DATA / "lists" / "text_only.toml"
    content = convert(read_toml(path, field="families"), _TextOnly, field="families", name=str(path))

    def make(name: str) -> Family:
        own = {"model_type": name, "default_decoder": name, "decoders": [name]}
        return convert({**content.family, **own}, Family, field="family", name=str(path))

    return {name: functools.partial(make, name) for name in content.decoders}


class _Reason(Strict, frozen=True, kw_only=True):
    reason: str
    model_types: tuple[str, ...]


class _Refused(Strict, frozen=True, kw_only=True):
    reasons: tuple[_Reason, ...]


@functools.lru_cache(maxsize=1)
def refused() -> dict[str, str]:
    """Model types, whole models' and decoders', with the reason why their layers are not removed."""
    path = _DATA / "lists" / "refused.toml"
    content = convert(read_toml(path, field="refused"), _Refused, field="refused", name=str(path))
    return {name: entry.reason for entry in content.reasons for name in entry.model_types}


FAMILIES = _own(_DATA, Family, _text_only())
DECODERS = _own(_DATA / "decoders", Decoder)
TOWERS = _own(_DATA / "towers", Tower)


def origins_of(config: ModelConfig) -> dict[str, str]:
    """Plug-ins that describe a model: what results depend on besides its files and topovlm itself."""
    family = find_family(config.get("model_type"))
    vision = config.get(VISION_KEY)
    parts = [config, text_part(config), vision if isinstance(vision, Mapping) else {}]
    names = {str(part.get("model_type")) for part in parts}
    names |= {family.default_decoder, family.default_tower} if family else set()
    found = {
        f"{registry.group} {name}": registry.origin(name)
        for registry in (FAMILIES, DECODERS, TOWERS)
        for name in sorted(names & set(registry.names()))
    }
    return {name: origin for name, origin in found.items() if origin != OURS}


def find_family(model_type: object) -> Family | None:
    """By model type; None for one that is not known at all."""
    return FAMILIES.get(model_type) if isinstance(model_type, str) and model_type else None


def family_for(config: ModelConfig) -> Family | None:
    """The record of a whole configuration: that of its type, as it is around its tower."""
    family, vision = find_family(config.get("model_type")), config.get(VISION_KEY)
    if family is None or not isinstance(vision, Mapping):
        return family
    changes = family.with_tower.get(str(vision.get("model_type")))
    return family if changes is None else _changed(family, changes)


def _changed(family: Family, changes: ModelConfig) -> Family:
    """The record with other fields; parts that are records themselves keep what is not named."""
    whole: dict[str, Any] = msgspec.to_builtins(family)
    for name, value in changes.items():
        held = whole.get(name)
        whole[name] = {**held, **value} if isinstance(held, dict) and isinstance(value, Mapping) else value
    return convert(whole, Family, field="family", name=family.model_type)


def families_that(action: Action) -> tuple[str, ...]:
    """Model types that allow an action, by name."""
    return tuple(sorted(name for name, family in FAMILIES.items() if action in family.actions))


def family_of(config: ModelConfig, action: Action = "prune") -> Family:
    """The family of a configuration. Raises `InputError` in one sentence where `action` is not possible."""
    model_type = config.get("model_type")
    family = family_for(config)
    if family is not None and action in family.actions:
        return family
    if model_type is None:
        rule = "the configuration names no model type"
    elif str(model_type) in refused():
        rule = refused()[str(model_type)]
    elif family is not None or any(key in config for key in (VISION_KEY, *TEXT_KEYS)):
        rule = "this family is not supported yet"
    else:
        rule = "is not a vision-language model, or a decoder by itself, that topovlm knows"
    known = ", ".join(families_that(action))
    raise InputError(explain("model_type", model_type, rule, f"Supported: {known}"))


def decoder_of(config: ModelConfig, family: Family) -> Decoder:
    """The decoder type inside the family. Raises `InputError` when its layers cannot be removed."""
    model_type = family.decoder_part(config).get("model_type")
    # At the top the type is the model's own; some configurations repeat it inside.
    if model_type is None or model_type == config.get("model_type"):
        model_type = family.default_decoder
    if model_type not in family.decoders:
        rule = f"this decoder inside a {family.model_type} model is not supported yet"
        if str(model_type) in refused():
            rule += f": {refused()[str(model_type)]}"
        remedy = f"Supported: {', '.join(family.decoders)}"
        raise InputError(explain(family.decoder_field(config, "model_type"), model_type, rule, remedy))
    return DECODERS[model_type]
