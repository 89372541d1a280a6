"""A checkpoint in memory: stock transformers model, processor, decoder blocks, prompts as batches.

Batches are padded on the right, with tokens that no real one sees whatever the family's mask, and positions
are those of a single prompt: a batch gives what its samples give alone, without a mask for the padding.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from topovlm.checkpoint.agreement import check_agreement
from topovlm.checkpoint.asking import refuse_sample_too_long
from topovlm.checkpoint.encoded import Encoded, in_a_row
from topovlm.checkpoint.files import Checkpoint, open_checkpoint
from topovlm.checkpoint.loading import fits, load_model, quiet_transformers
from topovlm.checkpoint.processors import load_processor, processed_sample, tokenizer_of
from topovlm.families.mapped import Weights
from topovlm.families.torch_parts import TorchParts, parts_of
from topovlm.machine.host import usable_cores
from topovlm.samples import Sample


@dataclass(frozen=True)
class Live:
    """A loaded model in evaluation mode with what the other stages ask of it."""

    folder: Path
    model: Any
    processor: Any
    parts: TorchParts
    layers: int

    @property
    def weights(self) -> Weights:
        """Where the model's parameters are while nothing computes with them."""
        return self.parts.weights

    @property
    def device(self) -> torch.device:
        return self.weights.device or torch.device(self.model.device)

    @property
    def dtype(self) -> torch.dtype:
        """What the model computes in."""
        return self.parts.dtype

    def ends(self, *, head: bool = True) -> contextlib.AbstractContextManager[None]:
        """Within the block all that lies outside of the decoder's blocks is in memory."""
        return self.weights.held(self.parts.around(head=head))

    def end(self) -> contextlib.AbstractContextManager[None]:
        """Within the block what makes logits of a stream is in memory."""
        return self.weights.held([*self.norm.parameters(), *self.head.parameters()])

    @property
    def blocks(self) -> nn.ModuleList:
        """Decoder blocks in order; block l maps the residual stream before layer l to the one after it."""
        return self.parts.blocks

    @property
    def norm(self) -> nn.Module:
        return self.parts.norm

    @property
    def head(self) -> nn.Module:
        return self.parts.head

    def down_projection(self, layer: int) -> nn.Linear:
        """The linear map that ends layer `layer`'s MLP; weight [hidden, intermediate].

        Raises `LookupError` for a layer without one (experts have one each).
        """
        found = dict(self.blocks[layer].named_modules()).get(self.parts.decoder.down_projection)
        if not isinstance(found, nn.Linear):
            raise LookupError(f"layer {layer} has no linear {self.parts.decoder.down_projection}")
        return found

    @property
    def tokenizer(self) -> Any:
        return tokenizer_of(self.processor)

    @property
    def image_token_id(self) -> int | None:
        """The token that stands for a piece of a picture; None for a text-only model."""
        value = getattr(self.model.config, "image_token_id", None)
        return None if value is None else int(value)

    @property
    def visual_token_ids(self) -> tuple[int, ...]:
        """The tokens that stand for pieces of pictures and of videos."""
        held = (self.image_token_id, getattr(self.model.config, "video_token_id", None))
        return tuple(int(token) for token in held if token is not None)

    def is_visual(self, ids: torch.Tensor) -> torch.Tensor:
        """Bool, as `ids`: whether each is one of `visual_token_ids`."""
        return torch.isin(ids, ids.new_tensor(self.visual_token_ids))

    @property
    def context_tokens(self) -> int | None:
        """Most tokens that the decoder's positions cover, where its configuration tells."""
        value = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        return int(value) if value else None

    @property
    def picture_token_ids(self) -> tuple[int, ...]:
        """Tokens that a model puts features of a picture in place of: no answer may hold them."""
        marks = getattr(self.model.config, "visual_indicator_token_ids", None) or ()  # Ovis2's
        return () if self.image_token_id is None else (*self.visual_token_ids, *map(int, marks))

    @property
    def eos_token_ids(self) -> tuple[int, ...]:
        value = self.model.generation_config.eos_token_id
        return () if value is None else (value,) if isinstance(value, int) else tuple(value)

    @property
    def pad_token_id(self) -> int:
        """What fills a batch; never the image token, whose count must match the pictures."""
        for value in (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id, *self.eos_token_ids):
            if value is not None and value not in self.picture_token_ids:
                return int(value)
        return next(token for token in range(len(self.tokenizer)) if token not in self.picture_token_ids)

    def logits(self, stream: torch.Tensor) -> torch.Tensor:
        """Logits [..., vocabulary] of what leaves the last block [..., width]."""
        with self.end():
            logits: torch.Tensor = self.head(self.norm(stream))
        bound = self.parts.logit_cap
        return logits if bound is None else torch.tanh(logits / bound) * bound


