"""Trains tower, projector and the decoder's small change; resumable. See `train`.

Two processes with one thread each, gradients averaged: on a machine that others use too, two threads that
wait for each other after every product take several times as long.
"""

from __future__ import annotations

import json
import os
import platform
import socket
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

from benchmarks.smol.asking import Speller
from benchmarks.smol.blocks import Decoder
from benchmarks.smol.naming import batch as name_batch
from benchmarks.smol.naming import loss as name_loss
from benchmarks.smol.naming import word_vectors
from benchmarks.smol.packing import Batch, Packer
from benchmarks.smol.sight import started
from benchmarks.smol.texts import TextBatches
from topovlm import json_text
from topovlm.machine.environment import versions

_PACKAGES = ("torch", "transformers", "tokenizers", "numpy", "pillow")


@dataclass(frozen=True)
class Recipe:
    """All that decides the result, with the versions; `steps` may be raised when a run is resumed."""

    seed: int = 0
    sight_steps: int = 900  # first, tower and projector alone: see `naming`
    steps: int = 440  # of them and the decoder's change, behind those
    processes: int = 2
    tower_rate: float = 4e-4
    projector_rate: float = 1e-3
    change_rate: float = 1e-3
    warmup_steps: int = 40
    decay_steps: int = 120  # the last ones, linear to a twentieth
    name_weight: float = 0.05  # of the naming that goes on meanwhile
    text_every: int = 10  # steps between those that keep the decoder's way with text
    text_weight: float = 1.0

    def rate(self, step: int) -> float:
        """Share of the learning rates; naming bears twice as much."""
        if step < self.sight_steps:
            return 2 * min(1.0, (step + 1) / self.warmup_steps, 0.1 + (self.sight_steps - step) / 150)
        warm = min(1.0, (step - self.sight_steps + 1) / self.warmup_steps)
        return warm * min(1.0, 0.05 + 0.95 * (self.total - step) / self.decay_steps)

    @property
    def total(self) -> int:
        return self.sight_steps + self.steps


