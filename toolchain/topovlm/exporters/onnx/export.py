"""Export a checkpoint to three ONNX graphs in a folder that ONNX Runtime clients load as it is."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from topovlm.artifacts import staged_folder
from topovlm.errors import InputError, explain
from topovlm.exporters.onnx import layouts
from topovlm.exporters.onnx.parity import check_graphs, parity_checks
from topovlm.exporters.onnx.quantize import FORMATS as QUANTIZED
from topovlm.exporters.onnx.quantize import quantize_decoders
from topovlm.exporters.protocol import VARIANTS, Artifact, Dtype, ExportRecord, ParityResult, listing
from topovlm.exporters.protocol import Model as Which
from topovlm.runtime.runtime_file import DecoderSizes

if TYPE_CHECKING:
    import onnx_ir as ir
    from torch import nn

TRACED = {"fp32": "float32", "fp16": "float16"}  # what graphs are traced in; the others are made from fp32
DTYPES: tuple[Dtype, ...] = ("fp32", "fp16", *QUANTIZED)
CLIENTS = ("ONNX Runtime", "transformers.js")


@dataclass(frozen=True)
class WrittenGraphs:
    """What was written: graph key -> relative path, the decoder's sizes, fused attentions (0: none fused).

    `not_fused`: why the fused form was left out, where it was asked for beside the plain one. `limits`: what
    else is to be said of the graphs. `clients`: what loads the folder as it is.
    """

    paths: dict[str, str]
    decoder: DecoderSizes
    fused_attentions: int
    not_fused: str = ""
    limits: tuple[str, ...] = ()
    clients: tuple[str, ...] = CLIENTS


def export_onnx(
    model_dir: str | Path,
    out_dir: str | Path,
    *,
    variants: Sequence[str] = VARIANTS,
    dtype: str = "fp32",
    model: nn.Module | None = None,
    processor: object | None = None,
    which: Which = "dense",
    single_file_bytes: int = layouts.SINGLE_FILE_BYTES,
) -> ExportRecord:
    """Write the exported folder `out_dir` (replaced as a whole, or untouched) from a checkpoint folder.

    Every graph is run by ONNX Runtime and compared with torch before the folder gets its name. int8 and int4
    are fp32 graphs whose decoders are quantised after that. `model` is the torch model of `model_dir`, where
    the caller has it already: on the CPU and in the precision that is traced it spares loading, and it is
    left as it was; `processor` likewise. A decoder that has no fused form is written in the plain one, and
    the record says why; the fused form alone is refused then. A graph with more weights than
    `single_file_bytes` keeps them in `<graph>.onnx_data`: one file cannot pass 2 GiB.
    Raises `InputError` for a checkpoint outside of the family and `VerificationError` when parity fails.
    """
    check_arguments(variants, dtype)
    with staged_folder(Path(out_dir)) as staged:
        traced = "fp32" if dtype in QUANTIZED else dtype
        parity, graphs = write_folder(
            Path(model_dir),
            staged,
            variants,
            traced,
            model=model,
            processor=processor,
            single_file_bytes=single_file_bytes,
        )
        written = tuple(name for name in variants if name == "plain" or not graphs.not_fused)
        record = ExportRecord(
            exporter="onnx",
            model=which,
            dtype=dtype,
            variants=written,
            parity=parity,
            artifacts=(Artifact(path=".", format="onnx", title="ONNX graphs", loads_in=graphs.clients),),
            checks=parity_checks(parity, "" if traced == dtype else f"{traced} (before {dtype})"),
            limits=(*([f"no fused form: {graphs.not_fused}"] if graphs.not_fused else []), *graphs.limits),
            facts={"fused_attentions": graphs.fused_attentions},
        )
        if dtype in QUANTIZED:
            record = _quantized(staged, record)
        return replace(record, files=listing(staged))


def write_folder(
    model_dir: Path,
    out: Path,
    variants: Sequence[str],
    dtype: str,
    *,
    model: nn.Module | None = None,
    processor: Any = None,
    single_file_bytes: int = layouts.SINGLE_FILE_BYTES,
    kept: int = 0,
) -> tuple[tuple[ParityResult, ...], WrittenGraphs]:
    """Graphs (fp32 or fp16) and texts, behind the gate, into a folder that exists; returns what it measured.

    `kept`: rows of logits where nobody says how many, 0 for all. The caller moves the folder into place.
    """
    from topovlm.checkpoint.live import Live
    from topovlm.checkpoint.processors import load_processor
    from topovlm.families.torch_parts import parts_of

    with _traceable(model_dir, dtype, model) as loaded:
        processor = processor or load_processor(model_dir)
        graphs = write_graphs(loaded, out, variants, dtype, single_file_bytes=single_file_bytes, kept=kept)
        layouts.write_texts(model_dir, out, graphs=graphs.paths, decoder=graphs.decoder, processor=processor)
        whole = _reference(loaded)
        parts = parts_of(whole)
        live = Live(model_dir, whole, processor, parts, len(parts.blocks))
        return check_graphs(live, out), graphs


def _reference(model: Any) -> Any:
    """The model as it was exported: with fp16 weights where they are, computed with in fp32."""
    import torch

    from topovlm.families.mapped import Mapped, weights_of

    weights = weights_of(model)
    if not isinstance(weights, Mapped):
        return model.float()
    weights.rounded_to, weights.dtype = weights.dtype, torch.float32
    return model


@contextlib.contextmanager
def _traceable(model_dir: Path, dtype: str, model: Any) -> Iterator[Any]:
    """The model in that precision on the CPU, family checked before any weight is read; eager attention.

    Eager attention traces to plain MatMul and Softmax; parity compares with the default attention.
    """
    from topovlm.checkpoint.files import open_checkpoint
    from topovlm.checkpoint.loading import attention, fits, load_model, read_stock_config
    from topovlm.exporters.onnx.graphs import check_family

    if not (model_dir / "config.json").is_file():
        raise InputError(explain("model", str(model_dir), "is no checkpoint folder: config.json is missing"))
    check_family(read_stock_config(model_dir))
    wanted = TRACED[dtype]
    if model is not None and model.device.type == "cpu" and str(model.dtype) == f"torch.{wanted}":
        with attention(model, "eager"):
            yield model
    else:
        checkpoint = open_checkpoint(model_dir)
        # ONNX Runtime will have it in memory, too.
        mapped = not fits(checkpoint, wanted, copies=2)
        yield load_model(checkpoint, dtype=wanted, attention_kind="eager", mapped=mapped)


def write_graphs(
    model: Any, out: Path, variants: Sequence[str], dtype: str, *, single_file_bytes: int, kept: int = 0
) -> WrittenGraphs:
    """Trace, assemble, check and save the graphs under `out`."""
    from topovlm.exporters.onnx import decoder as decoders
    from topovlm.exporters.onnx import files, graphs
    from topovlm.exporters.onnx.experts import LIMIT, mixtures
    from topovlm.exporters.onnx.fused import fused_decoder_graph, why_not_fused
    from topovlm.exporters.onnx.half import float_interface
    from topovlm.families.torch_parts import parts_of

    parts = parts_of(model)
    shape = parts.decoder_shape()
    not_fused = why_not_fused(model) if "fused" in variants and "plain" in variants else ""
    sizes = DecoderSizes(
        layers=shape.layers,
        hidden=shape.hidden,
        kv_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        vocab=shape.vocab,
    )
    paths: dict[str, str] = {}

    def keep(graph: ir.Model, part: str, variant: str = "plain") -> None:
        if dtype == "fp16":
            graph = float_interface(graph)
        relative = layouts.graph_path(part, variant, dtype)
        files.save_graph(graph, out / relative, single_file_bytes)
        # The folder's own precision is its default: its keys carry no suffix.
        paths[layouts.graph_key(part, variant)] = relative

    if parts.family.graphs is not None and parts.family.graphs.vision:
        keep(graphs.vision_graph(model), "vision")
    keep(graphs.embed_graph(model), "embed")
    pieces = decoders.trace_decoder(model)
    sizes = replace(sizes, rows=pieces.rules.rows, stacked=pieces.rules.stacked)
    fused = 0
    for variant in variants:
        batch: int | str = decoders.BATCH if variant == "plain" else 1
        if variant == "plain":
            decoder = decoders.decoder_graph(model, pieces, kept)
        elif not_fused:
            continue
        else:
            decoder = fused_decoder_graph(model, pieces)
            fused = sizes.layers
        interface = files.decoder_interface(sizes, batch, blocks=pieces.rules.blocks)
        files.check_interface(decoder, *interface)
        keep(decoder, "decoder", variant)
        del decoder
    limits = (LIMIT,) if mixtures(model) else ()
    # Clients that choose a class by model type have none where transformers has none.
    clients = CLIENTS[:1] if parts.family.native else CLIENTS
    return WrittenGraphs(paths, sizes, fused, not_fused, limits, clients)


def check_arguments(variants: Sequence[str], dtype: str) -> None:
    """Raises `InputError` for a precision or a variant that is not written."""
    if dtype not in DTYPES:
        raise InputError(explain("dtype", dtype, f"must be one of {', '.join(DTYPES)}"))
    if not variants or not set(variants) <= set(VARIANTS):
        raise InputError(explain("variants", tuple(variants), f"must be some of {', '.join(VARIANTS)}"))


def _quantized(folder: Path, record: ExportRecord) -> ExportRecord:
    """The decoders in the record's precision instead of fp32, and what that cost, as limits and facts."""
    rows = quantize_decoders(folder, (record.dtype,), record.variants, replace=True)
    limits, facts = list(record.limits), dict(record.facts)
    for row in rows:
        share = f"{row.same_tokens} of {row.compared_tokens} greedy tokens are those of fp32"
        limits.append(
            f"{row.key} ({row.format}) answers otherwise than the fp32 graph that was checked: {share}, mean "
            f"logit error {row.mean_logit_error:.2g} of {row.max_logit:.3g}, on random prompts; no gate "
            "passes it, an evaluation on your own questions decides"
        )
        if row.kept_bytes:
            kept = f"{row.kept_bytes / 1e6:.4g} of {row.source_size_bytes / 1e6:.4g} MB"
            limits.append(f"{row.key} ({row.format}): the experts' weights, {kept}, stay fp32")
        facts |= {
            f"{row.key}.{name}": getattr(row, name)
            for name in ("max_logit_error", "mean_logit_error", "same_tokens", "compared_tokens")
        }
    artifacts = tuple(replace(artifact, checked=False) for artifact in record.artifacts)
    return replace(record, artifacts=artifacts, limits=tuple(limits), facts=facts)
