"""A folder that answers questions: an exported one by the torch-free runtime, a checkpoint by torch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from topovlm.errors import InputError, explain
from topovlm.runtime.context_length import refuse_too_long
from topovlm.runtime.runtime_file import MANIFEST_NAME
from topovlm.samples import Sample

if TYPE_CHECKING:
    from topovlm.checkpoint.live import Live
    from topovlm.runtime.engine import Engine

_AT_ONCE = 16


class Answering(Protocol):
    """What a harness asks of a model."""

    def room(self, sample: Sample, wanted: int) -> int:
        """Tokens of an answer that the context has room for, at most `wanted`.

        Raises `InputError` for a question that cannot be asked: a prompt that fills the context, words that
        stand for pictures, more pictures than the model takes.
        """

    def answers(self, samples: Sequence[Sample], new_tokens: int) -> list[str]:
        """Greedy answers without special tokens and without the blanks around them."""


def open_answering(
    folder: str | Path,
    *,
    threads: int | None = None,
    variant: str = "plain",
    provider: str | None = None,
    device: str = "auto",
    dtype: str = "float32",
) -> Answering:
    """By what it holds. `variant`, `provider`: of an exported folder; `device`, `dtype`: of a checkpoint.

    Raises `InputError` for a folder that is neither.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        remedy = "Give a checkpoint folder, or one that `topovlm export` or `deploy` wrote"
        raise InputError(explain("pretrained", str(folder), "is not a folder", remedy))
    if (folder / MANIFEST_NAME).is_file():
        from topovlm.runtime.engine import Engine

        providers = (provider,) if provider else None
        return Exported(Engine(folder, variant=variant, threads=threads, providers=providers))
    from topovlm.checkpoint.live import load

    return Loaded(load(folder, dtype=dtype, device=device, threads=threads))


class Exported:
    """Through the graphs of an exported folder, several questions at a time."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def room(self, sample: Sample, wanted: int) -> int:
        prompter, images = self._engine.prompter, sample.load_images()
        try:
            prompter.check(images, sample.prompt, wanted)
        except InputError:
            longest = self._engine.manifest.facts.context_tokens
            if longest is None:
                raise
            tokens = len(prompter.prepare(images, sample.prompt).ids)
            refuse_too_long(sample.prompt, tokens, 1, longest)
            return min(wanted, longest - tokens)
        return wanted

    def answers(self, samples: Sequence[Sample], new_tokens: int) -> list[str]:
        items = [(sample.load_images(), sample.prompt) for sample in samples]
        return [answer.text for answer in self._engine.generate_batch(items, _AT_ONCE, new_tokens)]


class Loaded:
    """Through a checkpoint that transformers loaded, one question after the other."""

    def __init__(self, live: Live) -> None:
        self._live = live

    @cached_property
    def _longest(self) -> int | None:
        return self._live.context_tokens

    def room(self, sample: Sample, wanted: int) -> int:
        from topovlm.checkpoint.live import encode

        tokens = encode(self._live, sample, 1).length
        return wanted if self._longest is None else min(wanted, self._longest - tokens)

    def answers(self, samples: Sequence[Sample], new_tokens: int) -> list[str]:
        from topovlm.checkpoint.live import encode, greedy

        said = [greedy(self._live, [encode(self._live, sample)], new_tokens)[0] for sample in samples]
        return [str(self._live.tokenizer.decode(row, skip_special_tokens=True)).strip() for row in said]
