"""How much the answers depend on what each block adds: Fisher information about a gate on it.

Open, the gate lets through what the block adds to the stream; shut, the block is gone. To second order
KL(open || gate g) is half the information times (1 - g)^2: the mean square of the slope of the log
probability, over answers that the model itself draws. One pass forwards, one backwards; each block is run
again on the way back, so a model that stays in its files is read twice and never whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from topovlm.choose.calibration import rows_of_batches
from topovlm.console import Progress
from topovlm.samples import Sample

if TYPE_CHECKING:
    import torch

    from topovlm.checkpoint.live import Live
    from topovlm.choose.rollouts import Rollouts

BATCH = 8
_NEW_TOKENS = 8


def collect_sensitivity(
    live: Live, samples: Sequence[Sample], seed: int = 0, *, progress: Progress | None = None
) -> np.ndarray:
    """Information per answer token about each block's gate: float64 [layers].

    At the tokens of the model's own greedy answers; a label is drawn for each with the seed, and their slopes
    are added before they are squared: labels drawn from the model make slopes of different tokens average
    out. Raises `InputError`.
    """
    from topovlm.checkpoint.live import encode

    rows = rows_of_batches([encode(live, sample, new_tokens=0).length for sample in samples], BATCH)
    found = np.empty((live.layers, len(samples)))
    done = 0
    for members in rows:
        batch = [samples[row] for row in members]
        found[:, members] = sensitivity_of_batches(live, [batch], seed)[..., 0]
        done += len(members)
        if progress:
            progress(done, len(samples))
    values: np.ndarray = found.mean(axis=1)
    return values


def sensitivity_of_batches(
    live: Live, batches: Sequence[Sequence[Sample]], seed: int, draws: int = 1
) -> np.ndarray:
    """By layer and sample, of batches that somebody else has composed: float64 [layers, samples, 1].

    The mean over so many draws of a label for every answer token.
    """
    from topovlm.choose.rollouts import roll_out

    found, first = np.empty((live.layers, sum(map(len, batches)))), 0
    for batch in batches:
        for rollouts in roll_out(live, batch, max_new_tokens=_NEW_TOKENS, batch_size=len(batch)):
            own = [first + member for member in rollouts.samples]
            found[:, own] = _information(live, rollouts, seed, draws)
        first += len(batch)
    return found[..., None]


def _information(live: Live, rollouts: Rollouts, seed: int, draws: int) -> np.ndarray:
    """float64 [layers, B], in the order of the batch."""
    import torch

    entering, arguments = _forwards(live, rollouts.batch)
    tokens = torch.bincount(rollouts.rows, minlength=len(rollouts.samples)).double()
    digest = hashlib.sha256(rollouts.batch["input_ids"].cpu().numpy().tobytes()).digest()
    rng = np.random.default_rng([seed, 71, int.from_bytes(digest[:8], "big")])
    total = torch.zeros(live.layers, len(rollouts.samples), dtype=torch.float64, device=live.device)
    for _ in range(draws):
        slope = _slope_of_labels(live, entering[-1], rollouts, rng.random(len(rollouts.rows)))
        for layer in reversed(range(live.layers)):
            behind = slope
            with torch.enable_grad(), live.weights.held(live.blocks[layer].parameters()):
                before = entering[layer].detach().requires_grad_()
                after = _run(live, layer, before, arguments[layer])
                (slope,) = torch.autograd.grad(after, before, behind)
            contribution = (after - before).detach().double()
            total[layer] += (behind.double() * contribution).sum((1, 2)).square()
    per_token: np.ndarray = (total / draws / tokens).cpu().numpy()
    return per_token


def _forwards(live: Live, batch: dict[str, torch.Tensor]) -> tuple[list[torch.Tensor], list[dict[str, Any]]]:
    """What enters every block and leaves the last, layers + 1 of [B, T, width], and what blocks are given."""
    import torch

    from topovlm.choose.sweep import enter, outside_inference

    with live.ends(head=False):
        entered = enter(live, batch)
    arguments = [outside_inference(given) for given in entered.arguments]
    streams = [entered.stream.clone()]
    with torch.no_grad():
        for layer in range(live.layers):
            with live.weights.held(live.blocks[layer].parameters()):
                stream = _run(live, layer, streams[-1], arguments[layer])
            if layer in entered.added:
                stream = stream + entered.added[layer].clone()
            streams.append(stream)
    return streams, arguments


def _run(live: Live, layer: int, stream: torch.Tensor, arguments: dict[str, Any]) -> torch.Tensor:
    from topovlm.choose.rollouts import stream_of

    return stream_of(live.blocks[layer](stream, **arguments))


def _slope_of_labels(
    live: Live, leaving: torch.Tensor, rollouts: Rollouts, drawn: np.ndarray
) -> torch.Tensor:
    """Slope of the labels' log probability in what leaves the last block [B, T, width].

    `drawn`: a number from 0 to 1 for each answer token, where its label lies among the probabilities.
    """
    import torch

    with torch.enable_grad():
        stream = leaving.detach().requires_grad_()
        logits = live.logits(stream[rollouts.rows, rollouts.positions]).float()
        log_p = logits.log_softmax(-1)
        reached = log_p.detach().double().exp().cumsum(-1)
        at = torch.as_tensor(drawn, device=reached.device)[:, None] * reached[:, -1:]
        labels = torch.searchsorted(reached, at).clamp(max=log_p.shape[-1] - 1)
        (slope,) = torch.autograd.grad(log_p.gather(1, labels).sum(), stream)
    return slope
