"""What a vision tower reads and writes while it computes."""

from __future__ import annotations

from topovlm.predict.weight_formats import ACTIVATION_BYTES

# Values that pass through memory per patch and layer, in widths of the tower, written or read: two norms (4),
# query, key and value (6), their rotation (4), attention and its product (4), residuals (4), the MLP's inner
# side (8).
_WIDTHS_PER_PATCH = 30


def tower_bytes(layers: float, layer_params: float, hidden: float, patches: float) -> float:
    """Weights once, activations of all `patches`."""
    return ACTIVATION_BYTES * layers * (layer_params + _WIDTHS_PER_PATCH * patches * hidden)
