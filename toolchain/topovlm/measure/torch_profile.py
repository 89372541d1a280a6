"""This machine's profile with the checkpoint on torch, where exported graphs cannot run on its GPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from topovlm.measure.probe import default_layer_counts, measure_engines

if TYPE_CHECKING:
    from topovlm.measure.timing import TimingRules
    from topovlm.runtime.engine import Engine

_DTYPES = {"fp32": "float32", "fp16": "float16"}


def measure_torch(
    checkpoint: Path,
    exported: Path,
    dtype: str,
    rules: TimingRules,
    workload: dict[str, Any],
    *,
    threads: int | None = None,
) -> dict[str, Any]:
    """Profile from the checkpoint; `exported` gives its prompts and pictures, `workload` what to time.

    `dtype` auto: half precision on a GPU, else fp32. Memory is not measured. `workload`: the arguments of
    `probe.measure_engines` beside engines and rules.
    """
    import torch

    from topovlm.checkpoint.live import load
    from topovlm.measure.torch_engine import TorchEngine
    from topovlm.runtime.manifest import load_manifest

    if dtype == "auto":
        dtype = "fp16" if torch.cuda.is_available() else "fp32"
    live, manifest = load(checkpoint, dtype=_DTYPES[dtype]), load_manifest(exported)
    if threads is not None:  # else what loading chose for the model's size
        torch.set_num_threads(threads)
    depths = [*default_layer_counts(live.layers), live.layers]
    engines = {depth: cast("Engine", TorchEngine(live, manifest, depth)) for depth in depths}
    return measure_engines(engines, rules=replace(rules, memory=False), **workload)
