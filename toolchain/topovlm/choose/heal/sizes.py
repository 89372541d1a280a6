"""What healing takes in memory, before anything is loaded. Torch-free."""

from __future__ import annotations

RECOMPUTE_BYTES = 2 << 30  # of what layers keep for the way back; beyond, they run again
BATCH, ANSWER_TOKENS = 8, 32
# A trained number in float32: its gradient, two moments, the mean of the last values, the best so far.
BYTES_PER_PARAMETER = 20
# Of one token in one layer: inputs of norms, projections, attention and the products in between.
_KEPT_PER_WIDTH, _KEPT_PER_INNER = 10, 4
_DISTRIBUTIONS = 4  # logits of answer and text places, dense and slim, and their gradients


def kept_bytes(tokens: int, layers: int, width: int, inner: int) -> int:
    """Of a batch of prompts with so many tokens each, in all layers, for the way back."""
    return 4 * BATCH * tokens * layers * (_KEPT_PER_WIDTH * width + _KEPT_PER_INNER * inner)


def step_bytes(tokens: int, layers: int, width: int, inner: int, words: int) -> int:
    """Of one step beside weights and what the optimizer holds."""
    kept = kept_bytes(tokens, layers, width, inner)
    if kept > RECOMPUTE_BYTES:
        kept = kept_bytes(tokens, 1, width, inner) + 4 * BATCH * tokens * layers * width
    return kept + _DISTRIBUTIONS * 4 * 2 * BATCH * ANSWER_TOKENS * words
