"""A decoder graph that is larger than memory, run some layers at a time.

The parts are cut out of the graph file itself, at the borders of its layers, and read their weights from its
own external file. A part is opened once for all that is asked: so what follows a prompt must be known before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from topovlm.exporters.onnx.slices import layer_starts
from topovlm.travel.ort_graphs import INPUT_TYPES

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, TensorProto

Feeds = dict[str, np.ndarray]
_KEPT = "num_logits_to_keep"


@dataclass(frozen=True)
class Port:
    """An input of the whole graph, as a session would show it."""

    name: str
    shape: list[int | str]
    type: str


class OnDemand:
    """A session that `opens` when it is run, and may be closed again: its weights may be a gigabyte."""

    def __init__(self, opens: Callable[[], Any]) -> None:
        self._opens, self._session = opens, None

    def get_inputs(self) -> list[Any]:
        return list(self._opened().get_inputs())

    def get_outputs(self) -> list[Any]:
        return list(self._opened().get_outputs())

    def run(self, names: Sequence[str] | None, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        return list(self._opened().run(names, feeds))

    def close(self) -> None:
        self._session = None

    def _opened(self) -> Any:
        if self._session is None:
            self._session = self._opens()
        return self._session


class Parts:
    """The decoder graph in `path`, in parts whose weights take `most_bytes` (one layer at least)."""

    def __init__(self, path: Path, layers: int, most_bytes: int) -> None:
        import onnx

        self.path = path
        self._model: ModelProto = onnx.load(str(path), load_external_data=False)
        self._weights = {tensor.name: tensor for tensor in self.graph.initializer}
        starts = [start + 1 for start in layer_starts(self.graph, layers)]
        # The head by itself: with a real vocabulary it is larger than any layer.
        behind = (index for index, node in enumerate(self.graph.node) if _KEPT in node.input)
        starts += [index for index in [next(behind, 0)] if index > starts[-1]]
        self.bounds = _bounds(starts, self._bytes_of(starts), most_bytes)

    @property
    def graph(self) -> GraphProto:
        return self._model.graph

    def get_inputs(self) -> list[Port]:
        """As a session's: without what nobody has to give."""
        return [self._port(value) for value in self.graph.input if value.name not in self._weights]

    def run(self, asked: Sequence[Sequence[Feeds]], kept: Sequence[int]) -> Iterator[list[np.ndarray]]:
        """Each of `asked` is a prompt and the steps that follow it, their inputs without the cache. Gives the
        logits of the prompt's last `kept` tokens (0: all) and of its steps, one of `asked` after the other.
        """
        held: list[list[Feeds]] = [[{} for _ in steps] for steps in asked]
        for part, (begin, end) in enumerate(self.bounds):
            later = self._needed(end)
            session = None
            for number, steps in enumerate(asked):
                cache: Feeds = {}
                logits = []
                for step, given in enumerate(steps):
                    known = {**given, **held[number][step], _KEPT: np.asarray(kept[number])}
                    if session is None:
                        session = self._open(begin, end, known)
                    found = self._step(session, known, cache, len(next(iter(given.values()))))
                    logits += [found.pop("logits")] if "logits" in found else []
                    held[number][step] = {
                        name: value
                        for name, value in {**held[number][step], **found}.items()
                        if name in later
                    }
                if part == len(self.bounds) - 1:
                    yield logits
            del session  # before the next one takes as much

    def _step(self, session: Any, known: Feeds, cache: Feeds, batch: int) -> Feeds:
        """What one call gives besides the cache, which is brought up to date."""
        feeds: Feeds = {}
        for port in session.get_inputs():
            if port.name.startswith("past_key_values."):
                shape = (batch, port.shape[1], 0, port.shape[3])
                feeds[port.name] = cache.get(port.name, np.zeros(shape, INPUT_TYPES[port.type]))
            else:
                feeds[port.name] = known[port.name].astype(INPUT_TYPES[port.type], copy=False)
        names = [port.name for port in session.get_outputs()]
        found = dict(zip(names, session.run(None, feeds), strict=True))
        for name in [name for name in found if name.startswith("present.")]:
            cache[name.replace("present", "past_key_values")] = found.pop(name)
        return found

    def _open(self, begin: int, end: int | None, known: Feeds) -> Any:
        """A session of the nodes `begin` to `end`. Types of what earlier parts made are those of `known`."""
        import onnx
        import onnxruntime

        nodes = self.graph.node[begin:end]
        made = {name for node in nodes for name in node.output}
        wanted = _ordered(name for node in nodes for name in node.input if name and name not in made)
        whole = {value.name: value for value in self.graph.input}
        weights = [self._weights[name] for name in wanted if name in self._weights and name != _KEPT]
        held = {tensor.name for tensor in weights}
        inputs = [
            whole[name] if name in whole else _value_info(name, known[name])
            for name in wanted
            if name not in held
        ]
        ends = self._needed(end) | {value.name for value in self.graph.output}
        outputs = [onnx.ValueInfoProto(name=name) for node in nodes for name in node.output if name in ends]
        graph = onnx.helper.make_graph(list(nodes), "part", inputs, outputs, weights)
        imports = list(self._model.opset_import)
        model = onnx.helper.make_model(graph, opset_imports=imports, ir_version=self._model.ir_version)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.enable_cpu_mem_arena = False  # it grows by doubling, and keeps what it has
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        folder = "session.model_external_initializers_file_folder_path"
        options.add_session_config_entry(folder, str(self.path.parent))
        providers = ["CPUExecutionProvider"]
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=providers)

    def _needed(self, begin: int | None) -> set[str]:
        """Values that nodes from `begin` on read; none where the graph ends."""
        nodes = () if begin is None else self.graph.node[begin:]
        return {name for node in nodes for name in node.input}

    def _bytes_of(self, starts: Sequence[int]) -> list[int]:
        """Weights from each start to the next."""
        ends = [*starts[1:], len(self.graph.node)]
        return [
            sum(
                _bytes(self._weights[name])
                for node in self.graph.node[begin:end]
                for name in node.input
                if name in self._weights
            )
            for begin, end in zip(starts, ends, strict=True)
        ]

    @cached_property
    def _types(self) -> dict[int, str]:
        import onnx

        kinds = {"tensor(float)": "FLOAT", "tensor(float16)": "FLOAT16", "tensor(int64)": "INT64"}
        return {getattr(onnx.TensorProto, kind): name for name, kind in kinds.items()}

    def _port(self, value: Any) -> Port:
        held = value.type.tensor_type
        shape = [dim.dim_param or dim.dim_value for dim in held.shape.dim]
        return Port(value.name, shape, self._types[held.elem_type])


def _bounds(starts: Sequence[int], sizes: Sequence[int], most_bytes: int) -> list[tuple[int, int | None]]:
    """Where parts begin and end: as much from start to start as `most_bytes` hold, one at least."""
    begins, held = [0], 0
    for layer, size in enumerate(sizes):
        if layer and held + size > most_bytes:
            begins.append(starts[layer])
            held = 0
        held += size
    return list(zip(begins, [*begins[1:], None], strict=True))


def _ordered(names: Iterator[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _value_info(name: str, value: np.ndarray) -> Any:
    import onnx

    return onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(value.dtype), None)


def _bytes(tensor: TensorProto) -> int:
    for entry in tensor.external_data:
        if entry.key == "length":
            return int(entry.value)
    held: int = tensor.ByteSize()
    return held
