"""This machine's profile with the checkpoint on torch, where exported graphs cannot run on its GPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from msgspec import structs

from topovlm.measure.cells import default_layer_counts
from topovlm.measure.probe import measure_engines
from topovlm.measure.settings import ProfileRequest, RoundProgress

if TYPE_CHECKING:
    from topovlm.predict.profile import Profile
    from topovlm.runtime.engine import Engine

_DTYPES = {"fp32": "float32", "fp16": "float16"}


def measure_torch(
    checkpoint: Path,
    exported: Path,
    dtype: str,
    request: ProfileRequest,
    progress: RoundProgress | None = None,
) -> Profile:
    """Profile from the checkpoint; `exported` gives its prompts and pictures, `request` what to time.

    `dtype` auto: half precision on a GPU, else fp32. Memory is not measured.
    """
    import torch

    from topovlm.checkpoint.live import load
    from topovlm.measure.torch_engine import TorchEngine
    from topovlm.runtime.manifest import load_manifest

    if dtype == "auto":
        dtype = "fp16" if torch.cuda.is_available() else "fp32"
    live, manifest = load(checkpoint, dtype=_DTYPES[dtype]), load_manifest(exported)
    if request.run.threads is not None:  # else what loading chose for the model's size
        torch.set_num_threads(request.run.threads)
    depths = [*(request.layer_counts or default_layer_counts(live.layers)), live.layers]
    engines = {depth: cast("Engine", TorchEngine(live, manifest, depth)) for depth in depths}
    rules = structs.replace(request.rules, memory=False)
    return measure_engines(engines, replace(request, rules=rules), progress)
