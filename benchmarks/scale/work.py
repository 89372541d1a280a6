"""The floor of what runs: each linear map of torch at the machine's rates, whichever binds it.

Counted are products with weights alone; attention, norms and copies come for nothing, so the floor is low.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

from benchmarks.scale.rates import Rates


@dataclass
class Row:
    """One part of a stage. `floor_s`: of all its products and of what else was `add`ed."""

    name: str
    wall_s: float = 0.0
    floor_s: float = 0.0
    flops: dict[str, float] = field(default_factory=dict)

    def add_flops(self, count: float, per_second: float, kind: str) -> None:
        self.flops[kind] = self.flops.get(kind, 0.0) + count
        self.floor_s += count / per_second


@contextlib.contextmanager
def watched(name: str, rates: Rates, stored_bytes: int = 2) -> Iterator[Row]:
    """Times the block, and counts the linear maps in it. `stored_bytes`: of one weight in its file."""
    row = Row(name)

    def count(module: nn.Module, args: tuple[object, ...], _output: object) -> None:
        if not isinstance(module, nn.Linear) or torch.compiler.is_exporting():
            return  # what is traced has sizes without numbers
        entering = args[0]
        assert isinstance(entering, torch.Tensor)
        kind = str(module.weight.dtype).removeprefix("torch.")
        flops = 2 * entering.numel() * module.out_features
        row.flops[kind] = row.flops.get(kind, 0.0) + flops
        read = stored_bytes * module.weight.numel() / rates.cached_read
        # Half precision that the processor does not know is traced with, hardly computed with.
        row.floor_s += max(flops / rates.flops.get(kind, rates.flops["float32"]), read)

    handle = register_module_forward_hook(count)
    began = time.perf_counter()
    try:
        yield row
    finally:
        row.wall_s = time.perf_counter() - began
        handle.remove()
