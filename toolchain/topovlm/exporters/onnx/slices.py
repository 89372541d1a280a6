"""Shallower variants of an exported decoder, cut out of its ONNX graph: for timing, not for answers.

The cut needs no names of the exporter. A node that every path of data from `inputs_embeds` to `logits` passes
is a place where the whole residual stream flows through one node; the last such node before a layer's
`present.i.key` is where layer i begins. Joining the beginnings of two layers leaves out what lies between.
Where that node is a fused norm, its weights are those of the layer that was left out: the work is the same,
the answers are not (slices of the plain graph answer as the model without those layers does).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from topovlm.errors import InputError, VerificationError, explain
from topovlm.runtime.manifest import load_manifest
from topovlm.runtime.runtime_file import MANIFEST_NAME, decoder_keys, read_runtime_file, write_runtime_file

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto

_SOURCE = -1  # stands for the graph input `inputs_embeds` among node indices


def slice_export(folder: str | Path, keep: int, out: str | Path, variant: str = "auto") -> Path:
    """Write to `out` (must not exist) the export with its first `keep - 1` layers and its last one.

    `variant` names the one decoder graph that the slice will have. Vision, embedding and weight files are
    hard-linked where the file system can. Raises `InputError` for a number of layers that makes no sense,
    `VerificationError` when the graph has no clear layer borders.
    """
    import onnx

    manifest, out = load_manifest(folder), Path(out)
    name = manifest.resolve(variant)
    if not 2 <= keep <= manifest.layers:
        rule = f"must lie between 2 and the {manifest.layers} layers of the model"
        raise InputError(explain("keep", keep, rule))
    source = manifest.decoders[name]
    model = onnx.load(str(source), load_external_data=False)
    cut_layers(model, manifest.layers, keep)
    content = read_runtime_file(manifest.folder)
    path = source.relative_to(manifest.folder).as_posix()
    graphs = {
        key: held for key, held in content.graphs.items() if key not in decoder_keys(content) or held == path
    }
    for file in _files(manifest.folder, graphs.values()):
        target = out / file.relative_to(manifest.folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        if file == source:
            onnx.save(model, str(target))
        elif file.name != MANIFEST_NAME:
            _link(file, target)
    write_runtime_file(out, replace(content, decoder=replace(content.decoder, layers=keep), graphs=graphs))
    return out


def cut_layers(model: ModelProto, layers: int, keep: int) -> None:
    """Leave, in place, the first `keep - 1` decoder layers and the last of `layers`; renumber its cache.

    Raises `VerificationError` when the layers' beginnings cannot be told from the graph.
    """
    if keep == layers:
        return
    graph = model.graph
    starts = layer_starts(graph, layers)
    first, last = graph.node[starts[keep - 1]], graph.node[starts[layers - 1]]
    if first.op_type != last.op_type or len(first.output) != len(last.output):
        rule = f"layers {keep - 1} and {layers - 1} begin with different operations"
        raise VerificationError(explain("decoder graph", first.op_type, rule))
    renamed = {old: new for old, new in zip(last.output, first.output, strict=True) if old and new}
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
    gone = tuple(f".{layer}." for layer in range(keep - 1, layers - 1))
    for ports in (graph.input, graph.output):
        kept = [port for port in ports if not (_cached(port.name) and any(g in port.name for g in gone))]
        del ports[:]
        ports.extend(kept)
    _drop_unused(graph)
    _renumber(graph, layers - 1, keep - 1)


def layer_starts(graph: GraphProto, layers: int) -> list[int]:
    """Index of the node with which each layer's residual stream begins (-1: `inputs_embeds` itself)."""
    parents = _data_parents(graph)
    producer = {name: index for index, node in enumerate(graph.node) for name in node.output}
    above = _dominators(parents)
    spine = set(_chain(producer["logits"], above))
    starts = []
    for layer in range(layers):
        key = producer.get(f"present.{layer}.key")
        if key is None or key not in above:
            raise VerificationError(
                explain("decoder graph", f"present.{layer}.key", "is not computed from it")
            )
        starts.append(next(index for index in _chain(key, above) if index in spine))
    if starts != sorted(set(starts)):
        raise VerificationError(explain("decoder graph", starts, "its layers have no clear borders"))
    return starts


def _data_parents(graph: GraphProto) -> dict[int, list[int]]:
    """For each node that data of `inputs_embeds` reach, the nodes they come from. Shapes carry no data."""
    origin = {"inputs_embeds": _SOURCE}
    parents: dict[int, list[int]] = {}
    for index, node in enumerate(graph.node):  # ONNX keeps nodes in topological order
        found = sorted({origin[name] for name in node.input if name in origin})
        if found and node.op_type not in ("Shape", "Size"):
            parents[index] = found
            origin.update({name: index for name in node.output if name})
    return parents


def _dominators(parents: dict[int, list[int]]) -> dict[int, int]:
    """Immediate dominator of each node: the nearest one that all paths from the source pass."""
    above: dict[int, int] = {}
    depth = {_SOURCE: 0}
    for index in sorted(parents):
        common, *others = parents[index]
        for other in others:
            while common != other:
                if depth[common] >= depth[other]:
                    common = above[common]
                else:
                    other = above[other]  # noqa: PLW2901 - climbing is the point
        above[index] = common
        depth[index] = depth[common] + 1
    return above


def _chain(index: int, above: dict[int, int]) -> Iterable[int]:
    """The node and its dominators, up to the source."""
    while index != _SOURCE:
        yield index
        index = above[index]
    yield _SOURCE


def _cached(name: str) -> bool:
    return name.startswith(("past_key_values.", "present."))


def _renumber(graph: GraphProto, old: int, new: int) -> None:
    """Give a layer's cache another number; the number must be free."""
    named = [port.name for port in (*graph.input, *graph.output) if _cached(port.name)]
    names = {name: name.replace(f".{old}.", f".{new}.") for name in named}
    for port in (*graph.input, *graph.output):
        port.name = names.get(port.name, port.name)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]


def _drop_unused(graph: GraphProto) -> None:
    """Remove nodes, weights and shape notes that no remaining output needs."""
    needed = {port.name for port in graph.output}
    nodes = []
    for node in reversed(graph.node):
        if needed & set(node.output):
            needed |= set(node.input) - {""}  # an empty name stands for an input or output that is left out
            nodes.append(node)
    weights = [tensor for tensor in graph.initializer if tensor.name in needed]
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(reversed(nodes))
    graph.initializer.extend(weights)
    missing = needed - {name for node in nodes for name in node.output}
    missing -= {port.name for port in graph.input} | {tensor.name for tensor in weights}
    if missing:
        rule = "are still needed by the layers that stay"
        raise VerificationError(explain("decoder graph", sorted(missing)[:5], rule))


def _files(folder: Path, graphs: Iterable[str]) -> list[Path]:
    """Text files of the folder, the graphs named, and their external weight files."""
    texts = [file for file in folder.iterdir() if file.is_file()]
    return texts + [
        file for graph in graphs for file in sorted((folder / graph).parent.glob(f"{Path(graph).name}*"))
    ]


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
