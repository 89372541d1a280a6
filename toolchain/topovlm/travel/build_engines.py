"""Build TensorRT engines from the typed ONNX graphs beside this file, on the machine that will run them.

    python3 build_engines.py [--graph NAME] [--any-device] [--ignore-memory] [--force]

Needs Python >= 3.8 and TensorRT's own Python bindings (JetPack brings them), TensorRT 10 or later. The
graphs are typed (fp16, with fp32 where it matters) and built strongly typed: no precision flag is
set, because TensorRT 11 has none and would ignore it in silence. `shapes.json` beside this file says which
shapes the engines are for; edit it and build again for others.

An engine is only good for the compute capability, TensorRT version and L4T release that built it: all three
and the graph's hash are in its file name, and an engine that is already there is not built again.

Exit codes: 0 done, 2 bad input, 5 missing tool or wrong device, 6 a graph was refused or failed to build.
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import importlib
import json
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

try:
    from .limits import memory_limits
except ImportError:  # alone on a board, with limits.py beside it
    from limits import memory_limits  # type: ignore[no-redef]

LEAST_TENSORRT = 10
# Builders hold the weights several times over: users report three to four times the parameters.
BUILD_COPIES = 4
BUILDER_FLOOR_BYTES = 1 << 30
# Python packages with bindings, and the least version of those that have one.
BINDINGS = (f"tensorrt>={LEAST_TENSORRT}", "tensorrt_rtx")


class BuildError(Exception):
    """`code` is the exit code, the text is for a person."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Built(NamedTuple):
    """One row of engines/engines.json."""

    graph: str
    file: str
    compute_capability: str | None
    tensorrt: str
    l4t: str
    onnx_sha256: str
    size_bytes: int


def import_tensorrt(bindings: Sequence[str] = BINDINGS) -> Any:
    """The first of the bindings that imports; checks its version. Raises BuildError (5)."""
    names = []
    for binding in bindings:
        name, _, least = binding.partition(">=")
        names.append(name)
        try:
            module: Any = importlib.import_module(name)
        except ImportError:
            continue
        if int(module.__version__.split(".")[0]) < int(least or 0):
            text = "TensorRT {} is too old: these graphs need {} or later (JetPack 6.1 or later)"
            raise BuildError(5, text.format(module.__version__, least))
        return module
    text = "no TensorRT Python bindings ({}) in {}. On a Jetson: sudo apt install python3-libnvinfer"
    raise BuildError(5, text.format(" or ".join(names), sys.executable))


def compute_capability() -> str | None:
    """`8.7` of the first GPU, from the driver itself; None without a usable driver."""
    for library in ("libcuda.so.1", "libcuda.so"):
        try:
            cuda = ctypes.CDLL(library)
        except OSError:
            continue
        device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
        if cuda.cuInit(0) or cuda.cuDeviceGet(ctypes.byref(device), 0):
            return None
        cuda.cuDeviceGetAttribute(ctypes.byref(major), 75, device)
        cuda.cuDeviceGetAttribute(ctypes.byref(minor), 76, device)
        return f"{major.value}.{minor.value}"
    return None


# The two parsers here serve `topovlm.machine` as well: this file has to stand alone in a bundle.
def parse_l4t(text: str) -> str | None:
    """`36.4.3` from /etc/nv_tegra_release: `# R36 (release), REVISION: 4.3, ...`."""
    match = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", text)
    return f"{match.group(1)}.{match.group(2)}" if match else None


def l4t_release(file: str | Path = "/etc/nv_tegra_release") -> str:
    """`36.4.3` on a Jetson, `none` elsewhere."""
    try:
        return parse_l4t(Path(file).read_text()) or "unknown"
    except OSError:
        return "none"


def needed_bytes(weight_bytes: int) -> int:
    """What a build of a graph with that many bytes of weights may take at its peak."""
    return BUILD_COPIES * weight_bytes + BUILDER_FLOOR_BYTES


def graph_files(folder: Path, graph: Mapping[str, Any]) -> list[Path]:
    """The ONNX file and, for a large graph, its data file."""
    file = folder / graph["file"]
    data = file.with_name(file.name + "_data")
    return [file] + ([data] if data.is_file() else [])


def file_digest(files: Iterable[Path]) -> str:
    """sha256 over the files, in order."""
    state = hashlib.sha256()
    for file in files:
        with open(file, "rb") as stream:
            for chunk in iter(lambda: stream.read(1 << 20), b""):
                state.update(chunk)
    return state.hexdigest()


def engine_name(
    name: str, graph: Mapping[str, Any], capability: str | None, tensorrt_version: str, l4t: str
) -> str:
    """Everything that an engine depends on, in its file name; shapes count as part of the graph."""
    shapes = json.dumps(graph["profiles"], sort_keys=True).encode()
    key = hashlib.sha256(graph["sha256"].encode() + shapes).hexdigest()[:12]
    sm = "sm{}".format(str(capability).replace(".", ""))
    return f"{name}.{sm}.trt{tensorrt_version}.l4t{l4t}.{key}.engine"


