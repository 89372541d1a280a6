"""Fixtures shared by the whole suite: tiny checkpoints, built once per session."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from topovlm.exporters.protocol import ExportRecord

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# The models are tiny: more threads would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")


# Files that take longest go first: two workers that take whole files then end together.
_LONGEST = (
    "families/test_matrix.py",
    "pipeline/test_deploy.py",
    "families/test_further.py",
    "towers/test_native.py",
    "checkpoint/test_live_families.py",
    "choose/test_judge_families.py",
    "exporters/test_onnx.py",
    "benchmarks/test_smollm2.py",
    "benchmarks/test_smol.py",
    "measure/test_device.py",
    "pipeline/test_device.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Stable: tests of a file stay together and in their order."""

    def rank(item: pytest.Item) -> int:
        path = item.path.as_posix()
        return next((place for place, end in enumerate(_LONGEST) if path.endswith(end)), len(_LONGEST))

    items.sort(key=rank)


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


@pytest.fixture(scope="session")
def siglip_export(
    tiny_siglip_qwen2: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, ExportRecord]:
    """(folder, report) of the SigLIP + Qwen2 checkpoint; read-only by convention."""
    from topovlm.exporters.onnx.export import export_onnx

    folder = tmp_path_factory.mktemp("export") / "siglip-qwen2"
    return folder, export_onnx(tiny_siglip_qwen2, folder)


@pytest.fixture(scope="session")
def clip_export(tiny_clip_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ExportRecord]:
    """(folder, report) of the CLIP + Llama checkpoint; read-only by convention."""
    from topovlm.exporters.onnx.export import export_onnx

    folder = tmp_path_factory.mktemp("export") / "clip-llama"
    return folder, export_onnx(tiny_clip_llama, folder)
