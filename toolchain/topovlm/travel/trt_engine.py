"""TensorRT on a board, without ONNX Runtime: graphs as callables. Python >= 3.8.

Uses TensorRT's own Python bindings (10 or later) and the CUDA runtime library through ctypes, both of which
JetPack brings. Engines are built on the board by `build_engines`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Collection, Mapping
from pathlib import Path
from time import perf_counter
from types import ModuleType
from typing import Any

import numpy as np

from . import build_engines
from .failure import Failure
from .steps import Opened, completed, is_past, present_name, rows

HOST_TO_DEVICE, DEVICE_TO_HOST = 1, 2
_LIBRARIES = ("libcudart.so", "libcudart.so.13", "libcudart.so.12", "/usr/local/cuda/lib64/libcudart.so")
_LEAST_BYTES = 256  # an empty tensor needs an address too


class CudaError(RuntimeError):
    """A call of the CUDA runtime failed; the number is its own."""


class Cuda:
    """The few calls of the CUDA runtime that are needed, on one stream."""

    def __init__(self) -> None:
        self.library = self.load()
        self.library.cudaMalloc.argtypes = [ctypes.POINTER(ctypes.c_void_p), ctypes.c_size_t]
        self.library.cudaFree.argtypes = [ctypes.c_void_p]
        self.library.cudaMemcpy.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        self.library.cudaStreamSynchronize.argtypes = [ctypes.c_void_p]
        stream = ctypes.c_void_p()
        self.check("cudaStreamCreate", self.library.cudaStreamCreate(ctypes.byref(stream)))
        self.stream = stream.value

    @staticmethod
    def load() -> ctypes.CDLL:
        for name in _LIBRARIES:
            try:
                return ctypes.CDLL(name)
            except OSError:
                continue
        raise CudaError("no CUDA runtime library ({})".format(", ".join(_LIBRARIES)))

    @staticmethod
    def check(call: str, status: int) -> None:
        if status != 0:
            raise CudaError(f"{call} failed with error {status}")

    def allocate(self, size: int) -> int:
        pointer = ctypes.c_void_p()
        self.check("cudaMalloc", self.library.cudaMalloc(ctypes.byref(pointer), max(size, _LEAST_BYTES)))
        return pointer.value or 0

    def free(self, pointer: int) -> None:
        self.check("cudaFree", self.library.cudaFree(pointer))

    def copy(self, target: int, source: int, size: int, direction: int) -> None:
        self.check("cudaMemcpy", self.library.cudaMemcpy(target, source, size, direction))

    def wait(self) -> None:
        self.check("cudaStreamSynchronize", self.library.cudaStreamSynchronize(self.stream))


class OnDevice:
    """A tensor that stays on the GPU."""

    def __init__(self, pointer: int, shape: tuple[int, ...]) -> None:
        self.pointer, self.shape = pointer, shape


class Part:
    """One engine. Profile 0 serves the first call of a prompt, the last one every later call."""

    def __init__(self, trt: ModuleType, cuda: Cuda, plan: bytes) -> None:
        self.cuda, self.mode = cuda, trt.TensorIOMode
        self.runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
        self.engine = self.runtime.deserialize_cuda_engine(plan)
        if self.engine is None:
            raise CudaError("the engine could not be loaded")
        names = [self.engine.get_tensor_name(i) for i in range(self.engine.num_io_tensors)]
        self.dtypes = {name: np.dtype(trt.nptype(self.engine.get_tensor_dtype(name))) for name in names}
        self.inputs = [name for name in names if self.engine.get_tensor_mode(name) == self.mode.INPUT]
        self.outputs = [name for name in names if name not in self.inputs]
        self.contexts: list[Any] = []
        # One context per profile: to switch a context would be timed with the work.
        for index in range(self.engine.num_optimization_profiles):
            context = self.engine.create_execution_context()
            context.set_optimization_profile_async(index, cuda.stream)
            self.contexts.append(context)
        cuda.wait()
        self.buffers: dict[tuple[str, int], tuple[int, int]] = {}
        self.turn = 0

    def run(self, feeds: Mapping[str, Any], first: bool = True, stay: Collection[str] = ()) -> dict[str, Any]:
        """Outputs by name: arrays, or `OnDevice` for names in `stay` (good until the next call but one)."""
        context = self.contexts[0 if first else -1]
        self.turn = 1 - self.turn  # what stays from the last call is an input of this one
        for name in self.inputs:
            value = feeds[name]
            if isinstance(value, OnDevice):
                pointer = value.pointer
            else:
                value = np.ascontiguousarray(value, self.dtypes[name])
                pointer = self.buffer(name, value.nbytes)
                self.cuda.copy(pointer, value.ctypes.data, value.nbytes, HOST_TO_DEVICE)
            if not context.set_input_shape(name, tuple(value.shape)):
                raise CudaError(f"{name}: shape {tuple(value.shape)} is outside of the engine's profile")
            context.set_tensor_address(name, pointer)
        places = {}
        for name in self.outputs:
            shape = tuple(context.get_tensor_shape(name))
            size = int(np.prod(shape)) * self.dtypes[name].itemsize
            places[name] = (self.buffer(name, size), shape, size)
            context.set_tensor_address(name, places[name][0])
        if not context.execute_async_v3(self.cuda.stream):
            raise CudaError("the engine did not run")
        self.cuda.wait()
        results: dict[str, Any] = {}
        for name, (pointer, shape, size) in places.items():
            if name in stay:
                results[name] = OnDevice(pointer, shape)
            else:
                array = np.empty(shape, self.dtypes[name])
                self.cuda.copy(array.ctypes.data, pointer, size, DEVICE_TO_HOST)
                results[name] = array
        return results

    def buffer(self, name: str, size: int) -> int:
        """Memory for a tensor in this turn; it grows by half, so that a growing cache seldom moves."""
        held = self.buffers.get((name, self.turn))
        if held is not None and held[1] >= size:
            return held[0]
        if held is not None:
            self.cuda.free(held[0])
        room = size + size // 2
        self.buffers[(name, self.turn)] = (self.cuda.allocate(room), room)
        return self.buffers[(name, self.turn)][0]


class TrtGraphs:
    """The engines as `steps.StepGraphs`; `vision` is None for a model without pictures."""

    def __init__(self, vision: Part | None, embed: Part, decoder: Part) -> None:
        self.vision, self.tokens, self.decoder = vision, embed, decoder
        self.past_names = [name for name in decoder.inputs if is_past(name)]
        self.present_names = [present_name(name) for name in self.past_names]

    def see(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """See `steps.StepGraphs`. Raises `Failure` where no engine takes pictures."""
        if self.vision is None:
            raise Failure("graph", "pictures", len(feeds), "cannot be seen: this model has no vision engine")
        return {name: rows(values) for name, values in self.vision.run(feeds).items()}

    def embed(self, ids: np.ndarray) -> np.ndarray:
        """`[B, S]` -> `[B, S, hidden]`."""
        (embeds,) = self.tokens.run({"input_ids": ids}).values()
        return np.asarray(embeds)

    def empty_cache(self, batch: int) -> list[Any]:
        """A cache of no tokens, `[batch, kv_heads, 0, head_dim]` per entry."""
        shapes = [self.decoder.engine.get_tensor_shape(name) for name in self.past_names]
        return [np.zeros((batch, shape[1], 0, shape[3])) for shape in shapes]

    def step(
        self, feeds: Mapping[str, np.ndarray], cache: list[Any], past: int
    ) -> tuple[np.ndarray, list[Any]]:
        """See `steps.StepGraphs`."""
        values: dict[str, Any] = dict(completed(feeds, self.decoder.inputs))
        values.update(zip(self.past_names, cache))  # noqa: B905 (Python 3.8)
        results = self.decoder.run(values, first=past == 0, stay=self.present_names)
        return results["logits"][:, -1], [results[name] for name in self.present_names]


def open_engine(facts: Mapping[str, Any], request: Mapping[str, Any]) -> Opened:
    """Build and open one engine of a request (`measure.ssh.messages.Request`). Raises `Failure`."""
    try:
        trt, cuda = build_engines.import_tensorrt((request["needs"],)), Cuda()
        plans = {}
        for part in ("vision", "embed", "decoder"):
            if part not in facts:
                continue  # a model without pictures
            path = Path(facts[part])
            files = build_engines.graph_files(Path(), {"file": str(path)})
            build_engines.check_memory(path.name, files, False)
            plans[part] = build_engines.build_engine(trt, path, facts["profiles"][part])
        start = perf_counter()
        parts = {part: Part(trt, cuda, plan) for part, plan in plans.items()}
    except (build_engines.BuildError, CudaError) as error:
        raise Failure("graph", "engine", facts["decoder"], str(error)) from None
    graphs = TrtGraphs(parts.get("vision"), parts["embed"], parts["decoder"])
    return Opened(
        graphs=graphs,
        new_tokens=request["new_tokens"],
        threads=1,
        providers={part: ["TensorRT"] for part in parts},
        dtype=parts["decoder"].dtypes[graphs.past_names[0]].name,
        load_ms=(perf_counter() - start) * 1e3,
    )
