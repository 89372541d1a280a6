"""How fast this machine multiplies, reads and writes: what no stage can be faster than."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryFile

import numpy as np
import torch

from topovlm.machine.host import usable_cores

_ROWS, _WIDE, _NARROW = 1752, 14336, 4096  # one sample of LLaVA-NeXT through an MLP of Llama-3-8B
_SQUARE = 4096
_PIECE = 256 << 20
_ROUNDS = 3


@dataclass(frozen=True)
class Rates:
    """`flops`: floating-point operations per second by torch's name of a type, of one matrix product;
    `factor_flops`: of a Cholesky factorisation in float64. Bytes per second: `disk_read` of a file that is
    not cached, `cached_read` of one that is, `disk_write` up to the disk."""

    flops: dict[str, float]
    factor_flops: float
    disk_read: float
    cached_read: float
    disk_write: float

    def save(self, file: Path) -> None:
        file.write_text(json.dumps(asdict(self), indent=1))

    @classmethod
    def load(cls, file: Path) -> Rates:
        return cls(**json.loads(file.read_text()))


def measure(file: Path) -> Rates:
    """Medians of a few rounds; `file`: one of the checkpoint's, of at least a quarter of a gigabyte."""
    torch.set_num_threads(usable_cores())
    kinds = (torch.bfloat16, torch.float32, torch.float64)
    return Rates(
        flops={str(kind).removeprefix("torch."): _products(kind) for kind in kinds},
        factor_flops=_factorisation(),
        disk_read=_read(file, cached=False),
        cached_read=_read(file, cached=True),
        disk_write=_write(file.parent),
    )


def forget_cached(file: Path) -> None:
    """Ask the kernel to drop a file's pages (Linux): the next one who reads it goes to the disk."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def _products(kind: torch.dtype) -> float:
    left, right = torch.randn(_ROWS, _NARROW).to(kind), torch.randn(_WIDE, _NARROW).to(kind)
    return 2 * _ROWS * _WIDE * _NARROW / _seconds(lambda: torch.nn.functional.linear(left, right))


def _factorisation() -> float:
    values = torch.randn(_SQUARE, _SQUARE, dtype=torch.float64)
    positive = values @ values.T + _SQUARE * torch.eye(_SQUARE, dtype=torch.float64)
    return _SQUARE**3 / 3 / _seconds(lambda: torch.linalg.cholesky(positive))


def _read(file: Path, *, cached: bool) -> float:
    """Through a mapping, as weights are read."""
    taken, target = [], np.empty(_PIECE, dtype=np.uint8)
    with file.open("rb") as opened:
        opened.read(_PIECE)
        for _ in range(_ROUNDS):
            if not cached:
                forget_cached(file)
            began = time.perf_counter()
            np.copyto(target, np.memmap(opened, dtype=np.uint8, mode="r", shape=_PIECE))
            taken.append(time.perf_counter() - began)
    return _PIECE / median(taken)


def _write(folder: Path) -> float:
    piece, taken = os.urandom(_PIECE), []
    for _ in range(_ROUNDS):
        with TemporaryFile(dir=folder) as file:
            began = time.perf_counter()
            file.write(piece)
            file.flush()
            os.fsync(file.fileno())
            taken.append(time.perf_counter() - began)
    return _PIECE / median(taken)


def _seconds(run: object) -> float:
    assert callable(run)
    run()
    taken = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        run()
        taken.append(time.perf_counter() - began)
    return median(taken)
