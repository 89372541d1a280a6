"""The judge: how far a slim model's answer distribution is from the dense model's, on held-out samples.

KL(dense || slim) in nats per answer token, the dense model's own greedy answers being forced on both. Layers
are bypassed in memory, and the residual stream before the first cut is taken from a cache.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
import torch

from topovlm.checkpoint.live import Live, forward_decoder
from topovlm.choose.rollouts import Rollouts, recorded_blocks, roll_out
from topovlm.samples import Sample

Progress = Callable[[int, int], None]


class Judge:
    """Built once per set of held-out samples; then `kl(drop)` for as many sets of layers as wanted.

    `cache_bytes` bounds the memory for cached residual streams: with less, fewer layers are start points.
    """

    def __init__(
        self,
        live: Live,
        samples: Sequence[Sample],
        *,
        max_new_tokens: int = 32,
        batch_size: int = 8,
        cache_bytes: int = 1 << 30,
        progress: Progress | None = None,
    ) -> None:
        self.live = live
        self.samples = len(samples)
        self.evaluations = 0
        self._known: dict[frozenset[int], np.ndarray] = {}
        self.rollouts = roll_out(
            live, samples, max_new_tokens=max_new_tokens, batch_size=batch_size, progress=progress
        )
        self._starts = self._start_layers(cache_bytes)
        self._entries: list[dict[int, torch.Tensor]] = []
        self._arguments: list[dict[int, dict[str, Any]]] = []
        self._dense: list[torch.Tensor] = []
        for rollouts in self.rollouts:
            with recorded_blocks(live, range(live.layers)) as seen:
                forward_decoder(live, rollouts.batch)
            self._entries.append({layer: seen[layer][0] for layer in self._starts})
            self._arguments.append({layer: seen[layer][1] for layer in range(live.layers)})
            self._dense.append(self._log_probabilities(len(self._dense), (), live.layers - 1, seen))

    @property
    def answer_tokens(self) -> int:
        return sum(len(rollouts.rows) for rollouts in self.rollouts)

    def kl(self, drop: Collection[int]) -> float:
        """Mean over samples of the mean over answer tokens of KL(dense || slim), in nats."""
        return float(self.kl_per_sample(drop).mean())

    def kl_per_sample(self, drop: Collection[int]) -> np.ndarray:
        """float64 [samples], in the order given; remembered, so a set is run once."""
        key = frozenset(drop)
        if key not in self._known:
            self._known[key] = self._run(key, min(key, default=self.live.layers - 1))
        return self._known[key]

    def kl_of_changed_weights(self, drop: Collection[int], first_changed: int) -> float:
        """As `kl`, for weights that differ from the dense model's in layers from `first_changed` on."""
        return float(self._run(frozenset(drop), min(first_changed, *drop)).mean())

    def _start_layers(self, cache_bytes: int) -> list[int]:
        """Evenly spaced layers whose entering streams fit into `cache_bytes`; always layer 0."""
        width = self.live.model.config.get_text_config().hidden_size
        size = self.live.model.dtype.itemsize
        one_layer = sum(rollouts.real.numel() for rollouts in self.rollouts) * width * size
        stride = -(-self.live.layers * one_layer // max(cache_bytes, one_layer))
        return list(range(0, self.live.layers, max(1, stride)))

    @torch.inference_mode()
    def _run(self, drop: frozenset[int], first_difference: int) -> np.ndarray:
        self.evaluations += 1
        values = np.zeros(self.samples)
        start = max(layer for layer in self._starts if layer <= first_difference)
        for number, rollouts in enumerate(self.rollouts):
            slim = self._log_probabilities(number, drop, start)
            dense = self._dense[number]
            divergence = (dense.exp() * (dense - slim)).sum(-1).double().clamp_min(0)
            totals = torch.zeros(len(rollouts.samples), dtype=torch.float64, device=divergence.device)
            counts = torch.zeros_like(totals)
            totals.index_add_(0, rollouts.rows, divergence)
            counts.index_add_(0, rollouts.rows, torch.ones_like(divergence))
            values[list(rollouts.samples)] = (totals / counts).cpu().numpy()
        return values

    @torch.inference_mode()
    def _log_probabilities(
        self,
        number: int,
        drop: Collection[int],
        start: int,
        seen: dict[int, tuple[torch.Tensor, dict[str, Any]]] | None = None,
    ) -> torch.Tensor:
        """float32 [answer tokens, vocabulary] of batch `number`, run from layer `start` without `drop`."""
        rollouts: Rollouts = self.rollouts[number]
        hidden = seen[start][0] if seen else self._entries[number][start]
        for layer in range(start, self.live.layers):
            if layer not in drop:
                output = self.live.blocks[layer](hidden, **self._arguments[number][layer])
                hidden = output[0] if isinstance(output, tuple) else output
        chosen = hidden[rollouts.rows, rollouts.positions]
        return self.live.head(self.live.norm(chosen)).float().log_softmax(-1)
