"""Exported folders of both tiny families, written once per session."""

from __future__ import annotations

from pathlib import Path

import pytest

from topovlm.export.onnx import ExportReport, export_onnx


@pytest.fixture(scope="session")
def siglip_export(
    tiny_siglip_qwen2: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, ExportReport]:
    """(folder, report) of the SigLIP + Qwen2 checkpoint; read-only by convention."""
    folder = tmp_path_factory.mktemp("export") / "siglip-qwen2"
    return folder, export_onnx(tiny_siglip_qwen2, folder)


@pytest.fixture(scope="session")
def clip_export(tiny_clip_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ExportReport]:
    """(folder, report) of the CLIP + Llama checkpoint; read-only by convention."""
    folder = tmp_path_factory.mktemp("export") / "clip-llama"
    return folder, export_onnx(tiny_clip_llama, folder)
