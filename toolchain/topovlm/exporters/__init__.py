"""Exporters by name: ours here, others through the entry-point group `topovlm.exporters`."""

from __future__ import annotations

from collections.abc import Sequence
from graphlib import TopologicalSorter

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


EXPORTERS: Registry[Exporter] = Registry("topovlm.exporters", {MEASURED: _onnx, "tensorrt": _tensorrt})


def choose(names: Sequence[str], field: str) -> tuple[str, ...]:
    """The names, each once, every exporter behind those that it builds on.

    Raises `InputError` naming `field` for an unknown name, and for one that is needed and not among them.
    """
    chosen = {name: EXPORTERS.find(name, field) for name in names}
    text = ",".join(names)
    if MEASURED not in chosen:
        rule = f"must contain {MEASURED}: the run is measured with it"
        raise InputError(explain(field, text, rule, f"Give {','.join([MEASURED, *chosen])}"))
    for name, exporter in chosen.items():
        for base in exporter.builds_on:
            if base not in chosen:
                raise InputError(explain(field, text, f"must contain {base}: {name} is built from it"))
    order = TopologicalSorter({name: exporter.builds_on for name, exporter in chosen.items()})
    return tuple(order.static_order())
