"""Exported graphs in ONNX Runtime, here and on a board; the cache never leaves the device between steps.

`ort` is the module: an old board's, or this machine's. Python >= 3.8.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .failure import Failure
from .steps import completed, is_past, present_name, rows

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
_ON_CUDA = (CUDA, "TensorrtExecutionProvider", "NvTensorRTRTXExecutionProvider")
# What numpy has of ONNX Runtime's types.
INPUT_TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_,
}


def device_of(provider: str) -> str:
    """Where a provider keeps tensors, as ONNX Runtime names it: `cuda`, or `cpu` for host memory."""
    return "cuda" if provider in _ON_CUDA else "cpu"


def open_session(ort: Any, path: str, providers: Sequence[str], threads: int) -> Any:
    """Open one graph. Raises `Failure`: a graph that does not load, or a first provider that is not used."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = ort.InferenceSession(path, options, providers=list(providers))
    except Exception as error:  # its exceptions share no base class but this one
        words = " ".join(str(error).split())[:300]
        kind = "memory" if "alloc" in words.lower() or "out of memory" in words.lower() else "graph"
        raise Failure(kind, "graph", path, f"cannot be loaded: {words}") from None
    session.disable_fallback()
    used = session.get_providers()[0]
    if used != providers[0]:
        raise Failure("provider", "provider", providers[0], f"did not start; the session runs on {used}")
    return session


@contextlib.contextmanager
def run_errors(outputs: Sequence[str]) -> Iterator[None]:
    """What ONNX Runtime raises while a graph runs, as `Failure`: its exceptions share no base class."""
    try:
        yield
    except Exception as error:  # see above
        words = " ".join(str(error).split())[:300]
        kind = "memory" if "alloc" in words.lower() or isinstance(error, MemoryError) else "graph"
        raise Failure(kind, "graph", outputs[0], f"does not run: {words}") from None


def input_types(session: Any) -> dict[str, Any]:
    """Input name -> numpy type. Raises `Failure` for a type that numpy does not know (bfloat16)."""
    for node in session.get_inputs():
        if node.type not in INPUT_TYPES:
            raise Failure("graph", node.name, node.type, "is an input type that this runtime cannot feed")
    return {node.name: INPUT_TYPES[node.type] for node in session.get_inputs()}


class OrtPart:
    """The vision graph or the embedding: named inputs in, named outputs out."""

    def __init__(self, session: Any) -> None:
        self.session, self.dtypes = session, input_types(session)
        self.outputs = [node.name for node in session.get_outputs()]

    def run(self, feeds: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Outputs by name, for inputs in any type. Raises `Failure` for an input that is not given."""
        for name in self.dtypes:
            if name not in feeds:
                raise Failure(
                    "graph", name, sorted(feeds), "is an input of the graph that nothing here feeds"
                )
        values = {
            name: np.asarray(feeds[name]).astype(kind, copy=False) for name, kind in self.dtypes.items()
        }
        with run_errors(self.outputs):
            return dict(zip(self.outputs, self.session.run(None, values)))  # noqa: B905 (Python 3.8)


class OrtDecoder:
    """A decoder graph with its key/value cache; which inputs it has is read from the graph."""

    def __init__(self, ort: Any, session: Any) -> None:
        self.session, self._value = session, ort.OrtValue.ortvalue_from_numpy
        self.dtypes = input_types(session)
        self.optional = [node.name for node in session.get_overridable_initializers()]
        self.past_names = [name for name in self.dtypes if is_past(name)]
        # What it computes in: inputs and logits are fp32 also where weights and cache are fp16.
        self.dtype = self.dtypes[self.past_names[0]] if self.past_names else self.dtypes["inputs_embeds"]
        self.present_names = [present_name(name) for name in self.past_names]
        self.outputs = ["logits", *self.present_names]
        shapes = {node.name: node.shape for node in session.get_inputs()}
        self.past_shapes = [shapes[name] for name in self.past_names]
        for name, shape in zip(self.past_names, self.past_shapes):  # noqa: B905 (Python 3.8)
            if len(shape) != 4 or not all(isinstance(shape[axis], int) for axis in (1, 3)):
                rule = "is not [batch, heads, past, width] with heads and width in numbers"
                raise Failure("graph", name, shape, rule)
        device = device_of(session.get_providers()[0])
        # Where the cache is bound to stay; None where the provider works on host memory anyway.
        self.cache_device = None if device == "cpu" else device

    def empty_cache(self, batch: int) -> list[Any]:
        """A cache of no tokens, `[batch, kv_heads, 0, head_dim]` per entry."""
        return [
            self._value(np.zeros((batch, shape[1], 0, shape[3]), self.dtypes[name]))
            for name, shape in zip(self.past_names, self.past_shapes)  # noqa: B905 (Python 3.8)
        ]

    def step(
        self, feeds: Mapping[str, np.ndarray], cache: list[Any], past: int
    ) -> tuple[np.ndarray, list[Any]]:
        """As `steps.StepGraphs`; the cache has a value for each of `past_names`."""
        asked = completed(feeds, [*self.dtypes, *self.optional])
        # What is optional keeps its own type: it is no input that ONNX Runtime lists with one.
        values = {
            name: self._value(np.asarray(value, self.dtypes.get(name, value.dtype), order="C"))
            for name, value in asked.items()
        }
        values.update(zip(self.past_names, cache))  # noqa: B905 (Python 3.8)
        with run_errors(self.outputs):
            if self.cache_device is None:
                results = self.session.run_with_ort_values(self.outputs, values)
            else:
                results = self._run_bound(values, self.cache_device)
        logits = results[0].numpy()
        if logits.ndim != 3 or 0 in logits.shape:
            raise Failure("graph", "logits", list(logits.shape), "is not [batch, tokens, words]")
        return logits[:, -1].astype(np.float32, copy=False), list(results[1:])

    def _run_bound(self, values: dict[str, Any], device: str) -> Any:
        """With outputs bound to the device: otherwise the cache would travel to the host and back."""
        binding = self.session.io_binding()
        for name, value in values.items():
            binding.bind_ortvalue_input(name, value)
        binding.bind_output("logits", "cpu")
        for name in self.present_names:
            binding.bind_output(name, device)
        self.session.run_with_iobinding(binding)
        return binding.get_outputs()


class OrtGraphs:
    """The graphs as `steps.StepGraphs`; `vision` is None for a model without pictures."""

    def __init__(self, vision: OrtPart | None, embed: OrtPart, decoder: OrtDecoder) -> None:
        self.vision, self.tokens, self.decoder = vision, embed, decoder

    def see(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """See `steps.StepGraphs`. Raises `Failure` where no graph takes pictures."""
        if self.vision is None:
            raise Failure("graph", "pictures", len(feeds), "cannot be seen: this model has no vision graph")
        found = self.vision.run(feeds)
        for name, values in found.items():
            if values.ndim < 2:
                raise Failure("graph", name, list(values.shape), "must be [tokens, width]")
        return {name: rows(values) for name, values in found.items()}

    def embed(self, ids: np.ndarray) -> np.ndarray:
        """`[B, S]` -> `[B, S, hidden]`."""
        (embeds,) = self.tokens.run({"input_ids": ids}).values()
        return embeds

    def empty_cache(self, batch: int) -> list[Any]:
        """See `OrtDecoder`."""
        return self.decoder.empty_cache(batch)

    def step(
        self, feeds: Mapping[str, np.ndarray], cache: list[Any], past: int
    ) -> tuple[np.ndarray, list[Any]]:
        """See `OrtDecoder`."""
        return self.decoder.step(feeds, cache, past)
