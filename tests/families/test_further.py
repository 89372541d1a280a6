"""The matrix' longest checks, on one family of each kind; `benchmarks.families` makes them on all.

A file of its own: each worker takes whole files.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.family_checks import CHECKS, build

FURTHER = ("half", "deploy")


@pytest.mark.parametrize("name", ["smollm3", "llava_next", "qwen3_vl", "smolvlm", "gemma3"])
@pytest.mark.parametrize("check", FURTHER)
def test_one_of_each_kind_goes_further(name: str, check: str, tmp_path: Path) -> None:
    """In half precision, and `topovlm deploy --sparsity 25%` to a report."""
    assert CHECKS[check](build(name, tmp_path))
