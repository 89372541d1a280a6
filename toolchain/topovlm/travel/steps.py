"""The steps of greedy generation, written once: for this machine's runtime and for what travels to a board.

Needs numpy alone; Python >= 3.8. What runs the graphs is behind `StepGraphs`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Protocol

import numpy as np

from .failure import Failure


class StepGraphs(Protocol):
    """An opened model. Its cache is a thing of its own kind, handed untouched from step to step."""

    def see(self, pixels: np.ndarray) -> np.ndarray:
        """`[n, 3, H, W]` -> `[n * tokens per picture, hidden]`."""

    def embed(self, ids: np.ndarray) -> np.ndarray:
        """`[B, S]` -> `[B, S, hidden]`."""

    def empty_cache(self, batch: int) -> Any:
        """A cache of no tokens."""

    def step(self, embeds: np.ndarray, cache: Any, past: int) -> tuple[np.ndarray, Any]:
        """`[B, S, hidden]` after `past` tokens -> logits of the last place `[B, V]`, and the new cache."""


@dataclass(frozen=True)
class Run:
    """Greedy tokens and the wall time of each phase; `token_ms`: one entry per token after the first."""

    tokens: list[int]
    vision_ms: float
    embed_ms: float
    prefill_ms: float
    token_ms: list[float]


def greedy(
    graphs: StepGraphs,
    ids: np.ndarray,
    pixels: np.ndarray | None,
    image_token_id: int,
    limit: int,
    *,
    ends: Collection[int] = (),
    on_token: Callable[[int], None] | None = None,
) -> Run:
    """Up to `limit` tokens after the prompt `ids` `[S]`; one of `ends` ends it. `on_token` is not timed."""
    started = perf_counter()
    features = None if pixels is None else graphs.see(pixels)
    seen = perf_counter()
    embeds = prompt_embeds(graphs, ids[None], features, image_token_id)
    embedded = perf_counter()
    logits, cache = graphs.step(embeds, graphs.empty_cache(1), 0)
    token = int(logits[0].argmax())
    clock = perf_counter()
    prefill_ms, past = (clock - embedded) * 1e3, embeds.shape[1]
    tokens, token_ms = [token], []
    if on_token:
        on_token(token)
    while len(tokens) < limit and token not in ends:
        clock = perf_counter()
        logits, cache = graphs.step(graphs.embed(np.asarray([[token]])), cache, past)
        token = int(logits[0].argmax())
        token_ms.append((perf_counter() - clock) * 1e3)
        past += 1
        tokens.append(token)
        if on_token:
            on_token(token)
    return Run(
        tokens=tokens,
        vision_ms=(seen - started) * 1e3 if features is not None else 0.0,
        embed_ms=(embedded - seen) * 1e3,
        prefill_ms=prefill_ms,
        token_ms=token_ms,
    )


def prompt_embeds(
    graphs: StepGraphs, ids: np.ndarray, features: np.ndarray | None, image_token_id: int
) -> np.ndarray:
    """Embed `[B, S]` ids and put the picture features, in order, where the image tokens stand.

    Raises `Failure` when there are more or fewer features than image tokens.
    """
    embeds = graphs.embed(ids)
    places = ids == image_token_id
    given = 0 if features is None else len(features)
    if int(places.sum()) != given:
        rule = f"must equal the number of image tokens in the prompt, {int(places.sum())}"
        raise Failure("graph", "image features", given, rule)
    if features is not None:
        embeds[places] = features.astype(embeds.dtype, copy=False)
    return embeds


def decoder_feeds(embeds: np.ndarray, past: int) -> dict[str, np.ndarray]:
    """What a decoder may ask for beside its cache, for `embeds` `[B, S, hidden]` after `past` tokens."""
    batch, size = embeds.shape[:2]
    return {
        "inputs_embeds": embeds,
        "attention_mask": np.ones((batch, past + size), np.int64),
        "position_ids": np.broadcast_to(np.arange(past, past + size), (batch, size)),
        "num_logits_to_keep": np.asarray(1),
    }


def present_name(past: str) -> str:
    """The output that is the next step's input `past`."""
    return past.replace("past_key_values.", "present.")


def is_past(name: str) -> bool:
    """Whether an input of a decoder is a part of its cache."""
    return name.startswith("past_key_values.")


@dataclass(frozen=True)
class Opened:
    """A model that the timer drives: its graphs and what is to be said of them."""

    graphs: StepGraphs
    image_token_id: int
    new_tokens: int
    threads: int
    providers: dict[str, list[str]]  # by part: vision, embed, decoder
    dtype: str  # of the decoder's embeddings, as numpy names it
    load_ms: float

    def generate(self, ids: np.ndarray, pixels: np.ndarray | None) -> Run:
        """One prompt, always all new tokens."""
        return greedy(self.graphs, ids, pixels, self.image_token_id, self.new_tokens)
