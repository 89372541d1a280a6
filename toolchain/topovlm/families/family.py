"""The record of a model family: what transformers cannot answer about it, as data.

`data/*.toml` hold one each, `data/decoders/` and `data/towers/` what families share. A record names the few
functions that it needs: `name` for one of ours, `package.module:name` for one of a plug-in.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Literal

import msgspec

from topovlm.errors import InputError, explain
from topovlm.families.configs import ModelConfig
from topovlm.records import Strict

Action = Literal["plan", "score", "prune", "export", "run"]


class Experts(Strict, frozen=True, kw_only=True):
    """Fields of a mixture of experts. `count`: alternatives; `active`: experts per token; `width`: of one.

    `dense`: the index list of the layers without experts.
    """

    count: tuple[str, ...]
    active: str
    width: str
    dense: str


class Decoder(Strict, frozen=True, kw_only=True):
    """One decoder type (`text_config.model_type`). Field names are those of its configuration.

    `defaults`: what transformers assumes when a configuration leaves a value out. `per_layer`: lists with one
    entry per layer. `prefix_counts`: "the first n layers are ...". `index_lists`: lists of layer indices.
    `implied`: lists of either kind that a configuration may leave out, each with the function of
    `families.implied` that derives it. `moduli`: fields that only these functions read, "every n-th layer".
    `gated`: the MLP has three matrices, not two. `fusible`: a layer is Llama's, so ONNX Runtime's operators
    compute it. The last five are attribute paths in torch: of the decoder, and (the last) of one layer.
    """

    model_type: str
    defaults: ModelConfig = msgspec.field(default_factory=dict)
    per_layer: tuple[str, ...] = ()
    prefix_counts: tuple[str, ...] = ()
    index_lists: tuple[str, ...] = ()
    implied: dict[str, str] = msgspec.field(default_factory=dict)
    moduli: tuple[str, ...] = ()
    experts: Experts | None = None
    gated: bool = True
    fusible: bool = False
    blocks: str = "layers"
    norm: str = "norm"
    rotary: str = "rotary_emb"
    down_projection: str = "mlp.down_proj"

    @property
    def depth_fields(self) -> tuple[str, ...]:
        """Every field that changes with the number of layers."""
        lists = (*self.per_layer, *self.prefix_counts, *self.index_lists)
        return ("num_hidden_layers", *lists, *self.moduli)


class Tower(Strict, frozen=True, kw_only=True):
    """One vision tower type (`vision_config.model_type`, or its `architecture`): defaults as for a decoder.

    `nested`: the field that holds more of its fields. `mlp_width`: the field that states its MLP's width.
    `stored_params`: how many weights its layers have, where they are not as many as its sizes say.
    `published`: what stands between the tower's path and its tensors' names in published checkpoints, where
    newer releases of transformers write it no more. `tokens`: fields of `Tokens` that the tower decides.
    """

    model_type: str
    defaults: ModelConfig = msgspec.field(default_factory=dict)
    gated: bool = False
    class_token: bool = False
    published: str = ""
    nested: str = ""
    mlp_width: str = "intermediate_size"
    stored_params: int = 0
    tokens: ModelConfig = msgspec.field(default_factory=dict)


class Tokens(Strict, frozen=True, kw_only=True):
    """How a picture becomes visual tokens.

    `layout`, `frames`: functions of `families.vision`. `projector`: one of `families.projectors`. `strategy`:
    the module of `runtime.pictures` that makes the vision graph's inputs from a picture.
    `any_size`: the tower takes pictures of any size; bounds in px. `merge`: the field that says how many
    patches side by side make one token (a ratio below 1: its inverse); `processor_merges`: the image
    processor's `merge_size` does, and the video processor's of frames. `per_image`: the field that states the
    tokens of a picture outright. `clip`: the field that says of how many frames a clip is made, where frames
    become tokens together; a picture is repeated to as many. `patch_projector`: as `projector`, of weights
    that every patch goes through before several become one token. `towers`: how many of one form there are;
    a picture or a frame goes through one. `max_tiles`: with the image processor's field that may say
    otherwise, and `tiles_field`, its field that says whether there are tiles.
    `longest_edge`: px, where the image processor states none. `several`: the layout of a picture that is not
    the only one in its prompt, if another. `pictures`: what the strategy does otherwise in this family, in
    terms of its own (its `Kind`); `videos`: the same of frames (its `Films`). A family without the latter
    takes no videos.
    """

    layout: str
    projector: str
    frames: str = "tile_frames"
    strategy: str = "fixed"
    any_size: bool = False
    min_pixels: int = 0
    max_pixels: int = 0
    merge: str = ""
    processor_merges: bool = False
    per_image: str = ""
    clip: str = ""
    patch_projector: str = ""
    towers: int = 1
    max_tiles: int = 0
    max_tiles_field: str = ""
    tiles_field: str = ""
    longest_edge: int = 0
    several: str = ""
    pinpoints_unit: int = 0
    pinpoints_count: int = 0
    pictures: ModelConfig = msgspec.field(default_factory=dict)
    videos: ModelConfig | None = None


class Tensors(Strict, frozen=True, kw_only=True):
    """Names in a checkpoint, the alternatives of each in order of preference.

    A family's checkpoints may have the names that were published and those of transformers' own modules.

    `layers`: prefixes that end where the layer index begins. `required`: nothing runs without these.
    """

    layers: tuple[str, ...]
    head: tuple[str, ...]
    required: tuple[tuple[str, ...], ...]


class Modules(Strict, frozen=True, kw_only=True):
    """Attribute paths in the loaded torch model; transformers itself says where decoder and head are.

    `film_tower`: of the tower that sees frames of videos, where it is not the one that sees pictures.
    """

    tower: str
    projector: str
    film_tower: str = ""

    @property
    def towers(self) -> tuple[str, ...]:
        """Paths of all of them."""
        return (self.tower, self.film_tower) if self.film_tower else (self.tower,)


class Exportable(Strict, frozen=True, kw_only=True):
    """What can be exported. `vision`: `package.module:Class` of what is traced for pictures.

    Families without pictures leave it out, and `towers`: the types of towers that it is made for. `embed`: of
    what is traced for words, where it is more than the model's own table.
    """

    vision: str = ""
    embed: str = ""
    towers: tuple[str, ...] = ()


class Clients(Strict, frozen=True, kw_only=True):
    """What clients of an exported folder read: the processor's class, and fields of its configuration.

    `counts_grid`: they count a picture's tokens themselves, as its grid and a number of additional ones.
    """

    processor_class: str
    counts_grid: bool = False
    processor: ModelConfig = msgspec.field(default_factory=dict)


class Turns(Strict, frozen=True, kw_only=True):
    """How a conversation is given to a tokenizer's own chat template, which takes words alone.

    `system`: what stands before the user's turn. A picture is its token and a newline.
    """

    system: str = ""


class Family(Strict, frozen=True, kw_only=True):
    """One model type. `actions`: what topovlm does with it; each needs the parts that `_NEEDS` names.

    `default_decoder`, `default_tower`: types of the parts where a configuration names none; a family without
    tower and `tokens` is a decoder by itself. `text_key`: where the decoder's fields are, "" for the top;
    `flat`: they may be at the top, too. `own_code`: published configurations name code of their own, from
    before transformers had the family; it is not needed. `native`: our module with the classes of a family
    that transformers does not have (`native`). `defaults`: what transformers assumes at the top of
    a configuration. `decoders`: those whose layers may go, and that are exported. `protect_first`,
    `protect_last`: how many layers never go. `tied_first`: field of the tower's configuration with one entry
    for each of the first decoder layers that reads more than the residual stream: they stay. `renamed`:
    fields that older releases of transformers know by another name. `positions`: "sequential", or "grid"
    (rows and columns of a picture), and `first_position`, of the first token. `mask`: "causal", "blocks"
    (each picture sees itself whole) or "prefix" (the prompt does). `prompt`: by the chat template, or the
    words alone. `turns`: where the template is the tokenizer's, and knows no pictures. `caps_logits`: a bound
    of logits that the decoder's configuration states holds inside this family, too (by itself a decoder
    always keeps it). `with_tower`: parts of this record that are others
    around a tower of that type; what such a tower decides in every family is in its own record.
    """

    model_type: str
    actions: tuple[Action, ...]
    default_decoder: str
    default_tower: str = ""
    tokens: Tokens | None = None
    text_key: str = "text_config"
    flat: bool = False
    own_code: bool = False
    native: str = ""
    defaults: ModelConfig = msgspec.field(default_factory=dict)
    decoders: tuple[str, ...] = ()
    tensors: Tensors | None = None
    modules: Modules | None = None
    graphs: Exportable | None = None
    clients: Clients | None = None
    protect_first: int = 3
    protect_last: int = 2
    tied_first: str = ""
    renamed: Mapping[str, str] = msgspec.field(default_factory=dict)
    positions: Literal["sequential", "grid"] = "sequential"
    first_position: int = 0
    with_tower: dict[str, ModelConfig] = msgspec.field(default_factory=dict)
    prompt: Literal["template", "plain"] = "template"
    turns: Turns | None = None
    caps_logits: bool = False
    mask: Literal["causal", "blocks", "prefix"] = "causal"

    def __post_init__(self) -> None:
        if bool(self.default_tower) != (self.tokens is not None):
            raise ValueError(f"{self.model_type}: pictures need both default_tower and tokens")
        for action in self.actions:
            needed = (part for part in _NEEDS[action] if self.tokens or part not in _PICTURES)
            lacking = [part for part in needed if not getattr(self, part)]
            if lacking:
                raise ValueError(f"{self.model_type}: the action {action!r} needs {' and '.join(lacking)}")

    @property
    def text_only(self) -> bool:
        """Whether it sees no pictures."""
        return self.tokens is None

    def decoder_key(self, config: ModelConfig) -> str:
        """The key that holds the decoder's fields; "" where they are at the top."""
        at_top = self.flat and config.get(self.text_key) is None
        return "" if at_top else self.text_key

    def decoder_part(self, config: ModelConfig) -> ModelConfig:
        """The decoder's fields. Raises `InputError` where there are none."""
        key = self.decoder_key(config)
        part = config.get(key) if key else config
        if not isinstance(part, Mapping):
            rule = "is missing or not an object, so there is no decoder to prune"
            raise InputError(explain(key, part, rule, "Give a complete config.json"))
        return part

    def decoder_field(self, config: ModelConfig, name: str) -> str:
        """How a decoder's field is called in messages and reports: `text_config.layer_types`."""
        key = self.decoder_key(config)
        return f"{key}.{name}" if key else name


_NEEDS: dict[Action, tuple[str, ...]] = {
    "plan": (),
    "score": ("decoders", "tensors"),
    "prune": ("decoders", "tensors"),
    "export": ("decoders", "graphs"),
    "run": ("decoders", "graphs"),
}
_PICTURES = ("modules",)  # needed for the sake of pictures alone


def named(reference: str, home: str) -> Any:
    """The function or class that a record names: of the module `home`, or where the reference says."""
    module, _, name = reference.rpartition(":")
    return getattr(import_module(module or home), name)
