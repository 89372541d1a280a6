"""Whether TensorRT can build for a target, and the bindings that do it ahead of time."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from topovlm.errors import InputError, MissingToolError, explain
from topovlm.exporters.protocol import Tool
from topovlm.predict.target import ResolvedTarget
from topovlm.travel import build_engines

RTX = Tool(
    package="tensorrt_rtx", use="TensorRT for RTX engines", remedy='pip install "topovlm[tensorrt-rtx]"'
)
TENSORRT = Tool(
    package="tensorrt",
    use="TensorRT engines",
    remedy="comes with JetPack; on servers: pip install tensorrt",
)
_LEAVE_OUT = "Leave tensorrt out of --format"


def check_target(target: ResolvedTarget) -> None:
    """Refuse a target that engines cannot be built for: here for an RTX card, on the board for the others.

    Raises `InputError`, or `MissingToolError` without TensorRT-RTX for an RTX card.
    """
    capability = capability_of(target)
    if not is_rtx(target):
        _check_software(target)
    elif capability not in (known := rtx_capabilities(import_rtx())):
        rule = f"TensorRT-RTX cannot build for compute capability {capability}"
        raise InputError(explain("--target", target.board.id, rule, f"It can for {', '.join(known)}"))


def is_rtx(target: ResolvedTarget) -> bool:
    """Whether engines for the target are built here, ahead of time."""
    return target.board.family == "rtx"


def capability_of(target: ResolvedTarget) -> str:
    """`8.7`. Raises `InputError` for a target without a known one."""
    capability = target.board.match.compute_capability
    if not capability:
        rule = "has no known NVIDIA compute capability: TensorRT needs one"
        raise InputError(explain("--target", target.board.id, rule, _LEAVE_OUT))
    return capability


def import_rtx() -> ModuleType:
    """The TensorRT-RTX bindings. Raises `MissingToolError` naming the extra."""
    board_code: Any = build_engines  # Python 3.8 for the board, without annotations
    try:
        bindings: ModuleType = board_code.import_tensorrt((RTX.package,))
    except build_engines.BuildError:
        rule = "TensorRT-RTX is not installed: an engine for an RTX card cannot be built"
        raise MissingToolError(
            explain("--format", TENSORRT.package, rule, f"Install it: {RTX.remedy}")
        ) from None
    return bindings


def rtx_capabilities(trt: ModuleType) -> list[str]:
    """Compute capabilities that these bindings build for ahead of time: `["7.5", "8.0", ...]`."""
    names = [name[2:] for name in trt.ComputeCapability.__members__ if name.startswith("SM")]
    return sorted((f"{name[:-1]}.{name[-1]}" for name in names), key=float)


def major(version: str) -> int:
    """10 of `10.3.0`."""
    return int(version.split(".", maxsplit=1)[0])


def _check_software(target: ResolvedTarget) -> None:
    """A board whose every known release brings an older TensorRT cannot build these graphs."""
    known = [release.tensorrt for release in target.board.software if release.tensorrt[:1].isdigit()]
    majors = [major(version) for version in known]
    if majors and max(majors) < build_engines.LEAST_TENSORRT:
        rule = (
            f"its newest TensorRT is {max(known)}; typed graphs need {build_engines.LEAST_TENSORRT} or later"
        )
        raise InputError(explain("--target", target.board.id, rule, _LEAVE_OUT))
