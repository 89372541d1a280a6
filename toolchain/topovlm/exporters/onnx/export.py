"""Export a checkpoint to three ONNX graphs in a folder that ONNX Runtime clients load as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from topovlm.artifacts import sha256_file, staged_folder
from topovlm.errors import InputError, explain
from topovlm.exporters.onnx import layouts
from topovlm.exporters.onnx.parity import ParityResult, check_graphs
from topovlm.exporters.onnx.quiet import quiet_exporter

if TYPE_CHECKING:
    import onnx_ir as ir

_DTYPES = {"fp32": "float32", "fp16": "float16"}


@dataclass(frozen=True)
class ExportedFile:
    """One file of the exported folder."""

    path: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class ExportReport:
    """What was written and how close it is to torch (measured)."""

    folder: str
    dtype: str
    variants: tuple[str, ...]
    files: tuple[ExportedFile, ...]
    parity: tuple[ParityResult, ...]
    fused_attentions: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


def export_onnx(
    model_dir: str | Path,
    out_dir: str | Path,
    *,
    variants: Sequence[str] = ("plain", "fused"),
    dtype: str = "fp32",
    single_file_bytes: int = layouts.SINGLE_FILE_BYTES,
) -> ExportReport:
    """Write the exported folder `out_dir` (replaced as a whole, or untouched) from a checkpoint folder.

    Every graph is run by ONNX Runtime and compared with torch before the folder gets its name. A graph with
    more weights than `single_file_bytes` keeps them in `<graph>.onnx_data`: one file cannot pass 2 GiB.
    Raises `InputError` for a checkpoint outside of the family and `VerificationError` when parity fails.
    """
    with staged_folder(Path(out_dir)) as staged:
        report = export_into(
            Path(model_dir), staged, variants=variants, dtype=dtype, single_file_bytes=single_file_bytes
        )
    return replace(report, folder=str(out_dir))


def export_into(
    model_dir: Path,
    out: Path,
    *,
    variants: Sequence[str],
    dtype: str,
    single_file_bytes: int = layouts.SINGLE_FILE_BYTES,
) -> ExportReport:
    """`export_onnx` into a folder that exists and that the caller moves into place."""
    _check_arguments(variants, dtype)
    model = load_model(model_dir, dtype)
    graphs, decoder, fused = write_graphs(model, out, variants, dtype, single_file_bytes)
    tokens = _tokens_per_image(out / graphs["vision"])
    layouts.write_texts(model_dir, out, tokens_per_image=tokens, graphs=graphs, decoder=decoder)
    parity = check_graphs(model.float(), out)
    return ExportReport(str(out), dtype, tuple(variants), _listing(out), parity, fused)


def load_model(model_dir: Path, dtype: str = "fp32") -> Any:
    """The checkpoint in torch on CPU, family checked before any weight is read. Raises `InputError`."""
    import torch
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoModelForImageTextToText
    from transformers.utils import logging as transformers_logging

    from topovlm.exporters.onnx.graphs import check_family

    if not (model_dir / "config.json").is_file():
        raise InputError(explain("model", str(model_dir), "is no checkpoint folder: config.json is missing"))
    check_family(AutoConfig.from_pretrained(model_dir, local_files_only=True))
    bar = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        with quiet_exporter():
            # Eager attention traces to plain MatMul and Softmax; parity compares with the default attention.
            loaded: Any = AutoModelForImageTextToText.from_pretrained(
                model_dir,
                dtype=getattr(torch, _DTYPES[dtype]),
                attn_implementation="eager",
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
            )
    except (SafetensorError, OSError, RuntimeError) as error:
        rule = f"its weights cannot be read: {str(error).strip().splitlines()[0]}"
        raise InputError(explain("model", str(model_dir), rule)) from error
    finally:
        if bar:
            transformers_logging.enable_progress_bar()
    model, found = loaded
    if found["missing_keys"]:  # transformers would draw them at random
        missing = sorted(found["missing_keys"])
        rule = f"{len(missing)} weights are missing, {missing[0]} among them"
        raise InputError(explain("model", str(model_dir), rule))
    return model.eval().requires_grad_(False)


def write_graphs(
    model: Any, out: Path, variants: Sequence[str], dtype: str, single_file_bytes: int
) -> tuple[dict[str, str], dict[str, int], int]:
    """Trace, assemble, check and save the graphs under `out`.

    Returns (graph key -> relative path, decoder sizes, number of fused attentions).
    """
    from topovlm.exporters.onnx import files, graphs
    from topovlm.exporters.onnx.fused import fused_decoder_graph
    from topovlm.families.torch_parts import parts_of

    shape = parts_of(model).decoder_shape()
    sizes = {name: getattr(shape, name) for name in ("layers", "hidden", "kv_heads", "head_dim", "vocab")}
    paths: dict[str, str] = {}

    def keep(graph: ir.Model, part: str, variant: str = "plain") -> None:
        relative = layouts.graph_path(part, variant, dtype)
        files.save_graph(graph, out / relative, single_file_bytes)
        # The folder's own precision is its default: its keys carry no suffix.
        paths[layouts.graph_key(part, variant)] = relative

    keep(graphs.vision_graph(model), "vision")
    keep(graphs.embed_graph(model), "embed")
    pieces = graphs.trace_decoder(model)
    fused = 0
    for variant in variants:
        batch: int | str = graphs.BATCH if variant == "plain" else 1
        if variant == "plain":
            decoder = graphs.decoder_graph(model, pieces)
        else:
            decoder = fused_decoder_graph(model, pieces)
            fused = shape.layers
        files.check_interface(decoder, *files.decoder_interface(**sizes, batch=batch))
        keep(decoder, "decoder", variant)
        del decoder
    return paths, sizes, fused


def _check_arguments(variants: Sequence[str], dtype: str) -> None:
    if dtype not in _DTYPES:
        raise InputError(explain("dtype", dtype, f"must be one of {', '.join(_DTYPES)}"))
    if not variants or not set(variants) <= set(layouts.VARIANTS):
        raise InputError(
            explain("variants", tuple(variants), f"must be some of {', '.join(layouts.VARIANTS)}")
        )


def _tokens_per_image(vision_graph: Path) -> int:
    import onnx

    graph = onnx.load(vision_graph, load_external_data=False).graph
    return graph.output[0].type.tensor_type.shape.dim[1].dim_value


def _listing(folder: Path) -> tuple[ExportedFile, ...]:
    return tuple(
        ExportedFile(path.relative_to(folder).as_posix(), path.stat().st_size, sha256_file(path))
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    )
