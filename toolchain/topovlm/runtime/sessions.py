"""ONNX Runtime sessions here: clear errors, providers that are really used, what an engine runs on."""

from __future__ import annotations

import contextlib
import functools
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnxruntime as ort

from topovlm.errors import InputError, MissingToolError, TopovlmError, explain
from topovlm.travel import ort_graphs
from topovlm.travel.failure import Failure
from topovlm.travel.ort_graphs import CPU

_SUFFIX = "ExecutionProvider"
# Both wheels write the same files: whichever was installed last wins, and removing one breaks the other.
GPU_BUILD = (
    "pip uninstall -y onnxruntime, then pip install --force-reinstall --no-deps onnxruntime-gpu "
    "(the two share files; one replaces the other)"
)


@dataclass(frozen=True)
class RunsOn:
    """What an engine's decoder runs on. `runtime` is its name in profiles: `onnxruntime-cuda`."""

    runtime: str
    device: str  # `cpu`, `cuda`

    @property
    def on_gpu(self) -> bool:
        """Whether clocks rise under load only, and memory is not this process's."""
        return self.device != "cpu"

    @classmethod
    def provider(cls, name: str) -> RunsOn:
        """A provider of ONNX Runtime by its full name."""
        return cls(f"onnxruntime-{short_name(name)}", ort_graphs.device_of(name))


def short_name(provider: str) -> str:
    """`cuda` for `CUDAExecutionProvider`."""
    return provider.removesuffix(_SUFFIX).lower()


def full_name(provider: str) -> str:
    """The other way round, by ONNX Runtime's own list; what is not on it comes back as it is."""
    names: dict[str, str] = {short_name(name): name for name in ort.get_all_providers()}
    return names.get(provider.lower(), provider)


def provider_names(providers: Sequence[str] | None) -> list[str]:
    """Full names, the CPU last. An unknown one raises `InputError`, an absent one `MissingToolError`."""
    wanted = [full_name(name) for name in providers or ("cpu",)]
    present = ort.get_available_providers()
    for name in wanted:
        if name not in ort.get_all_providers():
            rule = f"is no provider of ONNX Runtime; this build has {', '.join(map(short_name, present))}"
            raise InputError(explain("provider", name, rule))
        if name not in present:
            rule = f"is not in this build of onnxruntime, which has {', '.join(present)}"
            raise MissingToolError(explain("provider", name, rule, GPU_BUILD))
    return [*(name for name in wanted if name != CPU), CPU]


def open_session(path: Path, providers: Sequence[str], threads: int) -> ort.InferenceSession:
    """Open one graph. A provider that was asked for and is not used is an error, not a slow surprise.

    Raises `InputError` when the graph cannot be loaded, `MissingToolError` when the provider does not start.
    """
    if RunsOn.provider(providers[0]).on_gpu:
        _load_cuda_libraries()
    with explained():
        return ort_graphs.open_session(ort, str(path), providers, threads)


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """What the steps that are shared with boards refuse, as this program's own errors."""
    try:
        yield
    except Failure as failure:
        raise _error(failure) from None


def _error(failure: Failure) -> TopovlmError:
    if failure.kind == "provider":
        remedy = "Check the CUDA libraries and the driver"
        return MissingToolError(explain(failure.field, failure.value, failure.rule, remedy))
    return InputError(explain(failure.field, failure.value, failure.rule, "Export again"))


@functools.cache
def _load_cuda_libraries() -> None:
    """Load the CUDA libraries that pip installs, which the loader does not find by itself.

    It prints what is missing there; system libraries may still serve, and a provider that does not start is
    reported by `open_session`.
    """
    if hasattr(ort, "preload_dlls"):
        with contextlib.redirect_stdout(io.StringIO()):
            ort.preload_dlls()
