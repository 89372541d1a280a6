"""The training itself: to the end of the given time, or until the held-out samples gain no more.

AdamW in float32 on the lessons in an order drawn for each epoch. Where the time stands decides the learning
rate: a warm-up, then half a cosine that ends at nothing when the time does. What counts is the mean of the
weights over the last steps: each single step is of a few samples, and strays. Steps that suit one model throw
another, repaired well, further than it ever comes back: where held-out samples have gained nothing, training
goes on from the best weights with shorter steps. So weights depend on how fast the machine is, and on nothing
else beside the seed: with the same clock they are the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from msgspec.structs import replace
from torch import nn

from topovlm.choose.heal.lessons import Lesson
from topovlm.choose.heal.state import Kept, Standing
from topovlm.choose.heal.student import Student
from topovlm.console import Progress

# Seconds from some moment on.
Clock = Callable[[], float]


@dataclass(frozen=True)
class Recipe:
    """Shares are of the time given. `rate`: of a step to the root mean square of the tensor's weights, which
    suits narrow and wide layers; `least`: counts as that of weights near zero (biases, norms around one);
    `shorter`: times as long are steps after a look at held-out samples that gained nothing; `newest`: the
    weight of the last step in the mean of them, once there are enough."""

    rate: float = 1e-3
    least: float = 0.01
    warmup: float = 0.05
    look: float = 0.05
    patience: float = 0.25
    shorter: float = 0.3
    newest: float = 0.1
    clip: float = 1.0


RECIPE = Recipe()


@dataclass(frozen=True)
class Trained:
    """The weights that were best on the held-out samples, float32 by name, and how it came to them."""

    standing: Standing
    best: dict[str, torch.Tensor]
    stopped_early: bool


def rate_at(share: float, recipe: Recipe) -> float:
    """Learning rate over its peak when so much of the time has gone."""
    warm = min(1.0, 0.1 + 0.9 * share / recipe.warmup)
    return warm * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))


def train(
    student: Student,
    parameters: Mapping[str, nn.Parameter],
    lessons: Sequence[Lesson],
    held_out: Sequence[Lesson],
    *,
    duration_s: float,
    clock: Clock,
    seed: int = 0,
    recipe: Recipe = RECIPE,
    kept: Kept | None = None,
    progress: Progress | None = None,
) -> Trained:
    """Train `parameters` (those of `student` that learn, by name). `kept`: where a training that was killed
    left its state, and this one leaves its own. The student is left with any weights, not the best."""
    optimizer, peaks = _optimizer(parameters, recipe)
    found = kept.read(parameters, optimizer) if kept else None
    if found is None:
        kl = float(student.judged(held_out).kl.mean())
        look_s = recipe.look * duration_s
        found = (
            Standing(start=kl, last=kl, best=kl, next_look_s=look_s),
            _copies(parameters),
            _copies(parameters),
        )
    standing, best, mean = found
    began_s = clock() - standing.elapsed_s
    stopped = False
    while standing.elapsed_s < duration_s and not stopped:
        share = standing.elapsed_s / duration_s
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = peak * standing.rate * rate_at(share, recipe)
        lesson = lessons[_lesson_of(standing.steps, len(lessons), seed)]
        _step(student, lesson, optimizer, recipe, np.random.default_rng([seed, 73, standing.steps]))
        _into_mean(mean, parameters, max(recipe.newest, 1 / (standing.steps - standing.since + 1)))
        standing = replace(
            standing,
            steps=standing.steps + 1,
            tokens=standing.tokens + lesson.tokens,
            elapsed_s=clock() - began_s,
        )
        if standing.elapsed_s >= min(standing.next_look_s, duration_s):
            before_s = standing.elapsed_s
            _exchange(mean, parameters)
            kl = float(student.judged(held_out).kl.mean())
            after_s = clock() - began_s
            # Where looking is slow, it takes a fifth of the time.
            next_s = after_s + max(recipe.look * duration_s, 4 * (after_s - before_s))
            standing = replace(standing, last=kl, elapsed_s=after_s, next_look_s=next_s)
            if kl < standing.best:
                standing = replace(standing, best=kl, best_step=standing.steps, best_s=before_s)
                best = _copies(parameters)
                _exchange(mean, parameters)
            else:
                standing = replace(standing, rate=standing.rate * recipe.shorter, since=standing.steps)
                for name, value in parameters.items():
                    value.data.copy_(best[name])
                    optimizer.state[value]["exp_avg"].zero_()  # it led away
            stopped = before_s - standing.best_s >= recipe.patience * duration_s
        if kept and kept.due(standing.elapsed_s, parameters):
            kept.write(standing, parameters, best, mean, optimizer)
        if progress:
            progress(min(round(standing.elapsed_s), round(duration_s)), round(duration_s))
    return Trained(standing, best, stopped and standing.elapsed_s < duration_s)


def _optimizer(
    parameters: Mapping[str, nn.Parameter], recipe: Recipe
) -> tuple[torch.optim.Optimizer, list[float]]:
    """And the peak of each tensor's learning rate. The model is trained already: nothing decays."""
    values = list(parameters.values())
    sizes = [float(value.detach().square().mean().sqrt()) for value in values]
    groups = [{"params": [value]} for value in values]
    optimizer = torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.95), weight_decay=0.0)
    return optimizer, [recipe.rate * max(size, recipe.least) for size in sizes]


def _lesson_of(step: int, lessons: int, seed: int) -> int:
    """In every epoch another order."""
    epoch, place = divmod(step, lessons)
    return int(np.random.default_rng([seed, 67, epoch]).permutation(lessons)[place])


def _step(
    student: Student,
    lesson: Lesson,
    optimizer: torch.optim.Optimizer,
    recipe: Recipe,
    rng: np.random.Generator,
) -> None:
    optimizer.zero_grad(set_to_none=True)
    with torch.enable_grad():
        torch.autograd.backward(student.loss(lesson, rng))
    values = [value for group in optimizer.param_groups for value in group["params"]]
    # What a lesson does not reach stands still, with moments of its own all the same.
    for value in values:
        if value.grad is None:
            value.grad = torch.zeros_like(value)
    size = nn.utils.clip_grad_norm_(values, recipe.clip)
    if not torch.isfinite(size):  # one lesson beyond the numbers of its type must not spoil the weights
        for value in values:
            value.grad = torch.zeros_like(value)
    optimizer.step()


def _into_mean(
    mean: Mapping[str, torch.Tensor], parameters: Mapping[str, nn.Parameter], share: float
) -> None:
    """The newest weights get so much of it."""
    for name, value in parameters.items():
        mean[name].lerp_(value.detach(), share)


def _exchange(mean: Mapping[str, torch.Tensor], parameters: Mapping[str, nn.Parameter]) -> None:
    """The student has the mean, and the mean's place its weights; once more, and all is as it was."""
    for name, value in parameters.items():
        held = value.detach().clone()
        value.data.copy_(mean[name])
        mean[name].copy_(held)


def _copies(parameters: Mapping[str, nn.Parameter]) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in parameters.items()}
