"""What a TensorRT folder holds besides engines: typed fp16 graphs, shapes.json, and what the board runs."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from topovlm.artifacts import write_json, write_text
from topovlm.exporters.onnx.layouts import PARTS, graph_path
from topovlm.exporters.onnx.parity import TOLERANCES
from topovlm.exporters.protocol import ExportRequest, ParityResult
from topovlm.exporters.tensorrt.shapes import RangeSet, shape_ranges, trtexec_arguments
from topovlm.exporters.tensorrt.support import capability_of, major
from topovlm.predict.target import ResolvedTarget
from topovlm.records import Part, plain
from topovlm.travel import build_engines, limits

SHAPES, DTYPE = "shapes.json", "fp16"


class BuildTarget(Part, frozen=True, kw_only=True):
    """The board that engines are for."""

    name: str
    key: str
    compute_capability: str


class RangeWorkload(Part, frozen=True, kw_only=True):
    """The workload that the ranges were made from."""

    images: int
    video_frames: int = 0
    prompt_tokens: int
    new_tokens: int
    batch: int


class BuildGraph(Part, frozen=True, kw_only=True, rename={"ranges": "profiles"}):
    """One graph to build: file, sha256 over it and its data file, ranges (`profiles` to the board's code)."""

    file: str
    sha256: str
    ranges: tuple[RangeSet, ...]


class Shapes(Part, frozen=True, kw_only=True):
    """shapes.json, which `travel/build_engines.py` reads on the board."""

    schema: int = 1
    target: BuildTarget
    workload: RangeWorkload
    graphs: dict[str, BuildGraph]


def write_fp16_graphs(request: ExportRequest, out: Path) -> tuple[ParityResult, ...]:
    """fp16 graphs, plain: fused operators and MatMulNBits are not for TensorRT. Behind the numeric gate.

    They keep the last row of logits: to TensorRT an input with a value is a constant.
    """
    from topovlm.exporters.onnx.export import write_folder

    parity, _ = write_folder(
        request.model_dir, out, ("plain",), DTYPE, model=request.live, processor=request.processor, kept=1
    )
    return parity


def write_shapes(folder: Path, request: ExportRequest, target: ResolvedTarget) -> Shapes:
    """shapes.json for the graphs that lie in `folder`."""
    board_code: Any = build_engines  # Python 3.8 for the board, without annotations
    ranges = shape_ranges(folder, request.workload)
    graphs = {}
    for part, name in PARTS.items():
        if name not in ranges:
            continue  # a model without pictures
        file = graph_path(part, dtype=DTYPE)
        digest: str = board_code.file_digest(board_code.graph_files(folder, {"file": file}))
        graphs[name] = BuildGraph(file=file, sha256=digest, ranges=ranges[name])
    asked = request.workload
    shapes = Shapes(
        target=BuildTarget(name=target.board.name, key=target.key, compute_capability=capability_of(target)),
        workload=RangeWorkload(
            images=asked.images,
            video_frames=asked.video_frames,
            prompt_tokens=asked.prompt_tokens,
            new_tokens=asked.new_tokens,
            batch=asked.batch,
        ),
        graphs=graphs,
    )
    write_json(folder / SHAPES, plain(shapes))
    return shapes


def write_bundle(
    folder: Path, shapes: Shapes, target: ResolvedTarget, parity: tuple[ParityResult, ...], reason: str
) -> None:
    """Two scripts, build.sh and README.md: all that the board needs to build its own engines."""
    for part in (build_engines, limits):
        shutil.copyfile(str(part.__file__), folder / Path(str(part.__file__)).name)
    write_text(folder / "build.sh", _build_script(shapes))
    (folder / "build.sh").chmod(0o755)
    write_text(folder / "README.md", _readme(target, reason, parity, shapes))


def _build_script(shapes: Shapes) -> str:
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
    for name, graph in shapes.graphs.items():
        arguments = [
            f"--onnx={graph.file}",
            "--stronglyTyped",
            *trtexec_arguments(graph.ranges),
            f"--saveEngine=engines/{name}.engine",
        ]
        lines.append('"$TRTEXEC" \\\n  ' + " \\\n  ".join(arguments))
    return "\n".join(lines) + "\n"


def _readme(target: ResolvedTarget, reason: str, parity: tuple[ParityResult, ...], shapes: Shapes) -> str:
    worst = max(row.max_logit_error / row.max_logit for row in parity)
    releases = [r for r in target.board.software if r.tensorrt[:1].isdigit()]
    software = "\n".join(
        f"- JetPack {r.jetpack}, L4T {r.l4t}: TensorRT {r.tensorrt}, Python {r.python}"
        + ("" if major(r.tensorrt) >= build_engines.LEAST_TENSORRT else ": **too old for these graphs**")
        for r in releases
    )
    asked = shapes.workload
    pictures = f"{asked.video_frames} frames" if asked.video_frames else f"{asked.images} pictures"
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

Workload: {pictures}, {asked.prompt_tokens} prompt tokens, {asked.new_tokens} new tokens, batch
{asked.batch}.

**Accuracy** (measured on CPU with ONNX Runtime, not on the board): largest logit error against torch in fp32
{worst:.2e} of the largest logit; allowed {TOLERANCES["float16"]:g}.
"""
