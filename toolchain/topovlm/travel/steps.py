"""The steps of greedy generation, written once: for this machine's runtime and for what travels to a board.

Needs numpy alone; Python >= 3.8. What runs the graphs is behind `StepGraphs`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Protocol

import numpy as np

from .failure import Failure
from .prompts import Prompt

_FEATURES, _DEEP, _DEEP_INPUT = "image_features", "deepstack_features.", "deepstack_embeds."


class StepGraphs(Protocol):
    """An opened model. Its cache is a thing of its own kind, handed untouched from step to step."""

    def see(self, feeds: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """One run of the vision graph: rows by output, `[tokens, hidden]`."""

    def embed(self, ids: np.ndarray) -> np.ndarray:
        """`[B, S]` -> `[B, S, hidden]`."""

    def empty_cache(self, batch: int) -> Any:
        """A cache of no tokens."""

    def step(self, feeds: Mapping[str, np.ndarray], cache: Any, past: int) -> tuple[np.ndarray, Any]:
        """`prefill_feeds` or `decode_feeds` after `past` tokens -> logits of the last place, the new cache.

        Logits `[B, V]`. What a decoder asks for and `feeds` does not have is zero.
        """


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
    prompt: Prompt,
    limit: int,
    *,
    ends: Collection[int] = (),
    on_token: Callable[[int], None] | None = None,
) -> Run:
    """Up to `limit` tokens after the prompt; one of `ends` ends it. `on_token` is not timed."""
    started = perf_counter()
    features = see_all(graphs, prompt)
    seen = perf_counter()
    feeds = prefill_feeds(graphs, [prompt], [features])
    embedded = perf_counter()
    logits, cache = graphs.step(feeds, graphs.empty_cache(1), 0)
    token = int(logits[0].argmax())
    clock = perf_counter()
    prefill_ms, past = (clock - embedded) * 1e3, len(prompt.ids)
    tokens, token_ms = [token], []
    if on_token:
        on_token(token)
    while len(tokens) < limit and token not in ends:
        clock = perf_counter()
        feeds = decode_feeds(graphs, [prompt], np.asarray([token]), past)
        logits, cache = graphs.step(feeds, cache, past)
        token = int(logits[0].argmax())
        token_ms.append((perf_counter() - clock) * 1e3)
        past += 1
        tokens.append(token)
        if on_token:
            on_token(token)
    return Run(
        tokens=tokens,
        vision_ms=(seen - started) * 1e3 if prompt.pictures else 0.0,
        embed_ms=(embedded - seen) * 1e3,
        prefill_ms=prefill_ms,
        token_ms=token_ms,
    )


def see_all(graphs: StepGraphs, prompt: Prompt) -> dict[str, np.ndarray]:
    """Rows of all pictures of a prompt, by output of the vision graph; empty without pictures."""
    runs = [graphs.see(feeds) for feeds in prompt.pictures]
    return {name: np.concatenate([run[name] for run in runs]) for name in (runs[0] if runs else ())}


def prefill_feeds(
    graphs: StepGraphs, prompts: Sequence[Prompt], features: Sequence[Mapping[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """What the decoder is given for equally long prompts: features stand where the image tokens stood.

    Raises `Failure` when there are more or fewer features than image tokens.
    """
    ids = np.stack([prompt.ids for prompt in prompts])
    token = prompts[0].image_token_id
    places = np.zeros_like(ids, bool) if token is None else ids == token
    # The image token may lie beyond the table: any row serves, it is overwritten.
    embeds = graphs.embed(np.where(places, 0, ids))
    feeds = {"inputs_embeds": embeds}
    if embeds.ndim != 3 or embeds.shape[:2] != ids.shape:
        raise Failure("graph", "embeddings", list(embeds.shape), "must be [batch, tokens, width]")
    for row, (prompt, found) in enumerate(zip(prompts, features)):  # noqa: B905 (Python 3.8)
        given = len(found[_FEATURES]) if found else 0
        if prompt.picture_tokens != given:
            rule = f"must equal the number of image tokens in the prompt, {prompt.picture_tokens}"
            raise Failure("graph", "image features", given, rule)
        for name, values in found.items():
            if values.shape != (prompt.picture_tokens, embeds.shape[2]):
                rule = f"must be a row of {embeds.shape[2]} for each of {prompt.picture_tokens} tokens"
                raise Failure("graph", name, list(values.shape), rule)
            if name == _FEATURES:
                embeds[row, places[row]] = values.astype(embeds.dtype, copy=False)
            elif name.startswith(_DEEP):
                target = name.replace(_DEEP, _DEEP_INPUT)
                feeds.setdefault(target, np.zeros_like(embeds))[row, places[row]] = values
    feeds["attention_mask"] = np.ones(ids.shape, np.int64)
    feeds["position_ids"] = np.stack([prompt.positions for prompt in prompts], axis=-2)
    blocks = [prompt.block_ids for prompt in prompts if prompt.block_ids is not None]
    if blocks:
        feeds["block_ids"] = np.stack(blocks)
    return feeds


def decode_feeds(
    graphs: StepGraphs, prompts: Sequence[Prompt], tokens: np.ndarray, past: int
) -> dict[str, np.ndarray]:
    """What the decoder is given for the next token `[B]` of each prompt, `past` tokens lying in the cache."""
    lead = prompts[0].positions.shape[:-1]
    places = np.asarray([[prompt.next_position + past - len(prompt.ids)] for prompt in prompts])
    return {
        "inputs_embeds": graphs.embed(tokens[:, None]),
        "attention_mask": np.ones((len(tokens), past + 1), np.int64),
        "position_ids": np.broadcast_to(places, (*lead, *places.shape)),
    }


def completed(feeds: Mapping[str, np.ndarray], names: Collection[str]) -> dict[str, np.ndarray]:
    """Those of `names` that a decoder asks for beside its cache; what is not given is zero."""
    embeds = feeds["inputs_embeds"]
    missing = {"block_ids": np.zeros(embeds.shape[:2], np.int64), "num_logits_to_keep": np.asarray(1)}
    result = {}
    for name in names:
        if name in feeds:
            result[name] = feeds[name]
        elif name in missing:
            result[name] = missing[name]
        elif name.startswith(_DEEP_INPUT):
            result[name] = np.zeros_like(embeds)
    return result


def rows(values: np.ndarray) -> np.ndarray:
    """`[..., hidden]` -> `[tokens, hidden]`."""
    return values.reshape(-1, values.shape[-1])


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
    new_tokens: int
    threads: int
    providers: dict[str, list[str]]  # by part: vision, embed, decoder
    dtype: str  # what the decoder computes in, as numpy names it
    load_ms: float

    def generate(self, prompt: Prompt) -> Run:
        """One prompt, always all new tokens."""
        return greedy(self.graphs, prompt, self.new_tokens)
