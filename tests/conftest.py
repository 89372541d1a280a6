"""Fixtures shared by the whole suite: tiny checkpoints, built once per session."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# The models are tiny: more threads would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def tiny_siglip_qwen2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A 6-layer SigLIP + Qwen2 LLaVA checkpoint; read-only by convention (copy it to change it)."""
    from tests import tiny

    return tiny.build(tmp_path_factory.mktemp("tiny") / "siglip-qwen2", "siglip-qwen2")


@pytest.fixture(scope="session")
def tiny_clip_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A 6-layer CLIP + Llama LLaVA checkpoint; read-only by convention (copy it to change it)."""
    from tests import tiny

    return tiny.build(tmp_path_factory.mktemp("tiny") / "clip-llama", "clip-llama")
