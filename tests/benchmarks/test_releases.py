"""Checkpoints of ours in other releases of transformers.

Set TOPOVLM_RELEASES to interpreters that have one, e.g. those that `python -m benchmarks.releases --make DIR`
makes: DIR/4.57/bin/python:DIR/5.5/bin/python
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from benchmarks import releases

from tests import tiny_families

PYTHONS = [path for path in os.environ.get("TOPOVLM_RELEASES", "").split(os.pathsep) if path]
without = pytest.mark.skipif(not PYTHONS, reason="TOPOVLM_RELEASES names no other release of transformers")


@without
def test_the_reference_and_its_slim_models_in_other_releases(tmp_path: Path) -> None:
    """36 questions each, through the checkpoint's own processor."""
    rows = releases.compare(PYTHONS, releases.reference_checkpoints(tmp_path, 36), tmp_path)
    assert len(rows) == 2 * (1 + len(PYTHONS))
    assert [str(row) for row in rows if not row.right] == []


@without
def test_every_family_in_other_releases(tmp_path: Path) -> None:
    """Dense and slim, or the newer release that they need is stated (and really needed)."""
    request = releases.family_checkpoints(tmp_path, tiny_families.STOCK, 3)
    rows = releases.compare(PYTHONS, request, tmp_path)
    assert [str(row) for row in rows if not row.as_stated] == []


def test_the_comparison_sees_a_tower_that_was_not_found(tmp_path: Path) -> None:
    """A checkpoint whose tower bears names that no release reads is told apart from a right one."""
    from safetensors.torch import load_file, save_file

    request = releases.family_checkpoints(tmp_path, ["llava-clip-llama"], 2)[:1]
    good = releases.compare([sys.executable], request, tmp_path)
    assert [row.right for row in good] == [True, True]
    file = Path(request[0]["folder"]) / "model.safetensors"
    tensors = {name.replace("vision_model.", "lost."): value for name, value in load_file(file).items()}
    save_file(tensors, file, {"format": "pt"})
    (bad,) = releases.compare([], request, tmp_path)
    assert bad.missing
    assert not bad.right


def test_stated_needs_name_families() -> None:
    """The data names families of the suite, each with a release and a reason."""
    assert set(releases.NEEDS) <= set(tiny_families.NAMES)
    assert all(need["right_from"] and need["why"] for need in releases.NEEDS.values())
