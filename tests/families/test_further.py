"""The matrix' longest checks, on one family of each kind; `benchmarks.families` makes them on all.

A file of its own: each worker takes whole files.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.family_checks import CHECKS, build

FURTHER = ("half", "deploy")


@pytest.mark.parametrize("name", ["smollm3", "llava_next", "qwen3_vl", "smolvlm", "gemma3"])
def test_one_of_each_kind_is_deployed(name: str, tmp_path: Path) -> None:
    """`topovlm deploy --sparsity 25%` to a report."""
    assert CHECKS["deploy"](build(name, tmp_path))


@pytest.mark.parametrize("name", ["llava_next", "qwen3_vl"])
def test_one_of_each_kind_in_half_precision(name: str, tmp_path: Path) -> None:
    """The same gate on fp16 graphs; all families: `benchmarks.families`."""
    assert CHECKS["half"](build(name, tmp_path))