def build_engine(
    trt: Any,
    onnx_file: str | Path,
    profiles: Iterable[Mapping[str, Any]],
    *,
    capability: str | None = None,
    timing_cache: Path | None = None,
    verbose: bool = False,
) -> bytes:
    """Parse and build one graph; returns the engine's bytes. Raises BuildError (6) with the parser's words.

    `profiles`: [{"name", "inputs": {input: {"min", "opt", "max"}}}]. `capability` ("8.9") builds ahead of
    time for another GPU, where the library can (TensorRT-RTX). `timing_cache`: a file to read and write.
    """
    logger = trt.Logger(trt.Logger.INFO if verbose else trt.Logger.ERROR)
    builder = trt.Builder(logger)
    # TensorRT 11 knows strongly typed networks only; the flag is there up to then.
    typed = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if typed is None else 1 << int(typed))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(onnx_file)):
        errors = "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))
        raise BuildError(6, f"{onnx_file} was refused by the parser: {errors}")
    config = builder.create_builder_config()
    if capability is not None:
        config.num_compute_capabilities = 1
        wanted = getattr(trt.ComputeCapability, "SM" + capability.replace(".", ""))
        config.set_compute_capability(wanted, 0)
    for shapes in profiles:
        profile = builder.create_optimization_profile()
        for name, sizes in shapes["inputs"].items():
            profile.set_shape(name, *(tuple(sizes[kind]) for kind in ("min", "opt", "max")))
        if config.add_optimization_profile(profile) < 0:
            raise BuildError(2, "{}: profile {} is invalid".format(onnx_file, shapes["name"]))
    cache = None
    if timing_cache is not None and hasattr(config, "create_timing_cache"):
        held = timing_cache.read_bytes() if timing_cache.is_file() else b""
        cache = config.create_timing_cache(held)
        config.set_timing_cache(cache, False)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise BuildError(6, f"{onnx_file}: the build failed; see the messages above")
    if cache is not None and timing_cache is not None:
        write_whole(timing_cache, bytes(cache.serialize()))
    return bytes(engine)


def write_whole(path: Path, data: bytes) -> None:
    """The whole file or none of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        os.replace(str(temporary), str(path))
    finally:
        if temporary.exists():
            temporary.unlink()


def check_device(bundle: Mapping[str, Any], found: str | None, any_device: bool) -> None:
    """The bundle's board against this one. Raises BuildError (5)."""
    wanted = bundle["target"]["compute_capability"]
    if found is None:
        raise BuildError(5, "no NVIDIA GPU driver answers here; build on the board itself")
    if wanted and found != wanted and not any_device:
        text = "this GPU has compute capability {}, the bundle is for {} ({}). --any-device builds anyway"
        raise BuildError(5, text.format(found, bundle["target"]["name"], wanted))


def check_memory(name: str, files: Iterable[Path], ignore: bool) -> None:
    """Enough free memory for the builder, or BuildError (5): a board that runs out hangs."""
    need = needed_bytes(sum(f.stat().st_size for f in files))
    have = memory_limits().free_bytes  # on a Jetson CPU and GPU share it, and NVML does not know it
    if have is not None and have < need and not ignore:
        text = (
            "{}: building needs about {:.1f} GiB, {:.1f} GiB are available. Stop the desktop (sudo "
            "systemctl isolate multi-user.target) and other programs, or try with --ignore-memory"
        )
        raise BuildError(5, text.format(name, need / 2**30, have / 2**30))


def build_all(
    folder: Path,
    only: str | None = None,
    *,
    any_device: bool = False,
    ignore_memory: bool = False,
    force: bool = False,
    verbose: bool = False,
) -> list[Built]:
    """Build what is missing; returns the list that is written to engines/engines.json."""
    try:
        bundle = json.loads((folder / "shapes.json").read_text())
    except (OSError, ValueError) as error:
        raise BuildError(2, f"shapes.json beside this script is missing or broken ({error})") from None
    graphs = bundle["graphs"]
    if only is not None and only not in graphs:
        raise BuildError(2, "no graph {} in shapes.json; it has {}".format(only, ", ".join(graphs)))
    trt = import_tensorrt()
    found, l4t = compute_capability(), l4t_release()
    check_device(bundle, found, any_device)
    out = folder / "engines"
    out.mkdir(exist_ok=True)
    cache = out / "timing.sm{}.trt{}.cache".format(str(found).replace(".", ""), trt.__version__)
    listing = []
    for name, graph in graphs.items():
        if only is not None and name != only:
            continue
        files = graph_files(folder, graph)
        if not files[0].is_file() or file_digest(files) != graph["sha256"]:
            raise BuildError(2, f"{files[0]} is missing or not the file that shapes.json describes")
        target = out / engine_name(name, graph, found, trt.__version__, l4t)
        if force or not target.is_file():
            check_memory(name, files, ignore_memory)
            print(f"building {target.name} ...", flush=True)
            write_whole(
                target, build_engine(trt, files[0], graph["profiles"], timing_cache=cache, verbose=verbose)
            )
        size = target.stat().st_size
        listing.append(Built(name, target.name, found, trt.__version__, l4t, graph["sha256"], size))
    rows = [built._asdict() for built in listing]
    write_whole(out / "engines.json", (json.dumps(rows, indent=1) + "\n").encode())
    return listing


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--graph", metavar="NAME", help="only this graph of shapes.json")
    parser.add_argument("--any-device", action="store_true", help="build although the GPU is another one")
    parser.add_argument("--ignore-memory", action="store_true", help="build although memory looks too small")
    parser.add_argument("--force", action="store_true", help="build engines that are there already again")
    parser.add_argument("--verbose", action="store_true", help="TensorRT's own messages")
    args = parser.parse_args(argv)
    folder = Path(__file__).resolve().parent
    try:
        listing = build_all(
            folder,
            args.graph,
            any_device=args.any_device,
            ignore_memory=args.ignore_memory,
            force=args.force,
            verbose=args.verbose,
        )
    except BuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.code
    for built in listing:
        print(f"engines/{built.file}  {built.size_bytes} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
