"""The recipe of the shipped weights: `python -m topovlm.reference.train --out DIR`.

Three phases, each resumable from its last checkpoint:

1. *vision*: the tower learns to name what each patch shows (colour, shape, size, glyph, value);
2. *shallow*: a decoder of few layers learns the questions;
3. *deep*: layers are inserted as identities (their output projections start at zero) and all are
   trained on. Middle layers are skipped at random in this phase (stochastic depth), as in
   LayerDrop (Fan et al. 2020, arXiv 1909.11556); it costs less time and makes the depth redundant,
   which published LVLMs get from their size. The model card says so.

Hidden matrices are trained by Muon, everything else by AdamW.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from topovlm import json_text
from topovlm.reference.architecture import Size, build_config, build_tokenizer
from topovlm.reference.packing import REGION_CLASSES, Batch, Layout, Packer, region_grid

if TYPE_CHECKING:
    # The stubs of transformers type submodules as "Tensor or Module"; here they are what they are.
    LlavaForConditionalGeneration = Any


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights, next to the code and the library versions."""

    seed: int = 1
    vision_steps: int = 1500
    shallow_steps: int = 750
    deep_steps: int = 1050
    shallow_layers: int = 6
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    warmup_steps: int = 150
    decay_share: float = 0.35  # the last part of the deep phase, linear to zero
    layer_skip: float = 0.15
    skip_from: int = 3  # layers below and the last one are never skipped
    size: Size = field(default_factory=Size)
    layout: Layout = field(default_factory=Layout)

    @property
    def total_steps(self) -> int:
        return self.vision_steps + self.shallow_steps + self.deep_steps

    def phase(self, step: int) -> str:
        if step < self.vision_steps:
            return "vision"
        return "shallow" if step < self.vision_steps + self.shallow_steps else "deep"

    def rate(self, step: int) -> float:
        """Learning rate: warm-up at the start of each phase, then flat, then linear to zero."""
        starts = {"vision": 0, "shallow": self.vision_steps, "deep": self.vision_steps + self.shallow_steps}
        since = step - starts[self.phase(step)]
        warm = min(1.0, (since + 1) / self.warmup_steps)
        left = (self.total_steps - step) / max(1.0, self.decay_share * self.deep_steps)
        return self.learning_rate * warm * min(1.0, left)


class Steps(torch.utils.data.Dataset[dict[str, Any]]):
    """Batches by step, made in a worker process."""

    def __init__(self, packer: Packer, first: int, last: int, recipe: Recipe) -> None:
        self.packer, self.first, self.last, self.recipe = packer, first, last, recipe

    def __len__(self) -> int:
        return self.last - self.first

    def __getitem__(self, index: int) -> dict[str, Any]:
        step = self.first + index
        if self.recipe.phase(step) == "vision":
            scenes = self.packer.scenes(step)
            pixels = np.stack([frame for scene in scenes for frame in scene.frames])
            grids = [grid for scene in scenes for grid in region_grid(scene, self.recipe.size.patch)]
            labels = {
                name: torch.from_numpy(np.stack([g[name].ravel() for g in grids])) for name in REGION_CLASSES
            }
            return {"pixels": torch.from_numpy(pixels), "labels": labels}
        batch: Batch = self.packer.batch(step)
        return {name: torch.from_numpy(value) for name, value in vars(batch).items()}


def build_model(recipe: Recipe, tokenizer: Any, layers: int) -> LlavaForConditionalGeneration:
    from transformers import LlavaForConditionalGeneration

    torch.manual_seed(recipe.seed)
    config = build_config(replace(recipe.size, decoder_layers=layers), tokenizer)
    made: Any = LlavaForConditionalGeneration(config)  # its `float` is untyped in transformers
    model = made.float()
    # Compiled, plain attention takes half the time of the fused CPU kernel at these lengths.
    model.set_attn_implementation("eager")
    # SigLIP's default init is made for its full width; a small tower starts better smaller.
    for name, parameter in model.model.vision_tower.named_parameters():
        if parameter.ndim >= 2:
            nn.init.trunc_normal_(parameter, std=0.02 if "position" in name else parameter[0].numel() ** -0.5)
    return model


def grow(
    shallow: LlavaForConditionalGeneration, recipe: Recipe, tokenizer: Any
) -> LlavaForConditionalGeneration:
    """The deep model that computes what the shallow one computes: new layers write nothing yet."""
    total, few = recipe.size.decoder_layers, recipe.shallow_layers
    deep = build_model(recipe, tokenizer, total)
    state = {k: v for k, v in shallow.state_dict().items() if ".language_model.layers." not in k}
    deep.load_state_dict(state, strict=False)
    # The first three and the last stay where they are, the others are spread evenly between them.
    spread = np.linspace(2, total - 1, few - 2).round().astype(int)
    places = [0, 1, *(int(p) for p in spread)]
    for target, layer in enumerate(deep.model.language_model.layers):
        source = max(i for i, place in enumerate(places) if place <= target)
        layer.load_state_dict(shallow.model.language_model.layers[source].state_dict())
        if target not in places:
            nn.init.zeros_(layer.self_attn.o_proj.weight)
            nn.init.zeros_(layer.mlp.down_proj.weight)
    return deep


