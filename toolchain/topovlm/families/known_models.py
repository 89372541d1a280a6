"""Sizes of well-known vision-language models, so that plans work offline and without a checkpoint.

`topovlm/families/known/*.json` hold plain facts of each model's config.json (and of its image processor
where that decides the number of visual tokens). No weights.
"""

from __future__ import annotations

import difflib
from functools import lru_cache
from pathlib import Path

from topovlm.errors import InputError, explain
from topovlm.families.configs import ModelConfig
from topovlm.families.facts import ModelFacts
from topovlm.families.original import normal
from topovlm.families.shape import ModelShape
from topovlm.records import Strict, read

_FOLDER = Path(__file__).with_name("known")


class KnownModel(Strict, frozen=True, kw_only=True):
    """`parameters_b`: published number of parameters in billions, to check the sizes against."""

    id: str
    hub_id: str
    parameters_b: float
    config: ModelConfig
    preprocessor: ModelConfig | None = None
    videos: ModelConfig | None = None
    aliases: tuple[str, ...] = ()

    @property
    def facts(self) -> ModelFacts:
        """What a plan asks of it."""
        return ModelFacts(normal(self.config), self.preprocessor, self.videos)

    def shape(self) -> ModelShape:
        """Sizes for the predictor."""
        return self.facts.shape


@lru_cache(maxsize=1)
def _catalogue() -> dict[str, KnownModel]:
    models = [read(path, KnownModel, field="known model") for path in _FOLDER.glob("*.json")]
    return {model.id: model for model in sorted(models, key=lambda model: model.id)}


def list_known_models() -> list[KnownModel]:
    """All of them, by id."""
    return list(_catalogue().values())


def find_known_model(name: str) -> KnownModel | None:
    """By id (`qwen3-vl-2b`), alias, or hub id (`Qwen/Qwen3-VL-2B-Instruct`), in any case; else None."""
    wanted = name.casefold()
    for model in _catalogue().values():
        if wanted in (model.id, model.hub_id.casefold(), *model.aliases):
            return model
    return None


def known_model(name: str) -> KnownModel:
    """As `find_known_model`, but raises `InputError` with near names."""
    found = find_known_model(name)
    if found is None:
        near = difflib.get_close_matches(name.casefold(), list(_catalogue()), n=3, cutoff=0.4)
        hint = f"Did you mean {', '.join(near)}?" if near else f"Known: {', '.join(_catalogue())}"
        raise InputError(explain("--model", name, "is neither a model folder nor a known model", hint))
    return found
