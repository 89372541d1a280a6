"""What a model is computed with in. Torch is asked only about models that are too large for float32."""

from __future__ import annotations

from topovlm.checkpoint.files import Checkpoint
from topovlm.machine.fast_types import fast_bfloat16
from topovlm.machine.host import MOST_OF_MEMORY, memory_bytes

_HALF = {"BF16", "F32"}


def computing(checkpoint: Checkpoint) -> str:
    """`float32`, but for a model too large for it on this machine, which is fast in the type of its weights:
    `bfloat16`. It follows from the machine and the model, not from what happens to be free."""
    most = memory_bytes()
    if most is None or 4 * checkpoint.parameters <= MOST_OF_MEMORY * most:
        return "float32"
    stored = {entry.dtype for entry in checkpoint.tensors.values()}
    if "BF16" not in stored or not stored <= _HALF:
        return "float32"
    return "bfloat16" if fast_bfloat16() or _has_gpu() else "float32"


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()