def optimizers(model: nn.Module, heads: nn.Module, recipe: Recipe) -> list[torch.optim.Optimizer]:
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in [*model.named_parameters(), *heads.named_parameters()]:
        hidden = parameter.ndim == 2 and "embed" not in name and "lm_head" not in name and "layers" in name
        (matrices if hidden else others).append(parameter)
    decay = recipe.weight_decay
    return [
        torch.optim.Muon(matrices, lr=1.0, weight_decay=decay, momentum=0.95, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=1.0, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def image_features(model: LlavaForConditionalGeneration, pixels: torch.Tensor) -> torch.Tensor:
    """[P, 48, 48, 3] uint8 -> [P, patches, width], before the projector."""
    scaled = pixels.permute(0, 3, 1, 2).float() / 127.5 - 1
    tower = model.model.vision_tower
    tower = getattr(tower, "vision_model", tower)
    hidden: torch.Tensor = tower.embeddings(scaled)
    for layer in tower.encoder.layers:
        hidden = layer(hidden, attention_mask=None)
    return hidden


def vision_loss(
    model: LlavaForConditionalGeneration, heads: nn.Linear, batch: dict[str, Any]
) -> torch.Tensor:
    hidden = image_features(model, batch["pixels"])
    logits = heads(hidden).float().split(list(REGION_CLASSES.values()), dim=-1)
    losses = []
    for (name, count), logit in zip(REGION_CLASSES.items(), logits, strict=True):
        weight = torch.ones(count, device=logit.device)
        weight[0] = 0.1  # most patches are empty
        losses.append(F.cross_entropy(logit.flatten(0, 1), batch["labels"][name].flatten(), weight=weight))
    return torch.stack(losses).sum()


def answer_loss(
    model: LlavaForConditionalGeneration, batch: dict[str, Any], recipe: Recipe, skip: set[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """(loss, share of answer tokens that would be chosen)."""
    body = model.model
    tokens, segments = batch["tokens"], batch["segments"]
    features = body.multi_modal_projector(image_features(model, batch["pixels"]))
    embeds = body.language_model.embed_tokens(tokens)
    where = tokens == model.config.image_token_index
    embeds = embeds.masked_scatter(where[..., None], features.to(embeds.dtype))
    length = tokens.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=tokens.device).tril()
    sees = (segments[:, None, :] == 0) | (segments[:, None, :] == segments[:, :, None])
    mask = torch.zeros(len(tokens), 1, length, length, dtype=torch.bfloat16, device=tokens.device)
    mask.masked_fill_(~(causal & sees)[:, None], -1e9)
    rope = body.language_model.rotary_emb(embeds, batch["positions"])
    hidden = embeds
    for index, layer in enumerate(body.language_model.layers):
        if index not in skip:
            hidden = layer(hidden, attention_mask=mask, position_embeddings=rope)
    wanted = batch["targets"] >= 0
    hidden = body.language_model.norm(hidden[wanted])
    logits = F.linear(hidden, body.language_model.embed_tokens.weight).float()
    target, weight = batch["targets"][wanted], batch["weights"][wanted]
    loss = (F.cross_entropy(logits, target, reduction="none") * weight).sum() / weight.sum()
    return loss, (logits.argmax(-1) == target).float().mean()


def _to(batch: dict[str, Any], device: str) -> dict[str, Any]:
    return {k: _to(v, device) if isinstance(v, dict) else v.to(device) for k, v in batch.items()}


def _save(path: Path, **state: Any) -> None:
    torch.save(state, path.with_suffix(".tmp"))
    os.replace(path.with_suffix(".tmp"), path)


def _resume_log(path: Path, step: int) -> float:
    """Drop rows behind the checkpoint (those steps are trained again); returns the seconds so far."""
    rows = [json_text.parse(line) for line in path.read_text().splitlines()] if path.is_file() else []
    kept = [row for row in rows if row["step"] <= step]
    path.write_text("".join(json.dumps(row) + "\n" for row in kept))
    return kept[-1]["seconds"] if kept else 0.0


def _log(path: Path, **row: Any) -> None:
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")


def train(
    recipe: Recipe,
    out: Path,
    device: str,
    *,
    checkpoint_every: int = 250,
    on_step: Callable[[int], None] = lambda step: None,
) -> LlavaForConditionalGeneration:
    """Runs (or resumes) the recipe; returns the trained model. Writes checkpoint, log, recipe."""
    out.mkdir(parents=True, exist_ok=True)
    tokenizer = build_tokenizer(recipe.size.vocab, recipe.seed)
    tokenizer.save(str(out / "tokenizer.json"))
    (out / "recipe.json").write_text(json.dumps(asdict(recipe), indent=2) + "\n")
    packer = Packer(tokenizer, recipe.layout, recipe.seed)
    checkpoint = out / "checkpoint.pt"
    state = torch.load(checkpoint, map_location="cpu", weights_only=True) if checkpoint.is_file() else None
    step = state["step"] if state else 0
    phase = recipe.phase(max(0, step - 1))
    model = build_model(
        recipe, tokenizer, recipe.size.decoder_layers if phase == "deep" else recipe.shallow_layers
    )
    heads = nn.Linear(recipe.size.width, sum(REGION_CLASSES.values()))
    if state:
        model.load_state_dict(state["model"])
        heads.load_state_dict(state["heads"])
    model, heads = model.to(device), heads.to(device)
    optimisers = _prepare(model, heads, recipe, device)
    if state:
        for optimiser, saved in zip(optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
    loader = torch.utils.data.DataLoader(
        Steps(packer, step, recipe.total_steps, recipe),
        batch_size=None,
        num_workers=1 if device == "cpu" else 8,
        prefetch_factor=8,
    )
    began, losses, rights = time.monotonic() - _resume_log(out / "log.jsonl", step), [], []
    for batch in loader:
        if recipe.phase(step) != phase and recipe.phase(step) == "deep":
            model = grow(model.cpu(), recipe, tokenizer).to(device)
            optimisers = _prepare(model, heads, recipe, device)
        phase = recipe.phase(step)
        loss, right = _step(
            model, heads, optimisers, _to(batch, device), recipe=recipe, step=step, device=device
        )
        on_step(step)
        losses.append(loss)
        rights.append(right)
        step += 1
        if step % 50 == 0 or step == recipe.total_steps:
            seconds = round(time.monotonic() - began, 1)
            row = {"step": step, "phase": phase, "loss": float(torch.stack(losses).mean()),
                   "token_accuracy": float(torch.stack(rights).mean()), "seconds": seconds}  # fmt: skip
            _log(out / "log.jsonl", **row)
            losses, rights = [], []
        if step % checkpoint_every == 0 or step == recipe.total_steps:
            _save(checkpoint, step=step, model=model.state_dict(), heads=heads.state_dict(),
                  optimisers=[o.state_dict() for o in optimisers])  # fmt: skip
    return model


def _prepare(
    model: LlavaForConditionalGeneration, heads: nn.Module, recipe: Recipe, device: str
) -> list[torch.optim.Optimizer]:
    """Optimisers, and each layer compiled by itself: one small graph serves them all."""
    tower = model.model.vision_tower
    for layer in [*model.model.language_model.layers, *getattr(tower, "vision_model", tower).encoder.layers]:
        layer.compile(dynamic=False)
    return optimizers(model, heads, recipe)


def _step(
    model: LlavaForConditionalGeneration,
    heads: nn.Linear,
    optimisers: list[torch.optim.Optimizer],
    batch: dict[str, Any],
    *,
    recipe: Recipe,
    step: int,
    device: str,
) -> tuple[torch.Tensor, torch.Tensor]:
    phase, rate = recipe.phase(step), recipe.rate(step)
    skip: set[int] = set()
    if phase == "deep":
        draw = np.random.default_rng([recipe.seed, step, 2]).random(recipe.size.decoder_layers)
        skip = {i for i in range(recipe.skip_from, len(draw) - 1) if draw[i] < recipe.layer_skip}
    with torch.autocast(device, dtype=torch.bfloat16):
        if phase == "vision":
            loss, right = vision_loss(model, heads, batch), torch.zeros(())
        else:
            loss, right = answer_loss(model, batch, recipe, skip)
    loss.backward()  # type: ignore[no-untyped-call] # untyped in torch
    parameters = [p for o in optimisers for g in o.param_groups for p in g["params"]]
    nn.utils.clip_grad_norm_(parameters, 1.0)
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["lr"] = rate
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
    return loss.detach().cpu(), right.detach().cpu()


def versions() -> dict[str, str]:
    import tokenizers
    import transformers

    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "tokenizers": tokenizers.__version__,
        "numpy": np.__version__,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of checkpoint, log and recipe")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=None)
    steps = ("seed", "vision_steps", "shallow_steps", "deep_steps", "shallow_layers")
    for name in steps:
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=getattr(Recipe, name))
    size, layout = Size(), Layout()
    # What a GPU affords beyond the defaults, which are made for two CPU cores.
    for name, default in (("width", size.width), ("intermediate", size.intermediate),
                          ("decoder_layers", size.decoder_layers), ("vision_layers", size.vision_layers),
                          ("singles", layout.singles), ("triples", layout.triples)):  # fmt: skip
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default)
    arguments = parser.parse_args()
    # Denormal gradients make some CPUs a hundred times slower.
    torch.set_flush_denormal(True)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)

    def given(names: tuple[str, ...]) -> dict[str, int]:
        return {name: getattr(arguments, name) for name in names}

    recipe = Recipe(
        **given(steps),
        size=replace(size, **given(("width", "intermediate", "decoder_layers", "vision_layers"))),
        layout=replace(layout, singles=arguments.singles, triples=arguments.triples),
    )
    train(recipe, arguments.out, arguments.device)


if __name__ == "__main__":
    main()
