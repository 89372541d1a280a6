"""All layers in every step, from the first: no growing, no stochastic depth. Resumable."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from benchmarks.plain.model import LAYOUT, new_model, tokenizer_of
from topovlm.reference.packing import Packer
from topovlm.reference.train import optimizers

_EVERY = 50


@dataclass(frozen=True)
class Recipe:
    """What decides the weights, next to the code and the library versions. `tower_steps`: how long only the
    decoder and what is before it learn."""

    seed: int = 1
    steps: int = 1500
    tower_steps: int = 300
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    warmup_steps: int = 150
    decay_steps: int = 500  # the last ones, linear to zero

    def rate(self, step: int) -> float:
        warm = min(1.0, (step + 1) / self.warmup_steps)
        return self.learning_rate * warm * min(1.0, (self.steps - step) / self.decay_steps)


class _Steps(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    """Batches by step, made in another process."""

    def __init__(self, packer: Packer, first: int, last: int) -> None:
        self.packer, self.first, self.last = packer, first, last

    def __len__(self) -> int:
        return self.last - self.first

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        batch = self.packer.batch(self.first + index)
        return {name: torch.from_numpy(value) for name, value in vars(batch).items()}


def loss_of(model: Any, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """(loss, share of answer tokens that come first)."""
    body, pixels = model.model, batch["pixels"]
    scaled = pixels.permute(0, 3, 1, 2).float() / 127.5 - 1
    side = pixels.shape[1] // model.config.vision_config.patch_size
    tower = body.vision_model
    seen = tower.embeddings(scaled, torch.ones(len(pixels), side, side, dtype=torch.bool))
    for layer in tower.encoder.layers:
        seen = layer(seen, attention_mask=None)
    features = body.connector(tower.post_layernorm(seen))
    tokens, segments = batch["tokens"], batch["segments"]
    stream = body.text_model.embed_tokens(tokens)
    where = tokens == model.config.image_token_id
    stream = stream.masked_scatter(where[..., None], features.to(stream.dtype))
    length = tokens.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    sees = (segments[:, None, :] == 0) | (segments[:, None, :] == segments[:, :, None])
    mask = torch.zeros(len(tokens), 1, length, length, dtype=torch.bfloat16)
    mask.masked_fill_(~(causal & sees)[:, None], -1e9)
    rope = body.text_model.rotary_emb(stream, batch["positions"])
    for layer in body.text_model.layers:
        stream = layer(stream, attention_mask=mask, position_embeddings=rope)
    wanted = batch["targets"] >= 0
    logits = F.linear(body.text_model.norm(stream[wanted]), body.text_model.embed_tokens.weight).float()
    target, weight = batch["targets"][wanted], batch["weights"][wanted]
    loss = (F.cross_entropy(logits, target, reduction="none") * weight).sum() / weight.sum()
    return loss, (logits.argmax(-1) == target).float().mean()


def train(recipe: Recipe, out: Path) -> None:
    """Run the recipe, or go on with it. Writes checkpoint, log, recipe into `out`."""
    torch.set_flush_denormal(True)  # denormal gradients make some CPUs a hundred times slower
    out.mkdir(parents=True, exist_ok=True)
    (out / "recipe.json").write_text(json.dumps(asdict(recipe), indent=2) + "\n")
    tokenizer = tokenizer_of(recipe.seed)
    packer = Packer(tokenizer, LAYOUT, recipe.seed)
    model = new_model(tokenizer, recipe.seed)
    model.set_attn_implementation("eager")  # compiled, faster than the fused kernel at these lengths
    model.train()
    checkpoint = out / "checkpoint.pt"
    saved = torch.load(checkpoint, map_location="cpu", weights_only=True) if checkpoint.is_file() else None
    step, spent = 0, 0.0
    if saved:
        model.load_state_dict(saved["model"])
        step, spent = saved["step"], saved["seconds"]
    for layer in [*model.model.text_model.layers, *model.model.vision_model.encoder.layers]:
        layer.compile(dynamic=False)
    optimisers = optimizers(model, torch.nn.Identity(), recipe)  # type: ignore[arg-type]
    if saved:
        for optimiser, state in zip(optimisers, saved["optimisers"], strict=True):
            optimiser.load_state_dict(state)
    loader = torch.utils.data.DataLoader(
        _Steps(packer, step, recipe.steps), batch_size=None, num_workers=1, prefetch_factor=8
    )
    began, rows = time.monotonic() - spent, list[tuple[float, float]]()
    tower = list(model.model.vision_model.parameters())
    parameters = [value for one in optimisers for group in one.param_groups for value in group["params"]]
    for batch in loader:
        for value in tower:
            value.requires_grad_(step >= recipe.tower_steps)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss, right = loss_of(model, batch)
        loss.backward()  # type: ignore[no-untyped-call] # untyped in torch
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        for optimiser in optimisers:
            for group in optimiser.param_groups:
                group["lr"] = recipe.rate(step)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        step += 1
        rows.append((float(loss.detach()), float(right)))
        if step % _EVERY == 0 or step == recipe.steps:
            seconds = time.monotonic() - began
            mean_loss, mean_right = (sum(column) / len(rows) for column in zip(*rows, strict=True))
            row = {"step": step, "loss": mean_loss, "token_accuracy": mean_right, "seconds": seconds}
            with (out / "log.jsonl").open("a") as file:
                file.write(json.dumps(row) + "\n")
            rows = []
            partial = checkpoint.with_suffix(".part")
            states = [one.state_dict() for one in optimisers]
            torch.save(
                {"step": step, "seconds": seconds, "model": model.state_dict(), "optimisers": states}, partial
            )
            os.replace(partial, checkpoint)