# Tensors of a processor with one entry per token, in its models' words.
_PER_TOKEN = ("token_type_ids", "mm_token_type_ids")
# Below this many parameters a layer's products take microseconds: threads wait for each other, not for work.
_ONE_THREAD_PARAMETERS = 20_000_000


def load(
    source: Path | str | Checkpoint,
    *,
    dtype: str = "float32",
    device: str = "auto",
    processor: Any = None,
    mapped: bool | None = None,
    threads: int | None = None,
) -> Live:
    """Load a checkpoint with stock transformers, for inference.

    `dtype`: what it computes in, a torch dtype's name, or "stored". `device` "auto" takes CUDA when there is
    one. `processor`: the folder's own, where somebody has loaded it already. `mapped`: whether the weights
    stay in their files, see `mapped.Mapped`; None: where they would take more than most of the memory that
    is free, here or on the device. The numbers are the same. `threads`: what a model too large for one
    computes with (None: `usual_threads`). Raises `InputError` when transformers cannot load it, weights are
    missing, or memory is even short for one layer at a time (`TooLargeError`).
    """
    checkpoint = source if isinstance(source, Checkpoint) else open_checkpoint(source)
    folder = checkpoint.folder
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if mapped is None:
        mapped = dtype != "stored" and not fits(checkpoint, dtype, device=device)
    processor = load_processor(folder) if processor is None else processor
    check_agreement(processor, checkpoint.facts, checkpoint.family, folder)
    model = load_model(checkpoint, dtype=dtype, mapped=mapped, device=device)
    one = computes_on_one_thread(model.num_parameters())
    torch.set_num_threads(1 if one else threads or usual_threads())
    if not mapped:
        model = model.to(device)
    parts = parts_of(model)
    parts.head.register_forward_pre_hook(_in_a_row)
    return Live(folder, model, processor, parts, checkpoint.layers)


