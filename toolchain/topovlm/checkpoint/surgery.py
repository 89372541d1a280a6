"""Removing decoder layers from a checkpoint on disk, tensor by tensor. Torch-free.

Peak memory is one copy buffer, whatever the size of the model; the result is a stock checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from topovlm.artifacts import read_json, staged_folder, write_json, write_text
from topovlm.checkpoint.card import license_of, model_card
from topovlm.checkpoint.files import INDEX, SINGLE, Checkpoint, is_hub_id, open_checkpoint
from topovlm.checkpoint.folder import side_files
from topovlm.checkpoint.outcome import SurgeryReport
from topovlm.checkpoint.own_code import named_code, without_own_code
from topovlm.checkpoint.safetensors_file import TensorEntry, write_file
from topovlm.errors import InputError, explain
from topovlm.families.configs import ModelConfig
from topovlm.families.layers import Change, refuse_tied_layers, refuse_unknown_layer_fields, rewrite_config
from topovlm.families.original import stated

Progress = Callable[[int, int], None]


def parse_layers(text: str, field: str = "--drop") -> list[int]:
    """`12,13,20-24` -> [12, 13, 20, 21, 22, 23, 24], ascending. Raises `InputError` for anything else."""
    layers: list[int] = []
    for part in text.split(","):
        low, dash, high = (piece.strip() for piece in part.strip().partition("-"))
        if not low.isdecimal() or (dash and not high.isdecimal()):
            rule = f"{part.strip()!r} is neither a layer nor a range of layers"
            raise InputError(explain(field, text, rule, "Write e.g. 12,13,20-24"))
        first, last = int(low), int(high) if dash else int(low)
        if last < first:
            raise InputError(explain(field, text, f"the range {part.strip()} runs backwards"))
        if last - first > 10_000:
            raise InputError(explain(field, text, f"the range {part.strip()} is longer than any model"))
        layers += range(first, last + 1)
    repeated = sorted({layer for layer in layers if layers.count(layer) > 1})
    if repeated:
        raise InputError(explain(field, text, f"layer {repeated[0]} is named twice"))
    return sorted(layers)


def check_drop(drop: Sequence[int], layers: int, field: str = "--drop") -> tuple[int, ...]:
    """The dropped layers, ascending; refuses layers out of range, named twice, or all of them."""
    values = list(drop)
    for layer in values:
        if isinstance(layer, bool) or not isinstance(layer, int) or not 0 <= layer < layers:
            rule = f"layer {layer} does not exist: the model has layers 0 to {layers - 1}"
            raise InputError(explain(field, values, rule))
    repeated = sorted({layer for layer in values if values.count(layer) > 1})
    if repeated:
        raise InputError(explain(field, values, f"layer {repeated[0]} is named twice"))
    if len(values) == layers:
        raise InputError(explain(field, values, f"would remove all {layers} layers"))
    return tuple(sorted(values))


def prune_checkpoint(
    src: Path | str | Checkpoint, dst: Path | str, drop: Sequence[int], *, progress: Progress | None = None
) -> SurgeryReport:
    """Write `src` without the decoder layers `drop` to `dst`; `dst` appears whole or not at all.

    Layers are re-indexed from 0, every per-layer field of the configuration is rewritten, tokenizer and
    processor files are copied, README.md becomes a card of the slim model, which calls an opened `src` by
    what it was opened as. An empty `drop` gives a faithful copy. `progress(done_bytes, total_bytes)` is
    called per tensor. Raises `InputError`.
    """
    checkpoint = src if isinstance(src, Checkpoint) else open_checkpoint(src)
    dropped = check_drop(drop, checkpoint.layers)
    kept = tuple(layer for layer in range(checkpoint.layers) if layer not in dropped)
    config, changes = checkpoint.config, dict[str, Change]()
    if dropped:
        refuse_tied_layers(config, checkpoint.family, dropped)
        refuse_unknown_layer_fields(config, checkpoint.family, checkpoint.decoder)
        config, changes = rewrite_config(config, checkpoint.family, checkpoint.decoder, kept)
    if "auto_map" in config:  # names Python files, which are not carried along
        changes["auto_map"] = Change(before=config["auto_map"], after=None)
        config = {name: value for name, value in config.items() if name != "auto_map"}
    final = Path(dst)
    _refuse_overlap(checkpoint.folder, final)
    shards = _plan_shards(checkpoint, kept)
    total = sum(entry.size_bytes for shard in shards.values() for _, entry in shard)
    license_ = license_of(checkpoint.folder)
    done = 0

    def count(size_bytes: int) -> None:
        nonlocal done
        done += size_bytes
        if progress:
            progress(done, total)

    with staged_folder(final) as stage:
        for name, tensors in shards.items():
            write_file(stage / name, tensors, _metadata(checkpoint, tensors), on_bytes=count)
        parameters = sum(entry.elements for shard in shards.values() for _, entry in shard)
        if list(shards) != [SINGLE]:
            write_json(stage / INDEX, _index(checkpoint, shards, total, parameters))
        write_json(stage / "config.json", stated(config))
        for path in side_files(checkpoint.folder):
            if path.name != "config.json":
                _carry(path, stage / path.name)
        source = checkpoint.source if is_hub_id(checkpoint.source) else checkpoint.folder.resolve().name
        report = SurgeryReport(
            source=source,
            folder=final.name,
            source_layers=checkpoint.layers,
            dropped=dropped,
            kept=kept,
            weight_bytes_before=checkpoint.weight_bytes,
            weight_bytes_after=total,
            parameters_before=checkpoint.parameters,
            parameters_after=parameters,
            config_changes=changes,
            license=license_,
            weight_files=tuple(shards),
            text_only=checkpoint.family.text_only,
            stock=not checkpoint.family.native,
        )
        on_hub = is_hub_id(checkpoint.source) and not Path(checkpoint.source).is_dir()
        write_text(stage / "README.md", model_card(report, base_model=source if on_hub else None))
    return report


def _carry(source: Path, target: Path) -> None:
    """A side file as it is, but without the names of Python files, which are not carried along."""
    if source.suffix == ".json" and named_code(source):
        write_json(target, without_own_code(read_json(source)))
    else:
        target.write_bytes(source.read_bytes())


def _refuse_overlap(source: Path, final: Path) -> None:
    inside, outside = source.resolve(), final.resolve()
    if inside == outside or inside in outside.parents or outside in inside.parents:
        raise InputError(explain("output", str(final), f"overlaps the source model {source}"))
    if final.exists() and not final.is_dir():
        raise InputError(explain("output", str(final), "is a file, not a directory", "Choose another place"))


def _plan_shards(checkpoint: Checkpoint, kept: Sequence[int]) -> dict[str, list[tuple[str, TensorEntry]]]:
    """Output file -> (new tensor name, source entry) in the order of the source's bytes."""
    number = {old: new for new, old in enumerate(kept)}
    per_source: dict[Path, list[tuple[str, TensorEntry]]] = {path: [] for path in checkpoint.metadata}
    for name, entry in checkpoint.tensors.items():
        layer = checkpoint.layer_of(name)
        if layer is None:
            per_source[entry.file].append((name, entry))
        elif layer in number:
            rest = name[len(checkpoint.layer_prefix) :].split(".", 1)[1]
            per_source[entry.file].append((f"{checkpoint.layer_prefix}{number[layer]}.{rest}", entry))
    filled = [tensors for tensors in per_source.values() if tensors]
    if len(filled) == 1:
        return {SINGLE: filled[0]}
    count = len(filled)
    return {
        f"model-{index:05d}-of-{count:05d}.safetensors": rows for index, rows in enumerate(filled, start=1)
    }


def _metadata(checkpoint: Checkpoint, tensors: list[tuple[str, TensorEntry]]) -> dict[str, str]:
    """The source shard's metadata; "format" is required by transformers and absent from some writers."""
    return {"format": "pt", **checkpoint.metadata[tensors[0][1].file]}


def _index(
    checkpoint: Checkpoint,
    shards: dict[str, list[tuple[str, TensorEntry]]],
    total_bytes: int,
    parameters: int,
) -> ModelConfig:
    metadata = {**checkpoint.index_metadata, "total_size": total_bytes}
    if "total_parameters" in metadata:
        metadata["total_parameters"] = parameters
    weight_map = {name: file for file, tensors in shards.items() for name, _ in tensors}
    return {"metadata": metadata, "weight_map": dict(sorted(weight_map.items()))}
