"""The ONNX exporter: what topovlm itself runs, and what the other formats are built from."""

from __future__ import annotations

from pathlib import Path

from topovlm.console import Progress
from topovlm.exporters.onnx.export import DTYPES, check_arguments, export_onnx
from topovlm.exporters.onnx.readiness import check_checkpoint
from topovlm.exporters.protocol import Dtype, ExportRecord, ExportRequest, Tool


class OnnxExporter:
    """Graphs for ONNX Runtime and transformers.js, each compared with torch (docs/export.md)."""

    name = "onnx"
    dtypes: tuple[Dtype, ...] = DTYPES
    tools: tuple[Tool, ...] = ()

    def check(self, request: ExportRequest) -> None:
        """Raises `InputError` for what is not written, and for a checkpoint that the runtime would refuse."""
        check_arguments(request.variants, request.dtype)
        check_checkpoint(request.model_dir, request.processor)

    def export(self, request: ExportRequest, out_dir: Path, progress: Progress) -> ExportRecord:
        """`export_onnx` of the request."""
        return export_onnx(
            request.model_dir,
            out_dir,
            variants=request.variants,
            dtype=request.dtype,
            model=request.live,
            processor=request.processor,
            which=request.model,
        )
