"""ONNX Runtime sessions: clear errors, providers that are really used, inputs by declared type."""

from __future__ import annotations

import contextlib
import functools
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from topovlm.errors import InputError, MissingToolError, explain

SHORT_NAMES = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
# What runs on an NVIDIA GPU, as engines name it; the last is no provider of ONNX Runtime.
ON_CUDA = ("CUDAExecutionProvider", "TensorrtExecutionProvider", "torch-cuda")
_DTYPES: dict[str, Any] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_,
}
# Both wheels write the same files: whichever was installed last wins, and removing one breaks the other.
GPU_BUILD = (
    "pip uninstall -y onnxruntime, then pip install --force-reinstall --no-deps onnxruntime-gpu "
    "(the two share files; one replaces the other)"
)


def provider_names(providers: Sequence[str] | None) -> list[str]:
    """Full names, the CPU last. An unknown one raises `InputError`, an absent one `MissingToolError`."""
    wanted = [SHORT_NAMES.get(name.lower(), name) for name in providers or ("cpu",)]
    present = ort.get_available_providers()
    for name in wanted:
        if name not in ort.get_all_providers():
            rule = f"is no provider of ONNX Runtime; use {', '.join(SHORT_NAMES)}"
            raise InputError(explain("provider", name, rule))
        if name not in present:
            rule = f"is not in this build of onnxruntime, which has {', '.join(present)}"
            raise MissingToolError(explain("provider", name, rule, GPU_BUILD))
    cpu = SHORT_NAMES["cpu"]
    return [*(name for name in wanted if name != cpu), cpu]


def open_session(path: Path, providers: Sequence[str], threads: int) -> ort.InferenceSession:
    """Open one graph. A provider that was asked for and is not used is an error, not a slow surprise.

    Raises `InputError` when the graph cannot be loaded, `MissingToolError` when the provider does not start.
    """
    if providers[0] in ON_CUDA:
        _load_cuda_libraries()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = ort.InferenceSession(str(path), options, providers=list(providers))
    except Exception as error:  # its exceptions share no base class but this one
        message = " ".join(str(error).split())[:300]
        raise InputError(
            explain("graph", str(path), f"cannot be loaded: {message}", "Export again")
        ) from None
    session.disable_fallback()
    used = session.get_providers()
    if used[0] != providers[0]:
        rule = f"did not start; the session runs on {used[0]}"
        raise MissingToolError(
            explain("provider", providers[0], rule, "Check the CUDA libraries and the driver")
        )
    return session


@functools.cache
def _load_cuda_libraries() -> None:
    """Load the CUDA libraries that pip installs, which the loader does not find by itself.

    It prints what is missing there; system libraries may still serve, and a provider that does not start is
    reported by `open_session`.
    """
    if hasattr(ort, "preload_dlls"):
        with contextlib.redirect_stdout(io.StringIO()):
            ort.preload_dlls()


def input_dtypes(session: ort.InferenceSession) -> dict[str, Any]:
    """Input name -> numpy type. Raises `InputError` for a type that numpy does not know (bfloat16)."""
    types = {}
    for node in session.get_inputs():
        if node.type not in _DTYPES:
            rule = "is an input type that this runtime cannot feed"
            raise InputError(explain(node.name, node.type, rule, "Export in fp32 or fp16"))
        types[node.name] = _DTYPES[node.type]
    return types


def only_input(session: ort.InferenceSession, path: Path) -> tuple[str, Any]:
    """Name and type of a one-input graph's input. Raises `InputError` when it has more."""
    types = input_dtypes(session)
    if len(types) != 1:
        raise InputError(explain(str(path), sorted(types), "must have exactly one input"))
    return next(iter(types.items()))
