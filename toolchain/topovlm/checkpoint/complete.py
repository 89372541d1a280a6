"""Whether the tensors of a checkpoint are all there, as its family's record and its configuration say."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path

from topovlm.checkpoint.safetensors_file import TensorEntry
from topovlm.errors import InputError, explain
from topovlm.families.configs import ModelConfig
from topovlm.families.family import Decoder, Family, Tensors


def may_be_tied(config: ModelConfig, family: Family, decoder: Decoder) -> bool:
    """Whether the head may be the word embeddings: where either part of the configuration ties them."""
    parts = {**family.defaults, **config}, {**decoder.defaults, **family.decoder_part(config)}
    return any(part.get("tie_word_embeddings") for part in parts)


def check_tensors(
    tensors: Mapping[str, TensorEntry],
    named: Tensors,
    groups: Sequence[Hashable],
    folder: Path,
    *,
    tied: bool,
) -> str:
    """The layer prefix in use; raises `InputError` naming the first tensor that is missing.

    `groups`: one entry per layer; layers of the same group have the same tensors.
    """
    layers = len(groups)

    def missing(name: str, why: str) -> InputError:
        return InputError(explain("--model", str(folder), f"the tensor {name} is missing", why))

    for alternatives in named.required:
        if not any(name in tensors for name in alternatives):
            raise missing(alternatives[0], "The checkpoint is incomplete")
    if not tied and not any(name in tensors for name in named.head):
        raise missing(named.head[0], "Word embeddings are not tied, so the output head must be stored")
    prefix = next((p for p in named.layers if any(n.startswith(p) for n in tensors)), None)
    if prefix is None:
        raise missing(f"{named.layers[0]}0.*", "No decoder layer was found")
    found: dict[int, dict[str, tuple[int, ...]]] = {}
    for name, entry in tensors.items():
        if name.startswith(prefix):
            number, _, rest = name[len(prefix) :].partition(".")
            if not re.fullmatch("[0-9]{1,9}", number):
                raise InputError(explain("tensor", name, "has no layer number where one is expected"))
            found.setdefault(int(number), {})[rest] = entry.shape
    beyond = sorted(set(found) - set(range(layers)))
    if beyond:
        rule = f"has weights of layer {beyond[0]}, but its configuration counts {layers} layers"
        raise InputError(explain("--model", str(folder), rule))
    whole: dict[Hashable, dict[str, tuple[int, ...]]] = {}
    for layer in reversed(range(layers)):  # the first layer of a group wins
        whole[groups[layer]] = {**whole.get(groups[layer], {}), **found.get(layer, {})}
    for layer, group in enumerate(groups):
        absent = sorted(whole[group].keys() - found.get(layer, {}).keys())
        if absent or not whole[group]:
            name = absent[0] if absent else "*"
            raise missing(f"{prefix}{layer}.{name}", "Other layers have it")
        if found[layer] != whole[group]:
            raise InputError(explain("--model", str(folder), f"layer {layer} has other shapes than its like"))
    return prefix
