"""Configurations in the form of the first LLaVA code, brought to that of transformers, and back.

They name their tower by the id of the model that it was, which says its sizes and how its pictures are
prepared. A `vision_config` of the configuration's own goes before what the id says.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from topovlm.errors import InputError, explain
from topovlm.families.configs import VISION_KEY, ModelConfig
from topovlm.records import Strict, convert
from topovlm.toml import read_toml

_DATA = Path(__file__).with_name("data") / "lists" / "original.toml"
_CONNECTOR, _TOWER = "mm_projector_type", "mm_vision_tower"
_LAYER, _PATCHES = "mm_vision_select_layer", "mm_vision_select_feature"


class _Original(Strict, frozen=True, kw_only=True):
    model_types: dict[str, str]
    connectors: dict[str, int]
    pixels: dict[str, ModelConfig]
    towers: dict[str, ModelConfig]


@functools.lru_cache(maxsize=1)
def _facts() -> _Original:
    return convert(read_toml(_DATA, field="original"), _Original, field="original", name=str(_DATA))


def is_original(config: ModelConfig) -> bool:
    """Whether a configuration has that form, and its family is known."""
    return _CONNECTOR in config and str(config.get("model_type")) in _facts().model_types


def normal(config: ModelConfig) -> ModelConfig:
    """The same with what it implies: the family's type, the tower's sizes, which features are taken.

    The decoder's fields stay at the top. A configuration of another form is given back as it is. Raises
    `InputError` for a connector or a tower that is not known.
    """
    if not is_original(config):
        return config
    return {**_implied(config), **config, "model_type": _facts().model_types[config["model_type"]]}


def stated(config: ModelConfig) -> ModelConfig:
    """A normal configuration without what it implies: as its own project's code reads it."""
    if not is_original(config):
        return config
    implied = {**_implied(config), VISION_KEY: _facts().towers.get(_name_of(config.get(_TOWER)))}
    return {name: value for name, value in config.items() if name not in implied or implied[name] != value}


def image_processor(config: ModelConfig) -> dict[str, Any] | None:
    """What a normal configuration implies of its image processor, as preprocessor_config.json would say it;
    None where it implies nothing."""
    if not is_original(config):
        return None
    vision = config[VISION_KEY]
    side, rules = vision.get("image_size"), _facts().pixels[vision["model_type"]]
    if not isinstance(side, int):
        return None  # whoever reads the sizes says what is wrong with it
    square = {"height": side, "width": side}
    size = (
        {"size": {"shortest_edge": side}, "crop_size": square}
        if "do_center_crop" in rules
        else {"size": square}
    )
    bicubic = 3
    steps = {"do_resize": True, "resample": bicubic, "do_rescale": True, "rescale_factor": 1 / 255}
    return {**steps, **size, "do_normalize": True, "do_convert_rgb": True, **rules}


def _implied(config: ModelConfig) -> dict[str, Any]:
    facts = _facts()
    connector = config.get(_CONNECTOR)
    if not isinstance(connector, str) or connector not in facts.connectors:
        remedy = f"Known: {', '.join(facts.connectors)}"
        raise InputError(explain(_CONNECTOR, connector, "is a connector that is not known here", remedy))
    vision = config.get(VISION_KEY)
    if vision is None:
        vision = facts.towers.get(_name_of(config.get(_TOWER)))
    if not isinstance(vision, Mapping) or str(vision.get("model_type")) not in facts.pixels:
        rule, remedy = "is a tower that is not known here", f"Known: {', '.join(facts.towers)}"
        raise InputError(explain(_TOWER, config.get(_TOWER), rule, remedy))
    whole = config.get(_PATCHES, "patch") == "cls_patch" or vision["model_type"] != "clip_vision_model"
    return {
        VISION_KEY: vision,
        "vision_feature_layer": config.get(_LAYER, -2),
        "vision_feature_select_strategy": "full" if whole else "default",
        "sampler_padding": facts.connectors[connector],
    }


def _name_of(tower: object) -> str:
    """An id's last part: the tower may have lain in a folder when the model was trained."""
    return str(tower).rstrip("/").rpartition("/")[2]
