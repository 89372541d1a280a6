"""A checkpoint's weights in torch: the one place that loads them, with one set of reasons to refuse."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from topovlm.checkpoint.files import Checkpoint, open_checkpoint, read_config
from topovlm.errors import InputError, TopovlmError, explain
from topovlm.families.catalogue import family_for
from topovlm.families.configs import ModelConfig
from topovlm.families.mapped import Mapped
from topovlm.families.torch_parts import TorchParts, parts_of
from topovlm.machine.host import MOST_OF_MEMORY, free_memory_bytes
from topovlm.units import format_bytes

_MOST_SAID = 300  # letters of another library's error


class TooLargeError(InputError):
    """The checkpoint may be sound, but this machine has too little memory to load it."""


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """No progress bars and no warnings of transformers: our errors say what matters."""
    from transformers.utils import logging as untyped

    logging: Any = untyped
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


_MOST_UNFILLED = 3  # sizes are estimates for towers of unknown kinds
_PANIC = "PanicException"  # of tokenizers and safetensors: it is no `Exception`, and named in no module


@contextlib.contextmanager
def load_errors(folder: Path, does: str = "cannot load it") -> Iterator[None]:
    """Whatever transformers says while it reads a folder is about that folder: `InputError`.

    What is said already, in our words, passes. Raises `TooLargeError` where the memory is spent.
    """
    try:
        with quiet_transformers():
            yield
    except TopovlmError:
        raise
    except MemoryError as error:
        raise TooLargeError(
            explain("--model", str(folder), "does not fit into this machine's memory")
        ) from error
    # transformers, tokenizers, safetensors, huggingface_hub and jinja2 state no common kind of error, and
    # damaged files raise many that none of them meant to: nothing of ours runs inside.
    except Exception as error:
        raise InputError(explain("--model", str(folder), f"transformers {does}: {said(error)}")) from error
    except BaseException as error:
        if type(error).__name__ != _PANIC:
            raise
        raise InputError(explain("--model", str(folder), f"transformers {does}: {said(error)}")) from error


def said(error: BaseException) -> str:
    """What an error says, in one line; its kind where it says nothing, or a word that means nothing alone."""
    text = " ".join(str(error).split())
    short = text if len(text) <= _MOST_SAID else f"{text[:_MOST_SAID]}..."
    return short if " " in short else f"{type(error).__name__} {short}".strip()


def native_of(config: ModelConfig) -> Any:
    """Our module with the classes of a family that transformers does not have (`native`), else None."""
    family = family_for(config)
    return import_module(family.native) if family is not None and family.native else None


def read_stock_config(folder: Path) -> Any:
    """config.json as transformers reads it, defaults filled in. Raises `InputError`."""
    from transformers import AutoConfig

    config = read_config(folder)
    native = native_of(config)
    with load_errors(folder, "cannot read its config.json"):
        if native is not None:
            return native.configuration(config)
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def load_model(
    source: Path | str | Checkpoint,
    *,
    dtype: str = "float32",
    attention_kind: str | None = None,
    mapped: bool = False,
    device: str = "cpu",
) -> Any:
    """The stock transformers model (ours where it has none) on the CPU, to evaluate, without gradients.

    `dtype` is a torch dtype's name, or "stored"; `attention_kind` is transformers' own choice by default.
    `mapped`: the weights stay in their files until they are used, as `dtype` and on `device`
    (`families.mapped`).
    Raises `InputError` when the checkpoint is incomplete, transformers cannot load it, or memory is short
    (`TooLargeError`).
    """
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    checkpoint = source if isinstance(source, Checkpoint) else open_checkpoint(source)
    loader: Any = AutoModelForCausalLM if checkpoint.family.text_only else AutoModelForImageTextToText
    if not mapped:
        refuse_too_large(checkpoint, dtype)
    _refuse_unfilled(checkpoint)
    more: dict[str, Any] = {} if attention_kind is None else {"attn_implementation": attention_kind}
    native = native_of(checkpoint.config)
    if native is not None:
        loader = native.MODEL
        more |= {"config": read_stock_config(checkpoint.folder), "key_mapping": dict(native.NAMES)}
    with load_errors(checkpoint.folder):
        model, facts = loader.from_pretrained(
            checkpoint.folder,
            dtype="auto" if mapped or dtype == "stored" else getattr(torch, dtype),
            output_loading_info=True,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            **more,
        )
    # Unexpected keys are left alone: old checkpoints carry buffers that nobody reads any more.
    for kind in ("missing_keys", "mismatched_keys"):
        if facts[kind]:  # transformers would draw them at random
            first = str(sorted(map(str, facts[kind]))[0])
            rule = f"transformers reports {kind.replace('_', ' ')}: {first}"
            raise InputError(
                explain("--model", str(checkpoint.folder), rule, "The checkpoint and its config disagree")
            )
    model.eval().requires_grad_(False)
    if mapped:
        parts, kind = parts_of(model), model.dtype if dtype == "stored" else getattr(torch, dtype)
        Mapped(
            model,
            units=[*parts.blocks, parts.head],
            around=parts.around(head=False),
            embedding=parts.embedding,
            dtype=kind,
            device=torch.device(device),
            files=checkpoint.metadata,
        )
        _refuse_too_large_in_parts(checkpoint.folder, parts_of(model), kind)
    return model


def _refuse_unfilled(checkpoint: Checkpoint) -> None:
    """Raise `InputError` where a configuration asks for far more weights than there are: transformers would
    make them up first, in memory, and then say that they are missing."""
    shape = checkpoint.facts.shape
    decoder = shape.decoder
    asked = decoder.layers * decoder.linear_params_per_layer + decoder.head_params
    asked += shape.vision.params if shape.vision else 0
    if asked > _MOST_UNFILLED * checkpoint.parameters:
        rule = f"describes {asked} parameters, and its weights are {checkpoint.parameters}"
        remedy = "The checkpoint and its config disagree"
        raise InputError(explain("config.json", str(checkpoint.folder), rule, remedy))


@contextlib.contextmanager
def attention(model: Any, kind: str) -> Iterator[None]:
    """Within the block the model runs with that implementation of attention; then with its own again."""
    config = model.config
    before = {name: getattr(config, name)._attn_implementation for name in config.sub_configs}
    before[""] = config._attn_implementation
    model.set_attn_implementation(kind)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def needed_bytes(checkpoint: Checkpoint, dtype: str) -> int:
    """Memory of all weights in that type."""
    if dtype == "stored":
        return checkpoint.weight_bytes
    itemsize: int = getattr(torch, dtype).itemsize
    return checkpoint.parameters * itemsize


def fits(checkpoint: Checkpoint, dtype: str, copies: int = 1, device: str = "cpu") -> bool:
    """Whether all weights take less than most of the memory that is free, here and on the device; true where
    nobody tells."""
    known = [free_memory_bytes(), torch.cuda.mem_get_info()[0] if device == "cuda" else None]
    needed = copies * needed_bytes(checkpoint, dtype)
    return all(free is None or needed <= MOST_OF_MEMORY * free for free in known)


def refuse_too_large(checkpoint: Checkpoint, dtype: str = "float32") -> None:
    """Raise `TooLargeError` before loading weights that will not fit, where the system tells what is free."""
    _refuse(checkpoint.folder, needed_bytes(checkpoint, dtype), f"as {dtype}")


def _refuse_too_large_in_parts(folder: Path, parts: TorchParts, dtype: torch.dtype) -> None:
    """As `refuse_too_large`, of a model that has all but its layers in memory, and one of these at a time."""
    layer = max(sum(parameter.numel() for parameter in block.parameters()) for block in parts.blocks)
    numbers = sum(parameter.numel() for parameter in parts.around()) + layer
    _refuse(folder, numbers * dtype.itemsize, f"as {dtype}, with one layer at a time".replace("torch.", ""))


def _refuse(folder: Path, needed: int, how: str) -> None:
    free = free_memory_bytes()
    if free is not None and needed > free:
        rule = f"needs {format_bytes(needed)} of memory {how}, {format_bytes(free)} are free"
        raise TooLargeError(explain("--model", str(folder), rule, "Use a machine with more memory"))
