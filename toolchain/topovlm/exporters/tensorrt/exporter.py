"""TensorRT: engines for RTX cards where they can be built ahead of time, build bundles for every other board.

An engine only runs on the compute capability that it was built for. TensorRT-RTX builds for another GPU (and
without any GPU) for some capabilities; TensorRT proper, which a Jetson has, builds only on the device.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

from topovlm.artifacts import sha256_file, staged_folder, write_json
from topovlm.console import Progress
from topovlm.errors import InputError, VerificationError, explain
from topovlm.exporters.onnx.parity import parity_checks
from topovlm.exporters.protocol import Artifact, Dtype, ExportRecord, ExportRequest, Tool, listing
from topovlm.exporters.tensorrt import bundle, support
from topovlm.predict.target import ResolvedTarget
from topovlm.records import Part, plain
from topovlm.travel import build_engines

ENGINES = "engines"
_WHY_BUNDLE = (
    "TensorRT builds an engine only on a GPU of the capability that will run it ({capability}), "
    "with the board's own TensorRT: build it there"
)
_TITLES = {"engine": "TensorRT engines", "bundle": "TensorRT build bundle"}
_NOT_RUN = {
    "engine": "the TensorRT engines were built here and not run: the checks are of the graphs behind them",
    "bundle": "the TensorRT engines are built on the board: the checks are of the graphs behind them",
}


class EngineFile(Part, frozen=True, kw_only=True):
    """A built engine file, as engines.json lists it."""

    graph: str
    file: str
    compute_capability: str
    tensorrt: str
    size_bytes: int
    sha256: str
    onnx_sha256: str


class TensorRTExporter:
    """Engines for an RTX card, a build bundle for any other board; each in a folder named by the target."""

    name = "tensorrt"
    dtypes: tuple[Dtype, ...] = ("fp16",)
    tools: tuple[Tool, ...] = (support.RTX, support.TENSORRT)

    def check(self, request: ExportRequest) -> None:
        """Raises what `support.check_target` raises, and `InputError` without a target."""
        support.check_target(_target(request))

    def export(self, request: ExportRequest, out_dir: Path, progress: Progress) -> ExportRecord:
        """Typed fp16 graphs (gate passed against torch on this machine), then engines or a build bundle."""
        target = _target(request)
        support.check_target(target)
        capability = support.capability_of(target)
        with staged_folder(out_dir) as staged:
            folder = staged / target.key
            folder.mkdir()
            parity = bundle.write_fp16_graphs(request, folder)
            shapes = bundle.write_shapes(folder, request, target)
            if support.is_rtx(target):
                kind, reason = "engine", _write_engines(folder, shapes, capability)
            else:
                kind, reason = "bundle", _WHY_BUNDLE.format(capability=capability)
                bundle.write_bundle(folder, shapes, target, parity, reason)
            return ExportRecord(
                exporter=self.name,
                model=request.model,
                dtype=bundle.DTYPE,
                variants=("plain",),
                files=listing(staged),
                parity=parity,
                artifacts=(
                    Artifact(
                        path=".",
                        format=f"tensorrt-{kind}",
                        title=_TITLES[kind],
                        loads_in=("TensorRT",),
                        checked=False,
                    ),
                ),
                checks=parity_checks(parity, "fp16 (TensorRT's)"),
                limits=(_NOT_RUN[kind], *_other_precision(request)),
                facts={
                    "kind": kind,
                    "folder": target.key,
                    "compute_capability": capability,
                    "reason": reason,
                },
            )


def _target(request: ExportRequest) -> ResolvedTarget:
    if request.target is None:
        rule = "is missing: TensorRT builds for one board"
        raise InputError(explain("--target", None, rule, "Name a board (`topovlm targets` lists them)"))
    return request.target


def _other_precision(request: ExportRequest) -> tuple[str, ...]:
    if request.dtype == bundle.DTYPE:
        return ()
    return (f"TensorRT gets graphs in {bundle.DTYPE}; the other graphs of this run are {request.dtype}",)


def _write_engines(folder: Path, shapes: bundle.Shapes, capability: str) -> str:
    """The three engines and engines.json; returns why they could be built here."""
    trt = support.import_rtx()
    (folder / ENGINES).mkdir()
    engines = [_build(trt, folder, name, graph, capability) for name, graph in shapes.graphs.items()]
    write_json(folder / ENGINES / "engines.json", plain(engines))
    return f"TensorRT-RTX {trt.__version__} builds ahead of time for compute capability {capability}"


def _build(trt: ModuleType, folder: Path, name: str, graph: bundle.BuildGraph, capability: str) -> EngineFile:
    board_code: Any = build_engines  # Python 3.8 for the board, without annotations
    facts = plain(graph)
    try:
        data: bytes = board_code.build_engine(
            trt, folder / graph.file, facts["profiles"], capability=capability
        )
    except build_engines.BuildError as error:
        raise VerificationError(explain("TensorRT graph", graph.file, str(error))) from None
    version = f"rtx-{trt.__version__}"
    file: str = board_code.engine_name(name, facts, capability, f"-{version}", "none")
    path = folder / ENGINES / file
    path.write_bytes(data)
    return EngineFile(
        graph=name,
        file=file,
        compute_capability=capability,
        tensorrt=version,
        size_bytes=len(data),
        sha256=sha256_file(path),
        onnx_sha256=graph.sha256,
    )
