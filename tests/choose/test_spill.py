"""Streams beyond a bound lie in files without names, with the same numbers."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
import torch

from tests import tiny
from topovlm.checkpoint.live import load
from topovlm.choose.repair.front import Front, entering
from topovlm.choose.repair.patch import Cut
from topovlm.choose.rollouts import roll_out
from topovlm.choose.spill import Spill


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_does_not_fit_comes_back_from_a_file(dtype: torch.dtype, tmp_path: Path) -> None:
    """Up to the bound tensors stay what they are; room that was given back is used again."""
    keep = Spill(2 * 4096 * dtype.itemsize)
    made = [torch.randn(4, 1024).to(dtype) for _ in range(4)]
    expected = [tensor.clone() for tensor in made]
    kept = [keep(tensor) for tensor in made]
    assert [one is other for one, other in zip(kept, made, strict=True)] == [True, True, False, False]
    assert all(torch.equal(one, other) for one, other in zip(kept, expected, strict=True))
    del kept[0], made[0]
    gc.collect()
    again = torch.ones(4, 1024).to(dtype)
    assert keep(again) is again
    assert keep(torch.empty(0)).numel() == 0


def test_files_have_no_name_and_go_with_the_tensor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left however the process ends."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    kept = Spill(0)(torch.arange(4096.0))
    assert list(tmp_path.iterdir()) == []
    assert kept.sum() == 4095 * 4096 / 2


def test_a_repair_from_files_is_the_repair_from_memory(tmp_path: Path) -> None:
    """The sums that repairs are fitted to are bit-equal."""
    live = load(tiny.build(tmp_path / "model"))
    batches = entering(live, roll_out(live, tiny.samples(6), max_new_tokens=3, batch_size=2))
    found = []
    for stream_bytes in (1 << 30, 0):
        front = Front(live, [[2, 3]], batches, stream_bytes=stream_bytes)
        front.advance(1)
        found.append(front.gather(0, Cut(1, 2, 3)))
    assert torch.equal(found[0].inner, found[1].inner)
    assert torch.equal(found[0].cross, found[1].cross)
