"""TensorRT: engines for RTX cards where they can be built ahead of time, build bundles for every other board.

An engine only runs on the compute capability that it was built for. TensorRT-RTX builds for another GPU (and
without any GPU) for some capabilities; TensorRT proper, which a Jetson has, builds only on the device.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from topovlm.artifacts import sha256_file, staged_folder, write_json, write_text
from topovlm.errors import InputError, MissingToolError, VerificationError, explain
from topovlm.exporters.onnx.layouts import PARTS, graph_path, load_manifest
from topovlm.exporters.onnx.parity import TOLERANCES
from topovlm.exporters.tensorrt.shapes import WorkloadLike, shape_profiles, trtexec_arguments
from topovlm.travel import build_engines

if TYPE_CHECKING:
    from types import ModuleType

    from topovlm.exporters.onnx.export import ExportReport
    from topovlm.predict.target import ResolvedTarget

RTX_EXTRA = 'pip install "topovlm[tensorrt-rtx]"'
ENGINES, SHAPES = "engines", "shapes.json"


@dataclass(frozen=True)
class Engine:
    """A built engine file."""

    graph: str
    file: str
    compute_capability: str
    tensorrt: str
    size_bytes: int
    sha256: str
    onnx_sha256: str


@dataclass(frozen=True)
class TensorRTReport:
    """What lies in the folder. `kind`: engine | bundle; `reason`: why it is this kind."""

    kind: str
    folder: str
    target: str
    compute_capability: str
    reason: str
    workload: dict[str, Any]
    parity: tuple[dict[str, Any], ...]
    engines: tuple[Engine, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


def deploy_tensorrt(
    model_dir: str | Path, out_dir: str | Path, target: ResolvedTarget, workload: WorkloadLike
) -> TensorRTReport:
    """Engines for an RTX card, a build bundle for any other board."""
    if target.board.family == "rtx":
        return build_rtx_engine(model_dir, out_dir, target, workload)
    return write_build_bundle(model_dir, out_dir, target, workload)


def check_target(target: ResolvedTarget) -> None:
    """Refuse early, before any export, what `deploy_tensorrt` would refuse for this target."""
    capability = _capability(target)
    if target.board.family != "rtx":
        _check_software(target)
    elif capability not in (known := rtx_capabilities(import_rtx())):
        rule = f"TensorRT-RTX cannot build for compute capability {capability}"
        raise InputError(explain("--target", target.board.id, rule, f"It can for {', '.join(known)}"))


def write_build_bundle(
    model_dir: str | Path, out_dir: str | Path, target: ResolvedTarget, workload: WorkloadLike
) -> TensorRTReport:
    """Write all that the board needs to build its own engines; the folder appears whole.

    Typed fp16 graphs (gate passed against torch on this machine), shapes.json, build_engines.py, build.sh,
    README.md. Raises `InputError` for a target without a GPU or without TensorRT 10.
    """
    capability, out = _capability(target), Path(out_dir)
    _check_software(target)
    with staged_folder(out) as staged:
        export = _export_half(Path(model_dir), staged)
        shapes = _write_shapes(staged, target, workload)
        shutil.copyfile(build_engines.__file__, staged / "build_engines.py")
        write_text(staged / "build.sh", _build_script(shapes))
        (staged / "build.sh").chmod(0o755)
        reason = (
            f"TensorRT builds an engine only on a GPU of the capability that will run it ({capability}), "
            "with the board's own TensorRT: build it there"
        )
        write_text(staged / "README.md", _readme(target, reason, export, shapes))
    return _report("bundle", out, target, workload, reason=reason, export=export)


def build_rtx_engine(
    model_dir: str | Path, out_dir: str | Path, target: ResolvedTarget, workload: WorkloadLike
) -> TensorRTReport:
    """Build the three engines for an RTX card here; no GPU is needed. The folder appears whole.

    Raises `MissingToolError` without TensorRT-RTX, `InputError` for a capability that it cannot build for.
    """
    check_target(target)
    capability, trt, out = _capability(target), import_rtx(), Path(out_dir)
    with staged_folder(out) as staged:
        export = _export_half(Path(model_dir), staged)
        shapes = _write_shapes(staged, target, workload)
        (staged / ENGINES).mkdir()
        engines = [_build(trt, staged, name, graph, capability) for name, graph in shapes["graphs"].items()]
        write_json(staged / ENGINES / "engines.json", [asdict(engine) for engine in engines])
    reason = f"TensorRT-RTX {trt.__version__} builds ahead of time for compute capability {capability}"
    report = _report("engine", out, target, workload, reason=reason, export=export)
    return TensorRTReport(**{**vars(report), "engines": tuple(engines)})


def import_rtx() -> ModuleType:
    """The TensorRT-RTX bindings. Raises `MissingToolError` naming the extra."""
    try:
        return build_engines.import_tensorrt(("tensorrt_rtx",))
    except build_engines.BuildError:
        rule = "TensorRT-RTX is not installed: an engine for an RTX card cannot be built"
        raise MissingToolError(explain("--format", "tensorrt", rule, f"Install it: {RTX_EXTRA}")) from None


def rtx_capabilities(trt: ModuleType) -> list[str]:
    """Compute capabilities that these bindings build for ahead of time: `["7.5", "8.0", ...]`."""
    names = [name[2:] for name in trt.ComputeCapability.__members__ if name.startswith("SM")]
    return sorted((f"{name[:-1]}.{name[-1]}" for name in names), key=float)


def _build(trt: ModuleType, folder: Path, name: str, graph: dict[str, Any], capability: str) -> Engine:
    onnx_file = folder / graph["file"]
    try:
        data = build_engines.build_engine(trt, onnx_file, graph["profiles"], capability=capability)
    except build_engines.BuildError as error:
        raise VerificationError(str(error)) from None
    file = build_engines.engine_name(name, graph, capability, f"-rtx-{trt.__version__}", "none")
    path = folder / ENGINES / file
    path.write_bytes(data)
    return Engine(
        name, file, capability, f"rtx-{trt.__version__}", len(data), sha256_file(path), graph["sha256"]
    )


def _export_half(model_dir: Path, out: Path) -> ExportReport:
    """fp16 graphs, plain: fused operators and MatMulNBits are not for TensorRT."""
    from topovlm.exporters.onnx.export import export_into

    return export_into(model_dir, out, variants=("plain",), dtype="fp16")


def _write_shapes(folder: Path, target: ResolvedTarget, workload: WorkloadLike) -> dict[str, Any]:
    profiles = shape_profiles(load_manifest(folder), workload)
    graphs = {}
    for part, name in PARTS.items():
        graph: dict[str, Any] = {"file": graph_path(part, dtype="fp16")}
        graph["sha256"] = build_engines.file_digest(build_engines.graph_files(folder, graph))
        graphs[name] = {**graph, "profiles": profiles[name]}
    facts = {"name": target.board.name, "key": target.key, "compute_capability": _capability(target)}
    shapes = {"schema": 1, "target": facts, "workload": _facts(workload), "graphs": graphs}
    write_json(folder / SHAPES, shapes)
    return shapes


def _facts(workload: WorkloadLike) -> dict[str, Any]:
    return {name: getattr(workload, name) for name in ("images", "prompt_tokens", "new_tokens", "batch")}


def _report(
    kind: str,
    out: Path,
    target: ResolvedTarget,
    workload: WorkloadLike,
    *,
    reason: str,
    export: ExportReport,
) -> TensorRTReport:
    return TensorRTReport(
        kind=kind,
        folder=str(out),
        target=target.key,
        compute_capability=_capability(target),
        reason=reason,
        workload=_facts(workload),
        parity=tuple(asdict(row) for row in export.parity),
    )


def _capability(target: ResolvedTarget) -> str:
    capability = target.board.match.compute_capability
    if not capability:
        rule = "has no known NVIDIA compute capability: TensorRT needs one"
        raise InputError(explain("--target", target.board.id, rule, "Leave tensorrt out of --format"))
    return capability


def _check_software(target: ResolvedTarget) -> None:
    """A board whose every known release brings an older TensorRT cannot build these graphs."""
    known = [release.tensorrt for release in target.board.software if release.tensorrt[:1].isdigit()]
    majors = [_major(version) for version in known]
    if majors and max(majors) < build_engines.LEAST_TENSORRT:
        rule = (
            f"its newest TensorRT is {max(known)}; typed graphs need {build_engines.LEAST_TENSORRT} or later"
        )
        raise InputError(explain("--target", target.board.id, rule, "Leave tensorrt out of --format"))


def _major(version: str) -> int:
    return int(version.split(".", maxsplit=1)[0])


def _build_script(shapes: dict[str, Any]) -> str:
    lines = [
        "#!/bin/sh",
        "# Builds the engines on the board. With TensorRT's Python bindings: build_engines.py, which checks",
        "# the device, the version and the memory too. `./build.sh trtexec` uses trtexec (same shapes).",
        "set -eu",
        'cd "$(dirname "$0")"',
        'if [ "${1:-}" != trtexec ]; then exec python3 build_engines.py "$@"; fi',
        "TRTEXEC=$(command -v trtexec || echo /usr/src/tensorrt/bin/trtexec)",
        "mkdir -p engines",
    ]
    for name, graph in shapes["graphs"].items():
        arguments = [
            f"--onnx={graph['file']}",
            "--stronglyTyped",
            *trtexec_arguments(graph["profiles"]),
            f"--saveEngine=engines/{name}.engine",
        ]
        lines.append('"$TRTEXEC" \\\n  ' + " \\\n  ".join(arguments))
    return "\n".join(lines) + "\n"


def _readme(target: ResolvedTarget, reason: str, export: ExportReport, shapes: dict[str, Any]) -> str:
    worst = max(row.max_logit_error / row.max_logit for row in export.parity)
    releases = [r for r in target.board.software if r.tensorrt[:1].isdigit()]
    software = "\n".join(
        f"- JetPack {r.jetpack}, L4T {r.l4t}: TensorRT {r.tensorrt}, Python {r.python}"
        + ("" if _major(r.tensorrt) >= build_engines.LEAST_TENSORRT else ": **too old for these graphs**")
        for r in releases
    )
    return f"""# TensorRT build bundle for {target.board.name}

**Why it is not built here.** {reason}.

On the board:

    ./build.sh                 # or: python3 build_engines.py
    ./build.sh trtexec         # the same with trtexec

It checks the compute capability, the TensorRT version ({build_engines.LEAST_TENSORRT} or later) and the free
memory, and names each engine after the capability, TensorRT, L4T and the graph it came from. Needs Python 3.8
or later and TensorRT's own bindings, nothing else. Close other programs first: a build may take
{build_engines.BUILD_COPIES} times the size of the weights.

Known software of this board:

{software or "- (none listed)"}

## What is here

- `onnx/`: standard ONNX, operator set 18, types fixed in the graph (fp16; the decoder's norms in fp32). Build
  strongly typed; there is no fp16 flag to set.
- `shapes.json`: the shapes the engines are built for. Edit and build again for others.
- tokenizer, processor and prompt files, as in any exported folder.

Workload: {json.dumps(shapes["workload"])}.

**Accuracy** (measured on CPU with ONNX Runtime, not on the board): largest logit error against torch in fp32
{worst:.2e} of the largest logit; allowed {TOLERANCES["float16"]:g}.
"""
