"""Smaller decoders for ONNX Runtime: int8 (dynamic) and int4 (MatMulNBits) weights, with what they cost.

Quantisation changes answers, so nothing here passes or fails a gate: the difference to the fp32 graph of the
same folder is measured and reported, and the user's own evaluation decides. The vision tower and the
embeddings stay as they are. These graphs are not for TensorRT.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from msgspec import structs

from topovlm.artifacts import move_into_place
from topovlm.errors import InputError, explain
from topovlm.exporters.onnx.files import save_graph
from topovlm.exporters.onnx.layouts import graph_bytes, graph_files, graph_key, graph_path, replace_graphs
from topovlm.exporters.onnx.parity import STEPS
from topovlm.exporters.onnx.prompts import make_questions
from topovlm.exporters.onnx.quiet import quiet_exporter
from topovlm.exporters.onnx.sessions import kept_tokens, open_graphs
from topovlm.exporters.protocol import VARIANTS, Dtype
from topovlm.runtime.runtime_file import RuntimeFile, read_runtime_file

FORMATS: tuple[Dtype, ...] = ("int8", "int4")
_BLOCK = 32  # int4: weights that share a scale


@dataclass(frozen=True)
class QuantizedGraph:
    """A quantised decoder against the fp32 graph it came from (measured on two prompts).

    `kept_bytes`: of weights that stay fp32 for being several matrices in one tensor, as experts are.
    """

    key: str
    path: str
    format: str
    size_bytes: int
    source_size_bytes: int
    kept_bytes: int
    max_logit_error: float
    mean_logit_error: float
    max_logit: float
    same_tokens: int
    compared_tokens: int


def quantize_decoders(
    folder: str | Path,
    formats: Sequence[str] = FORMATS,
    variants: Sequence[str] = VARIANTS,
    *,
    replace: bool = False,
) -> tuple[QuantizedGraph, ...]:
    """Write `_quantized` (int8) and `_q4` (int4) decoders beside the fp32 ones and name them in the manifest.

    With `replace` the fp32 decoders go once they have been compared with. Variants that the folder does not
    have are left out. Raises `InputError` for an unknown format or a folder whose decoders are not fp32.
    """
    out = Path(folder)
    content = read_runtime_file(out)
    if not set(formats) <= set(FORMATS):
        raise InputError(explain("formats", tuple(formats), f"must be some of {', '.join(FORMATS)}"))
    graphs, results = dict(content.graphs), []
    for variant in variants:
        key, source = graph_key("decoder", variant), out / graph_path("decoder", variant)
        if key not in graphs:
            continue
        if out / graphs[key] != source:
            rule = "is not fp32: quantise an fp32 export"
            raise InputError(explain("decoder", graphs[key], rule))
        for kind in formats:
            relative, new_key = graph_path("decoder", variant, kind), graph_key("decoder", variant, kind)
            _write(source, out / relative, kind)
            graphs[new_key] = relative
            results.append(_compare(out, structs.replace(content, graphs=graphs), key, new_key, kind))
        if replace:
            del graphs[key]
    replace_graphs(out, content, graphs)
    for key in content.graphs.keys() - graphs.keys():
        for file in graph_files(out / content.graphs[key]):
            file.unlink()
    return tuple(results)


def _write(source: Path, target: Path, kind: str) -> None:
    """Quantise into a temporary folder, save as all graphs are saved, then move the file(s) into place."""
    import onnx_ir as ir

    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.stem}.") as folder:
        raw, whole = Path(folder) / "raw.onnx", Path(folder) / target.name
        with quiet_exporter():
            (_write_int8 if kind == "int8" else _write_int4)(source, raw)
            save_graph(ir.external_data.load_to_model(ir.load(raw)), whole)
        for file in Path(folder).glob(f"{target.name}*"):
            move_into_place(file, target.parent / file.name)


def _write_int8(source: Path, target: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(
        source,
        target,
        op_types_to_quantize=["MatMul"],
        # A scale per channel of several matrices at once is a graph that ONNX Runtime does not run.
        nodes_to_exclude=list(_stacked(source)),
        per_channel=True,
        weight_type=QuantType.QInt8,
        use_external_data_format=True,
        # DefaultTensorType: float where shape inference does not know the fused operators' outputs.
        extra_options={"MatMulConstBOnly": True, "DefaultTensorType": 1},
    )


def _stacked(source: Path) -> dict[str, int]:
    """Products with several matrices in one weight, which no format here takes: node -> its bytes."""
    import onnx_ir as ir

    graph = ir.load(source).graph
    weights = {
        str(node.name): node.inputs[1].const_value
        for node in graph
        if node.op_type == "MatMul" and node.inputs[1] is not None
    }
    return {name: held.nbytes for name, held in weights.items() if held is not None and len(held.shape) > 2}


def _write_int4(source: Path, target: Path) -> None:
    import onnx
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    quantizer = MatMulNBitsQuantizer(
        onnx.load(source), block_size=_BLOCK, is_symmetric=True, accuracy_level=4
    )
    quantizer.process()
    quantizer.model.save_model_to_file(str(target), use_external_data_format=True)


def _compare(out: Path, content: RuntimeFile, key: str, new_key: str, kind: str) -> QuantizedGraph:
    reference, quantized = (open_graphs(out, content, name, whole=True) for name in (key, new_key))
    total, worst, numbers, scales, same, compared = 0.0, 0.0, 0, [1.0], 0, 0
    for question in make_questions(out, STEPS):
        kept = kept_tokens(question.prompt, content.decoder.vocab)
        tokens, expected = reference.greedy(question.prompt, STEPS, kept)
        got = quantized.run(question.prompt, tokens, kept)
        difference = np.abs(expected - got)
        worst = float(np.maximum(worst, difference.max()))  # a NaN stays one
        total += float(difference.sum(dtype=np.float64))
        numbers += difference.size
        scales.append(float(np.abs(expected).max()))
        same += int((expected.argmax(-1) == got.argmax(-1)).sum())
        compared += len(expected)
    path, source = content.graphs[new_key], content.graphs[key]
    return QuantizedGraph(
        key=new_key,
        path=path,
        format=kind,
        size_bytes=graph_bytes(out / path),
        source_size_bytes=graph_bytes(out / source),
        kept_bytes=sum(_stacked(out / source).values()),
        max_logit_error=worst,
        mean_logit_error=total / numbers,
        max_logit=max(scales),
        same_tokens=same,
        compared_tokens=compared,
    )
