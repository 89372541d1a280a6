"""Closed-form repair of the cuts, folded into the MLP down-projection before each.

Layers i+1..i+n are gone. Block i computes x = y + W a (a the MLP's inner activations, W its down-projection);
the dense model had t after layer i+n. W becomes W + D with D = argmin sum_t w_t ||D a_t - (t_t - x_t)||^2
+ lambda (tr(G) / m) ||D||^2, G = sum_t w_t a_t a_t^T. As lambda grows the repair vanishes. The form "output"
restricts D to T W, the d x d compensation of ReplaceMe (arXiv 2505.02819) anchored at the identity.

Gram matrices are float64 sums over batches. Every figure that decides is measured with the weights rounded
to the checkpoint's own type, and a cut's repair that does not lower the held-out KL is not kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch.nn import functional

from topovlm.checkpoint.live import Live, bypassed, forward_decoder
from topovlm.checkpoint.verify import relative_difference
from topovlm.choose.judge import Judge
from topovlm.choose.record import CutRepair
from topovlm.choose.rollouts import Rollouts, recorded_blocks, stream_of
from topovlm.console import Progress

Form = Literal["input", "output"]
LAMBDAS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
FORMS: tuple[Form, ...] = ("input", "output")
_OUTLIER_NORM = 10.0
# Relative difference up to which two ways to compute a block in half precision are the same.
_SAME = 0.02


@dataclass(frozen=True)
class Cut:
    """Layers `first`..`last` (0-based, dense numbering) are gone; `anchor` is the kept layer before them."""

    anchor: int
    first: int
    last: int


@dataclass(frozen=True)
class Gram:
    """Weighted sums over tokens, float64: `inner` [m, m] of a a^T, `cross` [m, d] of a (t - x)^T."""

    inner: torch.Tensor
    cross: torch.Tensor
    tokens: int


def find_cuts(drop: Sequence[int]) -> list[Cut]:
    """Runs of consecutive dropped layers, left to right; one from layer 0 has no MLP before it."""
    runs: list[list[int]] = []
    for layer in sorted(drop):
        if runs and runs[-1][-1] == layer - 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return [Cut(run[0] - 1, run[0], run[-1]) for run in runs if run[0] > 0]


def token_weights(
    ids: torch.Tensor,
    real: torch.Tensor,
    *,
    entering: torch.Tensor,
    leaving: torch.Tensor,
    image_token_id: int | None,
    bos_token_id: int | None,
    visual_weight: float,
) -> torch.Tensor:
    """float64 [B, T]: 1 for text and answer, `visual_weight` for image tokens, 0 for BOS, padding, outliers.

    Outliers have a norm over ten times the median of their stream: a few of them would own the fit.
    """
    visual = ids == (-1 if image_token_id is None else image_token_id)
    weights = torch.where(visual, visual_weight, 1.0).double()
    usable = real.clone()
    if bos_token_id is not None:
        usable &= ids != bos_token_id
    for stream in (entering, leaving):
        norms = stream.float().norm(dim=-1)
        usable &= norms <= _OUTLIER_NORM * norms[real].median()
    return weights * usable


@contextmanager
def weights_in_place(live: Live, weights: Mapping[int, torch.Tensor]) -> Iterator[None]:
    """While open, the down-projections of these layers hold other weights [d, m]."""
    originals = {layer: live.down_projection(layer).weight.data for layer in weights}
    try:
        for layer, weight in weights.items():
            live.down_projection(layer).weight.data = weight
        yield
    finally:
        for layer, weight in originals.items():
            live.down_projection(layer).weight.data = weight


@torch.inference_mode()
def gather(
    live: Live,
    rollouts: Sequence[Rollouts],
    drop: Sequence[int],
    cut: Cut,
    *,
    repaired: Mapping[int, torch.Tensor],
    visual_weight: float = 0.1,
) -> Gram:
    """Gram matrices of one cut: targets from the dense model, inputs from the slim one as repaired so far."""
    bos = live.tokenizer.bos_token_id
    inner = cross = None
    tokens = 0
    for part in rollouts:
        seen: dict[str, torch.Tensor] = {}

        def arriving(name: str, seen: dict[str, torch.Tensor] = seen) -> Callable[..., None]:
            def keep(_module: torch.nn.Module, args: tuple[torch.Tensor, ...], kwargs: Any) -> None:
                seen[name] = args[0] if args else kwargs["hidden_states"]

            return keep

        # What enters the block behind the cut: some families add features of pictures behind the anchor.
        behind = live.blocks[cut.last + 1] if cut.last + 1 < live.layers else live.norm
        handle = behind.register_forward_pre_hook(arriving("target"), with_kwargs=True)
        try:
            forward_decoder(live, part.batch)
        finally:
            handle.remove()
        handles = [
            behind.register_forward_pre_hook(arriving("stream"), with_kwargs=True),
            live.down_projection(cut.anchor).register_forward_pre_hook(arriving("inner"), with_kwargs=True),
        ]
        try:
            with bypassed(live, drop), weights_in_place(live, repaired):
                forward_decoder(live, part.batch)
        finally:
            for handle in handles:
                handle.remove()
        ids = part.batch["input_ids"]
        weights = token_weights(
            ids,
            part.real,
            entering=seen["stream"],
            leaving=seen["target"],
            image_token_id=live.image_token_id,
            bos_token_id=bos,
            visual_weight=visual_weight,
        )
        rows = weights > 0
        scaled = seen["inner"][rows].double() * weights[rows, None]
        wanted = (seen["target"] - seen["stream"])[rows].double()
        step_inner, step_cross = scaled.T @ seen["inner"][rows].double(), scaled.T @ wanted
        inner = step_inner if inner is None else inner + step_inner
        cross = step_cross if cross is None else cross + step_cross
        tokens += int(rows.sum())
    assert inner is not None
    assert cross is not None
    return Gram(inner, cross, tokens)


@torch.inference_mode()
def ends_in_its_projection(live: Live, layer: int, rollouts: Rollouts) -> bool:
    """Whether a block gives W a plus what W has no part in: not with experts, nor with a norm behind W."""
    try:
        down = live.down_projection(layer)
    except LookupError:
        return False
    inner: list[torch.Tensor] = []
    seen = recorded_blocks(live, rollouts.batch)
    handle = down.register_forward_pre_hook(lambda _module, args: inner.append(args[0]))
    try:
        hidden = seen.entering
        for index in range(layer + 1):
            entering = hidden
            hidden = stream_of(live.blocks[index](entering, **seen.arguments[index]))
            output = hidden
            hidden = output + seen.added.get(index, 0)
    finally:
        handle.remove()
    with weights_in_place(live, {layer: 2 * down.weight.data}):
        doubled = stream_of(live.blocks[layer](entering, **seen.arguments[layer]))
    expected = output + functional.linear(inner[0], down.weight)
    return relative_difference(doubled, expected) < _SAME


def solve(gram: Gram, weight: torch.Tensor, form: Form, ridge: float) -> torch.Tensor:
    """The repaired down-projection W + D, float64 [d, m]; `ridge` is lambda over the mean diagonal."""
    weight = weight.double()
    if form == "output":
        inner, cross = weight @ gram.inner @ weight.T, weight @ gram.cross
    else:
        inner, cross = gram.inner, gram.cross
    size = len(inner)
    strength = ridge * inner.trace() / size
    if not strength > 0:
        return weight  # no token counted: nothing to learn from
    solution: torch.Tensor = torch.linalg.solve(inner + strength * torch.eye(size).to(inner), cross).T
    return weight + (solution @ weight if form == "output" else solution)


def fit_repair(
    live: Live,
    drop: Sequence[int],
    fit: Sequence[Rollouts],
    tune: Judge,
    stored_dtype: torch.dtype,
    *,
    forms: Sequence[Form] = FORMS,
    lambdas: Sequence[float] = LAMBDAS,
    visual_weight: float = 0.1,
    progress: Progress | None = None,
) -> tuple[dict[int, torch.Tensor], list[CutRepair]]:
    """New down-projections (in `stored_dtype`, by dense layer) and what was tried, cut by cut from the left.

    A cut's repair is chosen by the KL on the samples of `tune`, with everything repaired so far in place, and
    left out when it does not lower it. A cut whose anchor does not end in its down-projection (a norm behind
    it, experts) is left alone.
    """
    cuts = find_cuts(drop)
    repaired: dict[int, torch.Tensor] = {}
    reports = []
    current = tune.kl(drop)
    for number, cut in enumerate(cuts):
        if not ends_in_its_projection(live, cut.anchor, fit[0]):
            reports.append(_left_alone(cut, current))
            continue
        original = live.down_projection(cut.anchor).weight.data
        in_use = {layer: weight.to(original) for layer, weight in repaired.items()}
        gram = gather(live, fit, drop, cut, repaired=in_use, visual_weight=visual_weight)
        best: tuple[float, Form, float, torch.Tensor] | None = None
        for form in forms:
            for ridge in lambdas:
                candidate = solve(gram, original, form, ridge).to(stored_dtype)
                if not torch.isfinite(candidate).all():
                    continue
                trial = {**in_use, cut.anchor: candidate.to(original)}
                with weights_in_place(live, trial):
                    value = tune.kl_of_changed_weights(drop, min(trial))
                if best is None or value < best[0]:
                    best = (value, form, ridge, candidate)
        kept = best is not None and best[0] < current
        reports.append(
            CutRepair(
                anchor=cut.anchor,
                first=cut.first,
                last=cut.last,
                tokens=gram.tokens,
                kl_before=current,
                kl_after=best[0] if best and kept else current,
                form=best[1] if best else None,
                ridge=best[2] if best else None,
                kept=kept,
            )
        )
        if best is not None and kept:
            repaired[cut.anchor] = best[3]
            current = best[0]
        if progress:
            progress(number + 1, len(cuts))
    return repaired, reports


def _left_alone(cut: Cut, current: float) -> CutRepair:
    """The record of a cut behind which nothing can be folded in."""
    return CutRepair(
        anchor=cut.anchor,
        first=cut.first,
        last=cut.last,
        tokens=0,
        kl_before=current,
        kl_after=current,
        form=None,
        ridge=None,
        kept=False,
    )
