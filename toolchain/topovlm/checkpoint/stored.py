"""Tensors of a checkpoint's files as torch's, one at a time."""

from __future__ import annotations

import torch

from topovlm.checkpoint.safetensors_file import TensorEntry, read_tensor_bytes

# Floating-point types that weights are stored in, and can be rounded to.
TORCH_DTYPES = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64}


def read_tensor(entry: TensorEntry) -> torch.Tensor:
    """On the CPU, in its stored type. Raises `KeyError` for a type that is not one of `TORCH_DTYPES`."""
    data = bytearray(read_tensor_bytes(entry))
    return torch.frombuffer(data, dtype=TORCH_DTYPES[entry.dtype]).view(entry.shape)
