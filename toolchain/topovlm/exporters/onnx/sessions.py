"""The exported graphs in ONNX Runtime, driven directly: what parity needs and the product's runtime hides."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from topovlm.exporters.onnx.parts import OnDemand, Parts
from topovlm.machine.host import MOST_OF_MEMORY, free_memory_bytes
from topovlm.runtime.runtime_file import RuntimeFile
from topovlm.travel.ort_graphs import INPUT_TYPES
from topovlm.travel.prompts import Prompt

# Laid out for products, weights are in memory twice for a while; half precision is computed with as fp32.
_COPIES = 3
_MOST_LOGITS_BYTES = 1 << 28
FloatType = Literal["float32", "float16"]
Feeds = dict[str, np.ndarray]
Choose = Callable[[int, np.ndarray], np.ndarray]  # step, logits `[B, vocab]` before it -> tokens `[B]`


@dataclass(frozen=True)
class Broken:
    """Inputs broken on purpose.

    `shift_positions` moves the cached steps, `hide` masks the slots from the first to before the second,
    `blind` takes the features away.
    """

    shift_positions: int = 0
    hide: tuple[int, int] = (0, 0)
    blind: bool = False


WHOLE = Broken()


@dataclass(frozen=True)
class Asked:
    """Prompts, several of them padded to one batch, and the tokens `[T]` that follow each.

    `kept`: last tokens of the prompts whose logits are wanted, 0 for all.
    """

    prompts: tuple[Prompt, ...]
    forced: tuple[np.ndarray, ...]
    broken: Broken = WHOLE
    kept: int = 0


@dataclass(frozen=True)
class OpenGraphs:
    """Vision (None for a model without pictures), embedding and one decoder graph: loaded, or in `Parts`;
    beside these the others are open while they run.

    `float_type`: of the decoder's weights, whatever its inputs are.
    """

    vision: OnDemand | None
    embed: OnDemand
    decoder: Any
    float_type: FloatType
    dynamic_batch: bool

    def answers(self, asked: Sequence[Asked]) -> Iterator[np.ndarray]:
        """Logits `[B, kept + T, vocab]` of each in turn: the prompts, then a cached step per token."""
        if not isinstance(self.decoder, Parts):
            for one in asked:
                forced = np.stack(one.forced)
                yield self._decode(*self._first(one), one.kept, forced.shape[1], _given(forced))
            return
        calls = [self._calls(one) for one in asked]
        for session in (self.vision, self.embed):
            if session is not None:
                session.close()  # all that goes in is known: the decoder's parts have the memory
        for pieces in self.decoder.run(calls, [one.kept for one in asked]):
            yield np.concatenate(pieces, axis=1)

    def run(self, prompt: Prompt, forced: np.ndarray, kept: int = 0) -> np.ndarray:
        """Prefill the prompt, then a cached step per token of `forced` `[T]`; logits `[kept + T, vocab]`."""
        (logits,) = self.answers([Asked((prompt,), (forced,), kept=kept)])
        answer: np.ndarray = logits[0]
        return answer

    def _first(self, asked: Asked) -> tuple[Feeds, np.ndarray]:
        """What the decoder is given first, and the position of the first token that follows, by row."""
        prompts, broken = asked.prompts, asked.broken
        feeds = self._together(prompts) if len(prompts) > 1 else self._alone(prompts[0], blind=broken.blind)
        feeds["attention_mask"][0, slice(*broken.hide)] = 0
        return feeds, np.asarray([prompt.next_position + broken.shift_positions for prompt in prompts])

    def _calls(self, asked: Asked) -> list[Feeds]:
        """What the decoder is given call by call, but for its cache."""
        feeds, following = self._first(asked)
        calls = [feeds]
        for step, tokens in enumerate(np.stack(asked.forced, axis=1)):
            calls.append(self._following(calls[-1], following + step, tokens))
        return calls

    def greedy(self, prompt: Prompt, steps: int, kept: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """The first `steps` greedy tokens `[steps]`, whatever they are; logits as of `run` with them."""
        feeds = self._alone(prompt)
        tokens: list[np.ndarray] = []

        def choose(step: int, logits: np.ndarray) -> np.ndarray:
            tokens.append(logits.argmax(-1))
            return tokens[step]

        following = np.asarray([prompt.next_position])
        logits: np.ndarray = self._decode(feeds, following, kept, steps, choose)[0]
        return np.concatenate(tokens), logits

    def _together(self, prompts: Sequence[Prompt]) -> Feeds:
        """Several prompts in one batch, padded on the left."""
        longest = max(len(prompt.ids) for prompt in prompts)
        pads = [longest - len(prompt.ids) for prompt in prompts]
        rows = [self._prompt_feeds(prompt) for prompt in prompts]
        feeds: Feeds = {}
        for name in rows[0]:
            padded = [_left(row[name], pad, 0) for row, pad in zip(rows, pads, strict=True)]
            feeds[name] = np.stack(padded)
        feeds["attention_mask"] = np.array([[0] * pad + [1] * (longest - pad) for pad in pads], np.int64)
        positions = [_left(p.positions, pad, -1) for p, pad in zip(prompts, pads, strict=True)]
        feeds["position_ids"] = np.stack(positions, axis=-2)
        return feeds

    def _alone(self, prompt: Prompt, *, blind: bool = False) -> Feeds:
        """What the decoder is given for this prompt in a batch of one."""
        feeds = {name: value[None] for name, value in self._prompt_feeds(prompt, blind=blind).items()}
        feeds["attention_mask"] = np.ones((1, len(prompt.ids)), np.int64)
        feeds["position_ids"] = np.stack([prompt.positions], axis=-2)
        return feeds

    def _prompt_feeds(self, prompt: Prompt, *, blind: bool = False) -> Feeds:
        """inputs_embeds `[S, hidden]` with the features in place, and what else goes by token."""
        token = -1 if prompt.image_token_id is None else prompt.image_token_id
        places = prompt.ids == token
        (embeds,) = self.embed.run(None, {"input_ids": np.where(places, 0, prompt.ids)[None]})
        found: Feeds = {"inputs_embeds": embeds[0].copy()}
        names = [value.name for value in self.decoder.get_inputs()]
        for name in names:
            if name.startswith("deepstack_embeds."):
                found[name] = np.zeros_like(found["inputs_embeds"])
        if prompt.block_ids is not None:
            found["block_ids"] = prompt.block_ids
        runs = [] if self.vision is None else [_seen(self.vision, feeds) for feeds in prompt.pictures]
        for name in runs[0] if runs else ():
            values = np.concatenate([run[name].reshape(-1, run[name].shape[-1]) for run in runs])
            target = {"image_features": "inputs_embeds"}.get(name, name.replace("features", "embeds"))
            found[target][places] = 0 if blind else values
        return found

    def _decode(
        self, feeds: Feeds, following: np.ndarray, kept: int, steps: int, choose: Choose
    ) -> np.ndarray:
        """Logits `[B, kept + steps, vocab]` of the prompts and of the tokens that are chosen step by step."""
        batch = len(following)
        inputs = {value.name: value for value in self.decoder.get_inputs()}
        for name, value in inputs.items():
            if name.startswith("past_key_values"):
                shape = (batch, value.shape[1], 0, value.shape[3])
                feeds[name] = np.zeros(shape, INPUT_TYPES[value.type])
        names = [value.name for value in self.decoder.get_outputs()]
        # Also of graphs that keep the last one where nobody asks.
        optional = {value.name: np.asarray(kept) for value in self.decoder.get_overridable_initializers()}
        pieces = []
        for step in range(steps + 1):
            given: Feeds = {
                n: v.astype(INPUT_TYPES[inputs[n].type], copy=False) for n, v in feeds.items() if n in inputs
            }
            given |= optional
            results = dict(zip(names, self.decoder.run(None, given), strict=True))
            pieces.append(results["logits"])
            if step == steps:
                break
            token = choose(step, results["logits"][:, -1])
            cache = {n.replace("present", "past_key_values"): v for n, v in results.items() if n != "logits"}
            feeds = {**self._following(feeds, following + step, token), **cache}
        return np.concatenate(pieces, axis=1)

    def _following(self, before: Feeds, positions: np.ndarray, tokens: np.ndarray) -> Feeds:
        """The inputs of a step with these tokens `[B]` at these positions `[B]`, but for its cache."""
        (embeds,) = self.embed.run(None, {"input_ids": tokens[:, None]})
        names = [value.name for value in self.decoder.get_inputs()]
        batch, rows = len(tokens), before["position_ids"].shape[:-2]
        return {
            "inputs_embeds": embeds,
            **{name: np.zeros_like(embeds) for name in names if name.startswith("deepstack_embeds.")},
            "attention_mask": np.concatenate(
                [before["attention_mask"], np.ones((batch, 1), np.int64)], axis=1
            ),
            "position_ids": np.broadcast_to(positions[:, None], (*rows, batch, 1)),
            "block_ids": np.zeros((batch, 1), np.int64),
        }


def _seen(vision: OnDemand, feeds: Mapping[str, np.ndarray]) -> Feeds:
    """What the vision graph makes of a picture."""
    wanted = {value.name: INPUT_TYPES[value.type] for value in vision.get_inputs()}
    given: Feeds = {name: feeds[name].astype(kind, copy=False) for name, kind in wanted.items()}
    names = [value.name for value in vision.get_outputs()]
    return dict(zip(names, vision.run(None, given), strict=True))


def _given(forced: np.ndarray) -> Choose:
    """The tokens `[B, T]`, one after the other."""
    return lambda step, _: forced[:, step]


def _left(values: np.ndarray, pad: int, axis: int) -> np.ndarray:
    """`pad` zeros in front, along an axis."""
    widths = [(0, 0)] * values.ndim
    widths[axis] = (pad, 0)
    return np.pad(values, widths)


def kept_tokens(prompt: Prompt, vocabulary: int) -> int:
    """Last tokens of a prompt whose logits are compared: all, unless they would take gigabytes.

    What is wrong earlier reaches the last ones through attention.
    """
    return min(len(prompt.ids), max(1, _MOST_LOGITS_BYTES // (4 * vocabulary)))


def open_graphs(folder: Path, content: RuntimeFile, decoder_key: str, *, whole: bool = False) -> OpenGraphs:
    """Load the graphs that the folder names, with the options that users get by default.

    A decoder that would take more than most of the free memory is run in parts, unless it has to be `whole`:
    tokens cannot be chosen one by one from parts.
    """
    paths = content.graphs
    file, layers = folder / paths[decoder_key], content.decoder.layers
    decoder: Any = open_session(file) if whole or fits(file) else Parts(file, layers, _part_bytes())
    first = decoder.get_inputs()[0]
    return OpenGraphs(
        vision=_on_demand(folder / paths["vision"]) if "vision" in paths else None,
        embed=_on_demand(folder / paths["embed"]),
        decoder=decoder,
        float_type="float16" if "_fp16" in paths[decoder_key] else "float32",
        dynamic_batch=not isinstance(first.shape[0], int),
    )


def _on_demand(path: Path) -> OnDemand:
    return OnDemand(functools.partial(open_session, path))


def fits(graph: Path) -> bool:
    """Whether ONNX Runtime may have the graph in memory: its weights, and once more as it lays them out."""
    free, weights = free_memory_bytes(), graph.with_name(f"{graph.name}_data")
    if free is None or not weights.is_file():
        return True
    return _COPIES * weights.stat().st_size <= MOST_OF_MEMORY * free


def _part_bytes() -> int:
    """Weights of one part: with its copies, half of what is free."""
    return int(MOST_OF_MEMORY * (free_memory_bytes() or 0)) // (2 * _COPIES)


def open_session(path: Path) -> Any:
    """A CPU session with every graph optimisation of ONNX Runtime on: the level that users run."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # the machine may be shared
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