class Learner(nn.Module):
    """What is trained, and the loss of a batch."""

    def __init__(self, folder: Path, seed: int) -> None:
        super().__init__()
        from transformers import AutoModelForCausalLM

        loader: Any = AutoModelForCausalLM
        published = loader.from_pretrained(folder, dtype=torch.float32, trust_remote_code=False)
        torch.manual_seed(seed)
        self.decoder = Decoder(published)
        spread = float(self.decoder.table.float().std())
        self.sight = started(published.config.hidden_size, spread, seed)

    def compile_layers(self) -> None:
        """Each kind of layer by itself: one small graph serves them all."""
        for layer in [*self.decoder.layers, *self.sight.inner.encoder.layers]:
            layer.compile(dynamic=False)

    def groups(self, recipe: Recipe) -> list[dict[str, Any]]:
        changes = dict(self.decoder.named_parameters())
        projector = [*self.sight.linear_1.parameters(), *self.sight.linear_2.parameters()]
        tower = [p for name, p in self.sight.tower.named_parameters() if "post_layernorm" not in name]
        return [
            {"params": tower, "peak": recipe.tower_rate},
            {"params": projector, "peak": recipe.projector_rate},
            {"params": [p for n, p in changes.items() if n.endswith(".a")], "peak": recipe.change_rate},
            {"params": [p for n, p in changes.items() if n.endswith(".b")], "peak": 2 * recipe.change_rate},
        ]

    def answer_loss(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """(loss, share of answer tokens that would be chosen)."""
        form, decoder = batch.form, self.decoder
        with torch.autocast("cpu", dtype=torch.bfloat16):
            seen = self.sight(torch.from_numpy(batch.pixels))
        tokens = torch.from_numpy(batch.tokens)
        embedded = F.embedding(tokens, decoder.table)
        seen = seen.to(torch.bfloat16).reshape(form.rows, -1, seen.shape[-1])
        x = torch.cat((embedded[:, :3], seen, embedded[:, form.prefix :]), 1)
        states = decoder(x, torch.from_numpy(form.positions()), form.prefix, form.questions)
        targets = torch.from_numpy(batch.targets)
        wanted = targets >= 0
        logits = F.linear(states[wanted], decoder.table).float()
        target, weight = targets[wanted], torch.from_numpy(batch.weights)[wanted]
        loss = (F.cross_entropy(logits, target, reduction="none") * weight).sum() / weight.sum()
        return loss, (logits.argmax(-1) == target).float().mean()

    def text_loss(self, tokens: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """How far the changed decoder is from the published one on text [B, T]: KL at some places (nats)."""
        decoder = self.decoder
        embedded = F.embedding(tokens, decoder.table)
        positions, length = torch.arange(tokens.shape[1]), tokens.shape[1]

        def spoken(changed: bool) -> torch.Tensor:
            states = decoder(embedded, positions, length, 0, changed=changed)
            return F.linear(states.flatten(0, 1)[places], decoder.table).float().log_softmax(-1)

        with torch.no_grad():
            published = spoken(False)
        return F.kl_div(spoken(True), published, log_target=True, reduction="batchmean")


def _state(learner: Learner) -> dict[str, torch.Tensor]:
    return {name: value.detach() for name, value in learner.named_parameters()}


def load_weights(learner: Learner, weights: dict[str, torch.Tensor]) -> None:
    own = dict(learner.named_parameters())
    assert own.keys() == weights.keys(), own.keys() ^ weights.keys()
    with torch.no_grad():
        for name, value in weights.items():
            own[name].copy_(value)


def train(recipe: Recipe, decoder: Path, out: Path) -> None:
    """Runs, or resumes, a recipe in folder `out`; writes recipe, log and checkpoint there.

    `decoder`: the published decoder's checkpoint (`python -m benchmarks.smollm2 --checkpoint DIR`).
    """
    out.mkdir(parents=True, exist_ok=True)
    used = {"python": platform.python_version(), **versions(_PACKAGES)}
    record = {"recipe": asdict(recipe), "versions": used, "machine": platform.machine()}
    (out / "recipe.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(_part, (recipe, decoder, out, port), nprocs=recipe.processes)


def _part(rank: int, recipe: Recipe, folder: Path, out: Path, port: int) -> None:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # denormal gradients make some processors a hundred times slower
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    dist.init_process_group("gloo", rank=rank, world_size=recipe.processes)
    from transformers import AutoTokenizer

    tokenizers: Any = AutoTokenizer
    tokenizer = tokenizers.from_pretrained(folder, trust_remote_code=False)
    learner = Learner(folder, recipe.seed)
    optimiser = torch.optim.AdamW(learner.groups(recipe), lr=1.0, betas=(0.9, 0.98), weight_decay=0.0)
    checkpoint, step = out / "checkpoint.pt", 0
    if checkpoint.is_file():
        saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
        load_weights(learner, saved["weights"])
        optimiser.load_state_dict(saved["optimiser"])
        for group, fresh in zip(optimiser.param_groups, learner.groups(recipe), strict=True):
            group["peak"] = fresh["peak"]
        step = saved["step"]
    learner.compile_layers()
    packer, texts = Packer(Speller(tokenizer), recipe.seed), TextBatches(tokenizer, recipe.seed)
    log = _Log(out / "log.jsonl", step) if rank == 0 else None
    used = [p for group in optimiser.param_groups for p in group["params"]]
    vectors = word_vectors(tokenizer, learner.decoder.table)
    while step < recipe.total:
        naming = step < recipe.sight_steps
        if naming:
            loss, right = name_loss(learner.sight, vectors, *name_batch(recipe.seed, step, rank))
        else:
            loss, right = learner.answer_loss(packer.batch(step, rank))
            named, _ = name_loss(learner.sight, vectors, *name_batch(recipe.seed, step, rank))
            (recipe.name_weight * named).backward()  # type: ignore[no-untyped-call]
        loss.backward()  # type: ignore[no-untyped-call] # in torch
        kept = torch.zeros(())
        if not naming and step % recipe.text_every == 0:
            kept = learner.text_loss(*texts.batch(step, rank))
            (recipe.text_weight * kept).backward()  # type: ignore[no-untyped-call]
        _average(used, recipe.processes)
        nn.utils.clip_grad_norm_(used, 1.0)
        for group in optimiser.param_groups:
            group["lr"] = group["peak"] * recipe.rate(step)
        if naming:  # what has no gradient yet stays as it is
            for parameter in learner.decoder.parameters():
                parameter.grad = None
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        step += 1
        if log is not None:
            log.add(step, float(loss.detach()), float(right), float(kept.detach()))
            if step % 20 == 0 or step == recipe.total:
                log.write(step)
            if step % 40 == 0 or step == recipe.total:
                _save(checkpoint, step=step, weights=_state(learner), optimiser=optimiser.state_dict())
    dist.destroy_process_group()


def _average(parameters: list[nn.Parameter], processes: int) -> None:
    """Gradients of all processes' batches, in one message."""
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    flat = torch.cat([grad.flatten() for grad in grads])
    dist.all_reduce(flat)
    flat /= processes
    for parameter, piece in zip(parameters, flat.split([grad.numel() for grad in grads]), strict=True):
        parameter.grad = piece.view_as(parameter)


def _save(path: Path, **state: Any) -> None:
    torch.save(state, path.with_suffix(".tmp"))
    os.replace(path.with_suffix(".tmp"), path)


class _Log:
    """One line every few steps; lines behind the checkpoint, whose steps are run again, are dropped."""

    def __init__(self, path: Path, step: int) -> None:
        rows = [json_text.parse(line) for line in path.read_text().splitlines()] if path.is_file() else []
        kept = [row for row in rows if row["step"] <= step]
        path.write_text("".join(json.dumps(row) + "\n" for row in kept))
        self._path, self._before = path, kept[-1]["seconds"] if kept else 0.0
        self._began = time.monotonic()
        self._rows: list[tuple[float, float, float]] = []

    def add(self, _step: int, loss: float, right: float, kept: float) -> None:
        self._rows.append((loss, right, kept))

    def write(self, step: int) -> None:
        loss, right, kept = np.array(self._rows).mean(0)
        texts = max(1, sum(row[2] > 0 for row in self._rows))
        row = {"step": step, "loss": round(float(loss), 4), "token_accuracy": round(float(right), 4),
               "text_kl": round(float(kept) * len(self._rows) / texts, 4),
               "seconds": round(self._before + time.monotonic() - self._began, 1)}  # fmt: skip
        with self._path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        self._rows.clear()


def provenance(run: Path, notes: Sequence[str] = ()) -> dict[str, Any]:
    """Where trained weights come from: command, recipe, versions, the curve of the loss."""
    record: dict[str, Any] = json.loads((run / "recipe.json").read_text(encoding="utf-8"))
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    recipe = record["recipe"]
    command = (
        f"python -m benchmarks.smol train --out RUN --seed {recipe['seed']} "
        f"--sight-steps {recipe['sight_steps']} --steps {recipe['steps']} "
        f"--decay-steps {recipe['decay_steps']} --processes {recipe['processes']}"
    )
    return {"command": command, **record, "notes": list(notes), "curve": rows}
