"""What a vision tower reads and writes while it computes."""

from __future__ import annotations

from topovlm.predict.weight_formats import ACTIVATION_BYTES

# Values that pass through memory per patch and layer, in widths of the tower: norms, query, key and value,
# products, residuals and the two sides of the MLP, each written once and read once.
_WIDTHS_PER_PATCH = 20


def tower_bytes(layers: float, layer_params: float, hidden: float, patches: float) -> float:
    """Weights once, activations of all `patches`."""
    return ACTIVATION_BYTES * layers * (layer_params + _WIDTHS_PER_PATCH * patches * hidden)
