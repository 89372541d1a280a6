"""Exporters by name: ours here, others through the entry-point group `topovlm.exporters`."""

from __future__ import annotations

from collections.abc import Sequence

from topovlm.errors import InputError, explain
from topovlm.exporters.protocol import Exporter
from topovlm.registry import Registry

# The exporter whose folder topovlm itself runs: latency and accuracy are measured with it.
MEASURED = "onnx"


def _onnx() -> Exporter:
    from topovlm.exporters.onnx.exporter import OnnxExporter

    return OnnxExporter()


def _tensorrt() -> Exporter:
    from topovlm.exporters.tensorrt.exporter import TensorRTExporter

    return TensorRTExporter()


# An exporter's name is a stage and a folder of the run directory: those that are there already are not free.
_STAGES = ("export-dense", "profile", "plan", "score", "select", "prune", "export", "measure")
_LATER = ("evaluate-dense", "evaluate-slim", "bench-dense", "bench-slim", "report", "run")
_FOLDERS = ("baseline", "model", "logs")
EXPORTERS: Registry[Exporter] = Registry(
    "topovlm.exporters",
    {MEASURED: _onnx, "tensorrt": _tensorrt},
    needs=("name", "dtypes", "tools", "check", "export"),
    reserved=(*_STAGES, *_LATER, *_FOLDERS),
)


def choose(names: Sequence[str], field: str) -> tuple[str, ...]:
    """The names, each once, the measured one first.

    Raises `InputError` naming `field` for an unknown name, and without the measured one.
    """
    chosen = {name: EXPORTERS.find(name, field) for name in names}
    text = ",".join(names)
    if MEASURED not in chosen:
        rule = f"must contain {MEASURED}: the run is measured with it"
        raise InputError(explain(field, text, rule, f"Give {','.join([MEASURED, *chosen])}"))
    return tuple(dict.fromkeys((MEASURED, *chosen)))
