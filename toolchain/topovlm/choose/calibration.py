"""Samples through the dense model, once: one point cloud per decoder layer.

Heavy imports happen inside `collect_states`; importing this module costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from topovlm.console import Progress
from topovlm.errors import InputError, explain
from topovlm.samples import Sample

if TYPE_CHECKING:
    import torch

    from topovlm.checkpoint.live import Live

TOKEN_CHOICES = ("last", "text-mean", "image-mean")
_ALIASES = {"ret": "last"}
_BATCHES_PER_STRETCH = 8


def collect_states(
    model: Path | str | Live,
    samples: Sequence[Sample],
    *,
    token: str = "last",
    batch_size: int = 16,
    progress: Progress | None = None,
) -> np.ndarray:
    """Residual stream after each decoder block, before the final norm: float32 [layers, samples, width].

    `token`: "last" (alias "ret") takes the last prompt token after the chat template, the one that predicts
    the answer; "text-mean" and "image-mean" average over the prompt's text or image tokens. A sample gives
    the same vectors alone and in a batch. `progress(done, total)` counts samples. Raises `InputError`.
    """
    from topovlm.checkpoint.encoded import batches_by_length
    from topovlm.checkpoint.live import as_live, collate, encode

    token = _ALIASES.get(token, token)
    if token not in TOKEN_CHOICES:
        raise InputError(explain("--token", token, "is unknown", f"Choose one of {', '.join(TOKEN_CHOICES)}"))
    if not samples:
        raise InputError(explain("calibration samples", 0, "at least one is needed"))
    if batch_size < 1:
        raise InputError(explain("batch size", batch_size, "must be at least 1"))
    live = as_live(model)
    for sample in samples:
        if token == "image-mean" and not sample.images:
            rule = "there is no picture to average over"
            raise InputError(explain("--token", token, rule).at(sample.source or sample.id))
    width = live.model.config.get_text_config().hidden_size
    states = np.empty((live.layers, len(samples), width), dtype=np.float32)
    done = 0
    # One stretch of decoded pictures is in memory at a time; in it, prompts of like length share a batch.
    stretch = _BATCHES_PER_STRETCH * batch_size
    for start in range(0, len(samples), stretch):
        prompts = [encode(live, sample, new_tokens=0) for sample in samples[start : start + stretch]]
        for members in batches_by_length([prompt.length for prompt in prompts], batch_size):
            batch = collate(live, [prompts[member] for member in members])
            rows = [start + member for member in members]
            states[:, rows] = _token_states(live, batch, token)
            done += len(rows)
            if progress:
                progress(done, len(samples))
    if not np.isfinite(states).all():
        layer = int(np.argwhere(~np.isfinite(states))[0, 0])
        rule = f"the residual stream after layer {layer} is not finite"
        raise InputError(explain("--model", str(live.folder), rule, "The weights are damaged or overflow"))
    return states


def _token_states(live: Live, batch: dict[str, torch.Tensor], token: str) -> np.ndarray:
    """float32 [layers, B, width]: the chosen token's residual stream after every block of one batch."""
    import torch

    from topovlm.checkpoint.live import forward_decoder

    weights = _token_weights(batch, live.image_token_id, token)
    kept: list[np.ndarray] = []

    def keep(
        _module: torch.nn.Module, args: tuple[torch.Tensor, ...], kwargs: dict[str, torch.Tensor]
    ) -> None:
        stream = args[0] if args else kwargs["hidden_states"]
        kept.append(torch.einsum("btd,bt->bd", stream.float(), weights).cpu().numpy())

    # What enters the block behind: some families add features of pictures between the two.
    behind = [*list(live.blocks)[1:], live.norm]
    handles = [module.register_forward_pre_hook(keep, with_kwargs=True) for module in behind]
    try:
        forward_decoder(live, batch)
    finally:
        for handle in handles:
            handle.remove()
    return np.stack(kept)


def _token_weights(batch: dict[str, torch.Tensor], image_token_id: int | None, token: str) -> torch.Tensor:
    """float32 [B, T]: how much each position counts; rows sum to one, padding is zero."""
    import torch

    mask = batch["attention_mask"].bool()
    if token == "last":
        chosen = torch.zeros_like(mask)
        chosen[torch.arange(len(mask), device=mask.device), mask.sum(1) - 1] = True
    else:
        is_image = batch["input_ids"] == (-1 if image_token_id is None else image_token_id)
        chosen = mask & (is_image if token == "image-mean" else ~is_image)
    weights = chosen.float()
    return weights / weights.sum(1, keepdim=True)
