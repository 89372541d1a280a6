"""What a decoder's graph has to know beside its weights: positions, masks, and what each layer is."""

from __future__ import annotations

import hashlib
import inspect
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from topovlm.errors import InputError, explain

if TYPE_CHECKING:
    from torch import nn

    from topovlm.families.torch_parts import TorchParts

FULL, SLIDING = "full_attention", "sliding_attention"
_STATIC_ROPE = ("default", "linear", "llama3", "yarn")
# Attributes of a torch module that say which one of its kind it is, not what it does.
_PLACES = frozenset({"layer_idx", "training"})


@dataclass(frozen=True)
class Rules:
    """One decoder's rules.

    `attention`: the kind of every layer. `window`: tokens that a sliding layer sees. `rows`: of position_ids,
    1 or 3. `mask`: as in the family's record. `rotary_by_kind`: each kind of attention has its own rotary
    table. `stacked`: how many of the first layers have picture features added behind them.
    """

    attention: tuple[str, ...]
    window: int | None
    rows: int
    mask: str
    rotary_by_kind: bool
    stacked: int

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of attention that are there, in a stable order."""
        return tuple(sorted(set(self.attention)))

    @property
    def blocks(self) -> bool:
        """Whether the graph is told which tokens see each other whole."""
        return self.mask != "causal"


def rules_of(parts: TorchParts) -> Rules:
    """The rules of a loaded model's decoder. Raises `InputError` as `refuse_text` does."""
    text = parts.text
    window = getattr(text, "sliding_window", None)
    stated = getattr(text, "layer_types", None)
    # A decoder that states no kinds slides in all of its layers, or in none.
    attention = tuple(stated or [SLIDING if window else FULL] * len(parts.blocks))
    refuse_text(text.to_dict(), parts.family.text_key)
    return Rules(
        attention=attention,
        window=window if SLIDING in attention else None,
        rows=3 if parts.family.positions == "grid" else 1,
        mask=parts.family.mask,
        rotary_by_kind="layer_type" in inspect.signature(type(parts.rotary).forward).parameters,
        stacked=_stacked(parts),
    )


def _stacked(parts: TorchParts) -> int:
    if not parts.family.tied_first:
        return 0
    return len(getattr(parts.model.config.vision_config, parts.family.tied_first) or ())


def refuse_text(text: dict[str, Any], where: str) -> None:
    """Raise `InputError` for attention without a mask here, and for frequencies that a graph cannot hold."""
    unknown = sorted(set(text.get("layer_types") or ()) - {FULL, SLIDING})
    if unknown:
        field = f"{where}.layer_types".removeprefix(".")
        raise InputError(explain(field, unknown, f"only {FULL} and {SLIDING} are exported"))
    held = text.get("rope_parameters") or {}
    tables = [held, *(value for value in held.values() if isinstance(value, dict))]
    for table in tables:
        rope = table.get("rope_type", "default")
        if rope not in _STATIC_ROPE:
            rule = f"recomputes its frequencies as the prompt grows; exported are {', '.join(_STATIC_ROPE)}"
            field = f"{where}.rope_parameters.rope_type".removeprefix(".")
            raise InputError(explain(field, rope, rule))


def layer_kind(layer: nn.Module, attention: str) -> str:
    """A digest of everything that shapes a layer's computation but its weights' values and its place.

    Layers of one kind share one traced graph: parameter names and shapes, and every plain attribute of every
    module inside, whatever it is called. What differs in anything else is traced apart.
    """
    shapes = {name: tuple(parameter.shape) for name, parameter in layer.named_parameters()}
    facts = {
        f"{path}.{name}": value
        for path, module in layer.named_modules()
        for name, value in sorted(vars(module).items())
        if name not in _PLACES and not name.startswith("_") and isinstance(value, (bool, int, float, str))
    }
    code = [f"{type(module).__module__}.{type(module).__qualname__}" for module in layer.modules()]
    whole = json.dumps([attention, shapes, facts, code], sort_keys=True, default=str)
    return hashlib.sha256(whole.encode()).hexdigest()
