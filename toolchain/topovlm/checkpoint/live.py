"""A checkpoint in memory: stock transformers model, processor, decoder blocks, prompts as batches.

Batches are padded on the right: with causal attention no real token ever sees the padding, and positions
are those of a single prompt, so a batch gives what its samples give alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from topovlm.checkpoint.files import Checkpoint, open_checkpoint
from topovlm.checkpoint.loading import load_model, quiet_transformers
from topovlm.checkpoint.processors import load_processor
from topovlm.errors import InputError, explain
from topovlm.families.torch_parts import TorchParts, parts_of
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
    def device(self) -> torch.device:
        return torch.device(self.model.device)

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
        """The linear map that ends layer `layer`'s MLP; weight [hidden, intermediate]."""
        linear = self.blocks[layer].get_submodule(self.parts.decoder.down_projection)
        assert isinstance(linear, nn.Linear)
        return linear

    @property
    def image_token_id(self) -> int:
        return int(self.model.config.image_token_id)

    @property
    def eos_token_ids(self) -> tuple[int, ...]:
        value = self.model.generation_config.eos_token_id
        return () if value is None else (value,) if isinstance(value, int) else tuple(value)

    @property
    def pad_token_id(self) -> int:
        """What fills a batch; never the image token, whose count must match the pictures."""
        tokenizer = self.processor.tokenizer
        for value in (tokenizer.pad_token_id, tokenizer.eos_token_id, *self.eos_token_ids):
            if value is not None and value != self.image_token_id:
                return int(value)
        return 0 if self.image_token_id else 1


@dataclass(frozen=True)
class Encoded:
    """One prompt after the chat template: token ids [T] and the tensors of its pictures."""

    input_ids: torch.Tensor
    extra: dict[str, torch.Tensor]

    @property
    def length(self) -> int:
        return int(self.input_ids.shape[0])


# Below this many parameters a layer's products take microseconds: threads wait for each other, not for work.
_ONE_THREAD_PARAMETERS = 20_000_000


def load(
    source: Path | str | Checkpoint, *, dtype: str = "float32", device: str = "auto", processor: Any = None
) -> Live:
    """Load a checkpoint with stock transformers, for inference.

    `dtype` is a torch dtype's name, or "stored". `device` "auto" takes CUDA when there is one. `processor`:
    the folder's own, where somebody has loaded it already. Raises
    `InputError` when transformers cannot load it, weights are missing, or memory is (`TooLargeError`).
    """
    checkpoint = source if isinstance(source, Checkpoint) else open_checkpoint(source)
    folder = checkpoint.folder
    model = load_model(checkpoint, dtype=dtype)
    processor = load_processor(folder) if processor is None else processor
    if model.num_parameters() < _ONE_THREAD_PARAMETERS:
        torch.set_num_threads(1)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return Live(folder, model.to(device), processor, parts_of(model), checkpoint.layers)


def as_live(source: Path | str | Live) -> Live:
    """A model that is already loaded, or the one in a folder."""
    return source if isinstance(source, Live) else load(source)


def encode(live: Live, sample: Sample) -> Encoded:
    """The sample's prompt through the chat template, with the generation prompt, and its pictures."""
    image_token = getattr(live.processor, "image_token", None)
    if image_token and image_token in sample.prompt:
        rule = f"contains {image_token}, which marks the place of a picture"
        raise InputError(explain("prompt", sample.prompt, rule).at(sample.source or sample.id))
    pictures = sample.load_images()
    content = [{"type": "image", "image": picture} for picture in pictures]
    message = {"role": "user", "content": [*content, {"type": "text", "text": sample.prompt}]}
    values = live.processor.apply_chat_template(
        [message], add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    ids = values.pop("input_ids")[0]
    extra = {
        name: value
        for name, value in values.items()
        if isinstance(value, torch.Tensor) and name not in ("attention_mask", "token_type_ids")
    }
    return Encoded(ids, extra)


def collate(live: Live, prompts: Sequence[Encoded], side: str = "right") -> dict[str, torch.Tensor]:
    """input_ids [B, T] padded on `side`, attention_mask [B, T], pictures of all prompts concatenated."""
    longest = max(prompt.length for prompt in prompts)
    ids = torch.full((len(prompts), longest), live.pad_token_id, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        place = slice(0, prompt.length) if side == "right" else slice(longest - prompt.length, longest)
        ids[row, place] = prompt.input_ids
        mask[row, place] = 1
    names = sorted({name for prompt in prompts for name in prompt.extra})
    extra = {name: torch.cat([p.extra[name] for p in prompts if name in p.extra]) for name in names}
    batch = {"input_ids": ids, "attention_mask": mask, **extra}
    if "pixel_values" in batch:
        batch["pixel_values"] = batch["pixel_values"].to(live.model.dtype)
    return {name: value.to(live.device) for name, value in batch.items()}


def batches_by_length(lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """Indices in batches of like length (least padding); stable, so the same input gives the same batches."""
    order = sorted(range(len(lengths)), key=lambda index: (lengths[index], index))
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


@torch.inference_mode()
def forward_decoder(live: Live, batch: dict[str, torch.Tensor]) -> None:
    """Run tower, projector and decoder on a right-padded batch, for its hooks; no head, no cache."""
    inputs = {name: value for name, value in batch.items() if name != "attention_mask"}
    live.model.base_model(**inputs, use_cache=False)


@torch.inference_mode()
def greedy(live: Live, prompts: Sequence[Encoded], max_new_tokens: int) -> list[list[int]]:
    """The model's own greedy continuation of each prompt, up to and including the end token."""
    from transformers import GenerationConfig

    ends = list(live.eos_token_ids)
    make: Any = GenerationConfig  # untyped in transformers
    settings = make(
        do_sample=False,
        num_beams=1,
        repetition_penalty=1.0,
        max_new_tokens=max_new_tokens,
        eos_token_id=ends or None,
        pad_token_id=live.pad_token_id,
        suppress_tokens=[live.image_token_id],  # an answer must not ask for another picture
    )
    batch = collate(live, prompts, side="left")
    with quiet_transformers():
        tokens = live.model.generate(**batch, generation_config=settings)
    answers = []
    for row in tokens[:, batch["input_ids"].shape[1] :].tolist():
        stop = next((index for index, token in enumerate(row) if token in ends), len(row) - 1)
        answers.append(row[: stop + 1])
    return answers


class _Bypass(nn.Module):
    """Stands in for a decoder block and hands the residual stream through."""

    def forward(self, hidden_states: torch.Tensor, *_args: Any, **_kwargs: Any) -> torch.Tensor:
        return hidden_states


@contextlib.contextmanager
def bypassed(live: Live, drop: Collection[int]) -> Iterator[None]:
    """Within the block, decoder layers `drop` do nothing; the others keep their index and their mask."""
    originals = {layer: live.blocks[layer] for layer in drop}
    try:
        for layer in originals:
            live.blocks[layer] = _Bypass()
        yield
    finally:
        for layer, block in originals.items():
            live.blocks[layer] = block