def _in_a_row(_head: nn.Module, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """Of a batch's last tokens, cut out of longer prompts, torch multiplies each with a copy of the weights:
    of a head that is gigabytes."""
    return args if torch.compiler.is_exporting() else tuple(value.contiguous() for value in args)


def computes_on_one_thread(parameters: int) -> bool:
    """Whether more threads would only wait for each other."""
    return parameters < _ONE_THREAD_PARAMETERS


def usual_threads() -> int:
    """Torch counts the machine's cores, also where a container may use few of them."""
    return min(torch.get_num_threads(), usable_cores())


def as_live(source: Path | str | Live) -> Live:
    """A model that is already loaded, or the one in a folder."""
    return source if isinstance(source, Live) else load(source)


def encode(live: Live, sample: Sample, new_tokens: int | None = None) -> Encoded:
    """The sample's prompt through the chat template, with the generation prompt, and its pictures.

    Raises `InputError` naming the sample: see `processed_sample`; and where it passes the model's context
    together with `new_tokens` of an answer (None: nobody asks).
    """
    values = processed_sample(live.processor, live.parts.family, sample)
    if new_tokens is not None:
        refuse_sample_too_long(sample, values["input_ids"].shape[-1], new_tokens, live.context_tokens)
    taken = inspect.signature(live.model.forward).parameters
    tensors = {
        name: value for name, value in values.items() if isinstance(value, torch.Tensor) and name in taken
    }
    ids = tensors.pop("input_ids")[0]
    types = {name: tensors.pop(name)[0] for name in _PER_TOKEN if name in tensors}
    extra = {name: value for name, value in tensors.items() if name not in ("attention_mask", "labels")}
    return Encoded(ids, extra, types)


def _later_type(live: Live, name: str) -> int:
    """The type of a token that follows the prompt, and of padding: seen by none before it."""
    return int(name == "token_type_ids" and live.parts.family.mask == "prefix")


def answered(live: Live, prompt: Encoded, answer: Sequence[int]) -> Encoded:
    """A prompt and the tokens that follow it."""
    ids = torch.cat([prompt.input_ids, prompt.input_ids.new_tensor(answer)])
    types = {
        name: torch.cat([value, value.new_full((len(answer),), _later_type(live, name))])
        for name, value in prompt.types.items()
    }
    return Encoded(ids, prompt.extra, types)


def collate(live: Live, prompts: Sequence[Encoded], side: str = "right") -> dict[str, torch.Tensor]:
    """input_ids [B, T] padded on `side`, attention_mask and types [B, T], pictures of all prompts in a row.

    Raises `InputError` for pictures of different sizes where the model is not told how large each is.
    """
    longest = max(prompt.length for prompt in prompts)
    shape = (len(prompts), longest)
    batch = {
        "input_ids": torch.full(shape, live.pad_token_id, dtype=torch.long),
        "attention_mask": torch.zeros(shape, dtype=torch.long),
    }
    for name in sorted({name for prompt in prompts for name in prompt.types}):
        batch[name] = torch.full(shape, _later_type(live, name), dtype=torch.long)
    for row, prompt in enumerate(prompts):
        place = slice(0, prompt.length) if side == "right" else slice(longest - prompt.length, longest)
        batch["input_ids"][row, place] = prompt.input_ids
        batch["attention_mask"][row, place] = 1
        for name, value in prompt.types.items():
            batch[name][row, place] = value
    for name in sorted({name for prompt in prompts for name in prompt.extra}):
        batch[name] = in_a_row([prompt.extra[name] for prompt in prompts if name in prompt.extra], prompts)
        if batch[name].is_floating_point():
            batch[name] = batch[name].to(live.dtype)
    return {name: value.to(live.device) for name, value in batch.items()}


@torch.inference_mode()
def forward_decoder(live: Live, batch: dict[str, torch.Tensor]) -> None:
    """Run tower, projector and decoder on a right-padded batch, for its hooks; no head, no cache."""
    inputs = {name: value for name, value in batch.items() if name != "attention_mask"}
    with live.ends(head=False):
        live.model.base_model(**inputs, use_cache=False)


@torch.inference_mode()
def last_stream_and_logits(
    live: Live, batch: dict[str, torch.Tensor], tokens: int = 1
) -> tuple[torch.Tensor, torch.Tensor]:
    """What leaves the last block [B, T, width] of a right-padded batch, and last logits [B, tokens, V]."""
    found: list[torch.Tensor] = []
    inputs = {name: value for name, value in batch.items() if name != "attention_mask"}
    handle = live.norm.register_forward_pre_hook(lambda _norm, args: found.append(args[0]))
    try:
        with live.ends():
            logits = last_logits(live, inputs, tokens)
    finally:
        handle.remove()
    return found[0], logits


def last_logits(live: Live, inputs: dict[str, torch.Tensor], tokens: int) -> torch.Tensor:
    """[B, tokens, V], in one pass without a cache. Some models give all, whatever they are told to keep."""
    logits: torch.Tensor = live.model(**inputs, use_cache=False, logits_to_keep=tokens).logits
    return logits[:, -tokens:]


@torch.inference_mode()
def greedy(live: Live, prompts: Sequence[Encoded], max_new_tokens: int) -> list[list[int]]:
    """The model's own greedy continuation of each prompt, up to and including the end token."""
    ends = list(live.eos_token_ids)
    batch = collate(live, prompts, side="left")
    with quiet_transformers(), greedy_settings(live), live.ends():
        tokens = live.model.generate(**batch, max_new_tokens=max_new_tokens)
    answers = []
    for row in tokens[:, batch["input_ids"].shape[1] :].tolist():
        stop = next((index for index, token in enumerate(row) if token in ends), len(row) - 1)
        answers.append(row[: stop + 1])
    return answers


@contextlib.contextmanager
def greedy_settings(live: Live) -> Iterator[None]:
    """Within the block the model generates greedily, by its raw logits alone.

    What a checkpoint's generation_config.json says of sampling (bans, penalties, beams, forced tokens) is for
    its users; transformers mixes it into whatever it is asked. Only the end tokens are kept, and no answer
    asks for another picture.
    """
    from transformers import GenerationConfig

    make: Any = GenerationConfig  # untyped in transformers
    before = live.model.generation_config
    live.model.generation_config = make(
        do_sample=False,
        num_beams=1,
        repetition_penalty=1.0,
        eos_token_id=list(live.eos_token_ids) or None,
        pad_token_id=live.pad_token_id,
        suppress_tokens=list(live.picture_token_ids) or None,
    )
    try:
        yield
    finally:
        live.model.generation_config = before


class _Bypass(nn.Module):
    """Stands in for decoder block `layer` and hands the residual stream through."""

    def __init__(self, layer: int) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, hidden_states: torch.Tensor, *_args: Any, **kwargs: Any) -> torch.Tensor:
        cache = kwargs.get("cache", kwargs.get("past_key_values"))
        if cache is not None:  # masks of all layers are as long as the first one's part of it
            nothing = hidden_states.new_zeros(len(hidden_states), 1, hidden_states.shape[1], 1)
            cache.update(nothing, nothing, self.layer)
        return hidden_states


@contextlib.contextmanager
def bypassed(live: Live, drop: Collection[int]) -> Iterator[None]:
    """Within the block, decoder layers `drop` do nothing; the others keep their index and their mask."""
    originals = {layer: live.blocks[layer] for layer in drop}
    try:
        for layer in originals:
            live.blocks[layer] = _Bypass(layer)
        yield
    finally:
        for layer, block in originals.items():
            live.blocks[layer] = block
