"""Greedy generation with an exported vision-language model: pictures and words in, words and timings out.

    engine = Engine("out/onnx")
    engine.generate([image], "What colour is the ball?").text

Clock times are wall milliseconds of one call. `ttft_ms` starts when the pixels are in memory and ends with
the first token; turning picture files into pixels is timed apart (`preprocess_ms`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

import numpy as np

from topovlm.errors import InputError, explain
from topovlm.machine.host import usable_cores
from topovlm.runtime.context_length import refuse_too_long
from topovlm.runtime.decoder import Cache, DecoderSession
from topovlm.runtime.manifest import Manifest, load_manifest
from topovlm.runtime.prompt import Prompter, Visual
from topovlm.runtime.sessions import RunsOn, explained, open_session, provider_names
from topovlm.travel.ort_graphs import OrtGraphs, OrtPart
from topovlm.travel.prompts import Prompt
from topovlm.travel.steps import decode_feeds, greedy, prefill_feeds, see_all

Item = tuple[Sequence[Visual], str]
# Prompts that look for others of their length, and their pictures: whichever is full first.
_BATCHES_PREPARED = 16
_BYTES_PREPARED = 1 << 30


@dataclass(frozen=True)
class Answer:
    """What the model said. `stopped` is `eos` or `length`; the end token is in `token_ids`, not in `text`."""

    token_ids: list[int]
    text: str
    stopped: str


@dataclass(frozen=True)
class Generation(Answer):
    """An answer with the time of each phase; `token_ms` holds one entry per token after the first."""

    preprocess_ms: float
    vision_ms: float
    embed_ms: float
    prefill_ms: float
    token_ms: list[float]
    prompt_tokens: int

    @property
    def ttft_ms(self) -> float:
        """Pixels in memory to first token."""
        return self.vision_ms + self.embed_ms + self.prefill_ms

    @property
    def total_ms(self) -> float:
        """Pixels in memory to last token."""
        return self.ttft_ms + sum(self.token_ms)


class Engine:
    """An exported folder, opened.

    `variant`: `auto` (fused if there is one), `plain`, `fused`, or with a precision: `fused_fp16`.
    `providers`: `cpu` (default), `cuda`, or full names of ONNX Runtime; `threads`: default all usable cores.
    Raises `InputError` for a folder that is no export, `MissingToolError` for an absent provider.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        variant: str = "auto",
        threads: int | None = None,
        providers: Sequence[str] | None = None,
    ) -> None:
        if threads is not None and threads < 1:
            raise InputError(explain("threads", threads, "must be at least 1"))
        start = perf_counter()
        self.manifest: Manifest = load_manifest(folder)
        self.threads = threads or usable_cores()
        self._providers = provider_names(providers)
        self.variant = self.manifest.resolve(variant)
        parts = self.manifest.parts(self.variant)
        self.prompter = Prompter(self.manifest)
        self.decoder = DecoderSession(parts["decoder"], self.manifest, self._providers, self.threads)
        vision = self._part(parts["vision"], "image_features") if "vision" in parts else None
        self.graphs = OrtGraphs(vision, self._part(parts["embed"], "inputs_embeds"), self.decoder)
        self._batch_decoder = self.decoder if self.decoder.max_batch is None else None
        self.load_ms = (perf_counter() - start) * 1e3

    @property
    def providers_used(self) -> dict[str, list[str]]:
        """What each session runs on, asked of the sessions themselves."""
        sessions = {"embed": self.graphs.tokens.session, "decoder": self.decoder.session}
        if self.graphs.vision is not None:
            sessions = {"vision": self.graphs.vision.session, **sessions}
        return {name: session.get_providers() for name, session in sessions.items()}

    @property
    def runs_on(self) -> RunsOn:
        """What the decoder runs on."""
        return RunsOn.provider(self.decoder.session.get_providers()[0])

    def _part(self, path: Path, *outputs: str) -> OrtPart:
        """Raises `InputError` for a graph without one of `outputs`."""
        with explained():
            part = OrtPart(open_session(path, self._providers, self.threads))
        for name in outputs:
            if name not in part.outputs:
                rule = f"gives {', '.join(part.outputs)}; {name} is needed"
                raise InputError(explain("graph", str(path), rule, "Export again"))
        return part

    # -- one prompt ---------------------------------------------------------------------------------
    def prepare(self, visuals: Sequence[Visual], prompt: str) -> Prompt:
        """As `Prompter.prepare`."""
        return self.prompter.prepare(visuals, prompt)

    def generate(
        self,
        visuals: Sequence[Visual],
        prompt: str,
        max_new_tokens: int = 32,
        *,
        on_token: Callable[[int], None] | None = None,
    ) -> Generation:
        """Greedy answer to one prompt about zero or more pictures and videos."""
        start = perf_counter()
        ready = self.prepare(visuals, prompt)
        spent_ms = (perf_counter() - start) * 1e3
        found = self.generate_prepared(ready, max_new_tokens, on_token=on_token)
        return replace(found, preprocess_ms=spent_ms)

    def generate_prepared(
        self,
        prompt: Prompt,
        max_new_tokens: int = 32,
        *,
        stop_at_eos: bool = True,
        on_token: Callable[[int], None] | None = None,
    ) -> Generation:
        """As `generate`, from a prepared prompt; `stop_at_eos=False` makes the work of a timing run fixed."""
        _check_new_tokens(max_new_tokens)
        self._check_length(prompt, max_new_tokens)
        with explained():
            run = greedy(
                self.graphs,
                prompt,
                max_new_tokens,
                ends=self.manifest.eos_token_ids if stop_at_eos else (),
                on_token=on_token,
            )
        return Generation(
            token_ids=run.tokens,
            text=self.prompter.decode(run.tokens),
            stopped=self._why_stopped(run.tokens),
            preprocess_ms=0.0,
            vision_ms=run.vision_ms,
            embed_ms=run.embed_ms,
            prefill_ms=run.prefill_ms,
            token_ms=run.token_ms,
            prompt_tokens=len(prompt.ids),
        )

    # -- many prompts -------------------------------------------------------------------------------
    def generate_batch(
        self,
        items: Sequence[Item],
        batch_size: int = 16,
        max_new_tokens: int = 32,
        *,
        progress: Callable[[int], None] | None = None,
    ) -> list[Answer]:
        """Answers to (visuals, prompt) pairs in their order, as if one by one; `progress` gets the count.

        Only prompts of equal length share a batch, so nothing is padded or masked: give many prompts at once.
        A graph that is fixed to one prompt at a time (fused) lends the work to the folder's plain graph.
        """
        _check_new_tokens(max_new_tokens)
        answers: dict[int, Answer] = {}
        for batch, prompts, logits, cache in self._prefill_batches(items, batch_size, max_new_tokens):
            rows = self._decode_batch(prompts, logits, cache, max_new_tokens)
            for index, tokens in zip(batch, rows, strict=True):
                answers[index] = Answer(tokens, self.prompter.decode(tokens), self._why_stopped(tokens))
            if progress:
                progress(len(answers))
        return [answers[index] for index in range(len(items))]

    def answer_logits(self, items: Sequence[Item], batch_size: int = 16) -> np.ndarray:
        """Logits of the first answer token, float32 `[len(items), vocab]`."""
        rows: dict[int, np.ndarray] = {}
        for batch, _, logits, _ in self._prefill_batches(items, batch_size, 0):
            rows.update(zip(batch, logits, strict=True))
        if not rows:
            raise InputError(explain("items", 0, "at least one is needed"))
        return np.stack([rows[index] for index in range(len(items))])

    def _prefill_batches(
        self, items: Sequence[Item], batch_size: int, new_tokens: int
    ) -> Iterator[tuple[list[int], list[Prompt], np.ndarray, Cache]]:
        """Yield (indices, prompts, logits `[B, V]`, cache) per batch of equally long prompts.

        Some batches' pictures are in memory at a time; prompts of those share batches.
        """
        if batch_size < 1:
            raise InputError(explain("batch_size", batch_size, "must be at least 1"))
        decoder = self._batching_decoder()
        size = batch_size if decoder.max_batch is None else 1
        for start, prepared in self._stretches(items, _BATCHES_PREPARED * size):
            groups: dict[int, list[int]] = {}
            for place, prompt in enumerate(prepared):
                self._check_length(prompt, new_tokens, items[start + place][1])
                groups.setdefault(len(prompt.ids), []).append(place)
            for members in groups.values():
                for begin in range(0, len(members), size):
                    batch = members[begin : begin + size]
                    prompts = [prepared[place] for place in batch]
                    with explained():
                        features = [see_all(self.graphs, prompt) for prompt in prompts]
                        feeds = prefill_feeds(self.graphs, prompts, features)
                        logits, cache = decoder.step(feeds, decoder.empty_cache(len(batch)), past=0)
                    yield [start + place for place in batch], prompts, logits, cache

    def _stretches(self, items: Sequence[Item], most: int) -> Iterator[tuple[int, list[Prompt]]]:
        """Yield (index of the first, prompts): `most` of them, or fewer of large pictures."""
        prepared: list[Prompt] = []
        for index, item in enumerate(items, 1):
            prepared.append(self.prompter.prepare(*item))
            large = sum(prompt.picture_bytes for prompt in prepared) >= _BYTES_PREPARED
            if large or len(prepared) == most or index == len(items):
                yield index - len(prepared), prepared
                prepared = []

    def _decode_batch(
        self, prompts: Sequence[Prompt], logits: np.ndarray, cache: Cache, limit: int
    ) -> list[list[int]]:
        """Greedy rows; each row ends with its own end token, the batch with its last row."""
        decoder, eos, past = self._batching_decoder(), self.manifest.eos_token_ids, len(prompts[0].ids)
        current = logits.argmax(-1)
        rows: list[list[int]] = [[int(token)] for token in current]
        while any(len(row) < limit and row[-1] not in eos for row in rows):
            with explained():
                logits, cache = decoder.step(decode_feeds(self.graphs, prompts, current, past), cache, past)
            current, past = logits.argmax(-1), past + 1
            for row, token in zip(rows, current, strict=True):
                if len(row) < limit and row[-1] not in eos:
                    row.append(int(token))
        return rows

    def _batching_decoder(self) -> DecoderSession:
        if self._batch_decoder is None:
            plain = self.manifest.decoders.get(self.variant.replace("fused", "plain"))
            self._batch_decoder = (
                DecoderSession(plain, self.manifest, self._providers, self.threads) if plain else self.decoder
            )
        return self._batch_decoder

    def _check_length(self, prompt: Prompt, new_tokens: int, words: str = "...") -> None:
        longest = self.manifest.facts.context_tokens
        refuse_too_long(words, len(prompt.ids), new_tokens, longest)

    def _why_stopped(self, tokens: list[int]) -> str:
        return "eos" if tokens[-1] in self.manifest.eos_token_ids else "length"


def _check_new_tokens(count: int) -> None:
    if count < 1:
        raise InputError(explain("max_new_tokens", count, "must be at least 1"))
