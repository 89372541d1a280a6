"""`topovlm run`: one prompt on an exported folder; the answer on stdout, its timings on stderr."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from topovlm.console import say
from topovlm.runtime.engine import Engine, Generation
from topovlm.runtime.prompt import Prompter, Visual
from topovlm.text import for_reading
from topovlm.units import format_ms


class _TextStream:
    """Turns token ids into text as they come; holds back a character whose bytes are not complete yet."""

    def __init__(self, prompter: Prompter, out: TextIO) -> None:
        self.prompter, self.out = prompter, out
        self.token_ids: list[int] = []
        self.written = 0

    def add(self, token_id: int) -> None:
        self.token_ids.append(token_id)
        text = self.prompter.decode(self.token_ids)
        if not text.endswith("\N{REPLACEMENT CHARACTER}"):
            self.finish(text)

    def finish(self, text: str) -> None:
        """Write what of `text` was not written yet."""
        self.out.write(for_reading(text[self.written :]))
        self.out.flush()
        self.written = max(self.written, len(text))


def run_cli(
    folder: str | Path,
    visuals: Sequence[Visual],
    prompt: str,
    max_new_tokens: int = 32,
    stream: bool = True,
    *,
    variant: str = "auto",
    threads: int | None = None,
    providers: Sequence[str] | None = None,
    quiet: bool = False,
) -> Generation:
    """Answer `prompt` about `visuals` and print it; returns the generation for callers that want its numbers.

    Raises `InputError` for a bad folder, picture, video or prompt, `MissingToolError` for an absent provider.
    """
    engine = Engine(folder, variant=variant, threads=threads, providers=providers)
    writer = _TextStream(engine.prompter, sys.stdout)
    on_token = writer.add if stream else None
    result = engine.generate(visuals, prompt, max_new_tokens, on_token=on_token)
    writer.finish(result.text)
    sys.stdout.write("\n")
    if not quiet:
        say(timing_line(engine, result))
    return result


def timing_line(engine: Engine, result: Generation) -> str:
    """One line of measured times of one run."""
    per_token = format_ms(statistics.median(result.token_ms)) if result.token_ms else "-"
    provider = engine.providers_used["decoder"][0].removesuffix("ExecutionProvider")
    return (
        f"measured once, no warm-up ({provider}, {engine.variant}, {engine.threads} threads): "
        f"load {format_ms(engine.load_ms)}, preprocess {format_ms(result.preprocess_ms)}, "
        f"vision {format_ms(result.vision_ms)}, prefill {format_ms(result.embed_ms + result.prefill_ms)} "
        f"({result.prompt_tokens} tokens), {per_token} per token, "
        f"{len(result.token_ids)} tokens in {format_ms(result.total_ms)}, stopped by {result.stopped}"
    )


def as_json(engine_folder: str | Path, result: Generation) -> dict[str, object]:
    """The generation as JSON-able facts, every time in milliseconds and measured."""
    return {
        "model": str(engine_folder),
        "text": result.text,
        "token_ids": result.token_ids,
        "stopped": result.stopped,
        "prompt_tokens": result.prompt_tokens,
        "kind": "measured",
        "preprocess_ms": result.preprocess_ms,
        "vision_ms": result.vision_ms,
        "embed_ms": result.embed_ms,
        "prefill_ms": result.prefill_ms,
        "token_ms": result.token_ms,
        "ttft_ms": result.ttft_ms,
        "total_ms": result.total_ms,
    }
