"""A loaded torch model, taken apart as its family's record says.

Only imported by what has loaded a model: everything else in this room works without torch.
"""

from __future__ import annotations

import functools
import inspect
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import nn

from topovlm.families.catalogue import DECODERS, family_for, family_of
from topovlm.families.family import Decoder, Family, Modules
from topovlm.families.mapped import InMemory, Weights, weights_of
from topovlm.families.shape import DecoderShape
from topovlm.families.sizes import read_shape

Kind = TypeVar("Kind", bound=nn.Module)


@dataclass(frozen=True)
class TorchParts:
    """Where the parts of `model` are: transformers answers for the decoder, the record for the pictures."""

    model: Any
    family: Family
    decoder: Decoder
    weights: Weights = field(default_factory=InMemory)

    @property
    def modules(self) -> Modules:
        """The record's attribute paths. Raises `ValueError` for a family without them."""
        if self.family.modules is None:
            raise ValueError(f"{self.family.model_type}: the family's record has no modules")
        return self.family.modules

    @property
    def dtype(self) -> torch.dtype:
        """What the model computes in, which may not be what its weights are stored in."""
        held: torch.dtype = self.weights.dtype or self.model.dtype
        return held

    @property
    def text(self) -> Any:
        """The decoder's configuration."""
        return self.model.config.get_text_config()

    @functools.cached_property
    def stack(self) -> nn.Module:
        """The decoder: embeddings in, hidden states out."""
        return _checked(self.model.get_decoder(), nn.Module)

    @functools.cached_property
    def blocks(self) -> nn.ModuleList:
        """Decoder blocks in order; block l maps the residual stream before layer l to the one after it."""
        return _checked(self.stack.get_submodule(self.decoder.blocks), nn.ModuleList)

    @functools.cached_property
    def norm(self) -> nn.Module:
        """What follows the last block."""
        return self.stack.get_submodule(self.decoder.norm)

    @functools.cached_property
    def rotary(self) -> nn.Module:
        """(hidden, position ids) -> cos and sin."""
        return self.stack.get_submodule(self.decoder.rotary)

    @functools.cached_property
    def head(self) -> nn.Module:
        """Hidden states -> logits."""
        return _checked(self.model.get_output_embeddings(), nn.Module)

    @functools.cached_property
    def embedding(self) -> nn.Module:
        """Token ids -> embeddings."""
        return _checked(self.model.get_input_embeddings(), nn.Module)

    def around(self, *, head: bool = True) -> list[nn.Parameter]:
        """Every parameter outside of the decoder's blocks that has to be in memory; without `head` none that
        the head alone has."""
        inside = {*self.weights.looked_up, *(id(parameter) for parameter in self.blocks.parameters())}
        if not head:
            outside = {
                id(p) for name, m in self.model.named_children() if m is not self.head for p in m.parameters()
            }
            inside |= {id(parameter) for parameter in self.head.parameters()} - outside
        return [parameter for parameter in self.model.parameters() if id(parameter) not in inside]

    @property
    def tower(self) -> nn.Module:
        """Pixels -> features."""
        return self._module(self.modules.tower)

    @property
    def film_tower(self) -> nn.Module:
        """As `tower`, of frames of a video."""
        return self._module(self.modules.film_tower or self.modules.tower)

    @property
    def projector(self) -> nn.Module:
        """Features -> visual tokens at the decoder's width."""
        return self._module(self.modules.projector)

    @property
    def logit_cap(self) -> float | None:
        """Bound of the logits, softly kept: of decoders by themselves, and in families that keep it."""
        kept = self.family.caps_logits or self.model.config is self.text
        return getattr(self.text, "final_logit_softcapping", None) if kept else None

    def decoder_shape(self) -> DecoderShape:
        """Sizes of the decoder as it is loaded."""
        return read_shape(self.model.config.to_dict()).decoder

    def _module(self, path: str) -> nn.Module:
        return _checked(self.model.get_submodule(path), nn.Module)


def parts_of(model: Any) -> TorchParts:
    """The parts of a loaded model. Raises `InputError` for a family that is not known."""
    config = model.config.to_dict()
    family = family_for(config) or family_of(config, "score")
    kind = model.config.get_text_config().model_type
    decoder = DECODERS.get(kind) or Decoder(model_type=kind)
    return TorchParts(model, family, decoder, weights_of(model))


def cache_name(module: nn.Module) -> str:
    """What a decoder, or one of its blocks, calls its cache: transformers 5.24 renamed it."""
    known = inspect.signature(inspect.unwrap(type(module).forward)).parameters
    return "cache" if "cache" in known else "past_key_values"


def _checked(value: Any, kind: type[Kind]) -> Kind:
    """transformers types its modules loosely: what came back is one, or this fails here and not later."""
    if not isinstance(value, kind):
        raise TypeError(f"expected {kind.__name__}, found {type(value).__name__}")
    return value
