"""Opening a checkpoint folder, or saying in one sentence why it cannot be used. Torch-free.

`read_facts` reads configurations alone (that is all a plan needs); `open_checkpoint` also reads the weight
headers and checks that every tensor a run needs is really there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from topovlm.artifacts import digest_of, read_json, sha256_file
from topovlm.checkpoint.complete import check_tensors, may_be_tied
from topovlm.checkpoint.folder import SIDE_FILES, check_folder, side_files
from topovlm.checkpoint.own_code import refuse_own_code
from topovlm.checkpoint.safetensors_file import TensorEntry, read_header
from topovlm.errors import InputError, explain
from topovlm.families.catalogue import decoder_of, family_of, find_family
from topovlm.families.configs import VISION_KEY, ModelConfig, text_part
from topovlm.families.facts import ModelFacts
from topovlm.families.family import Action, Decoder, Family
from topovlm.families.images import checked_images, video_settings
from topovlm.families.layers import layer_count, shape_groups
from topovlm.families.limits import check_limits
from topovlm.families.original import image_processor, normal

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
# Where an image processor's configuration lies, and under which key, in transformers' own order.
_PREPROCESSORS = (("processor_config.json", "image_processor"), ("preprocessor_config.json", None))
_CONFIGURATIONS = ("config.json", *(name for name, _ in _PREPROCESSORS))
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_BLOB_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Checkpoint:
    """An opened folder: configuration, family facts and where every tensor lies. No weights in memory."""

    folder: Path
    source: str
    facts: ModelFacts
    family: Family
    decoder: Decoder
    layers: int
    layer_prefix: str
    tensors: dict[str, TensorEntry]
    metadata: dict[Path, dict[str, str]]
    index_metadata: ModelConfig

    @property
    def config(self) -> ModelConfig:
        """config.json."""
        return self.facts.config

    @property
    def weight_bytes(self) -> int:
        return sum(entry.size_bytes for entry in self.tensors.values())

    @property
    def parameters(self) -> int:
        return sum(entry.elements for entry in self.tensors.values())

    def layer_of(self, name: str) -> int | None:
        """The decoder layer a tensor belongs to; None for everything outside the decoder's blocks."""
        if not name.startswith(self.layer_prefix):
            return None
        return int(name[len(self.layer_prefix) :].split(".", 1)[0])


def is_hub_id(source: str) -> bool:
    """Whether the text has the form `owner/name` of a model hub."""
    return _HUB_ID.fullmatch(source) is not None


def resolve(source: Path | str, *, config_only: bool = False) -> Path:
    """The folder of a checkpoint: a local folder, else a hub id resolved through the local hub cache.

    `HF_HUB_OFFLINE`, `HF_HOME` and `HF_TOKEN` are respected. Raises `InputError` when it cannot be had.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        return path
    if path.exists():
        raise InputError(explain("--model", str(source), "is a file", "Give the checkpoint's folder"))
    if not isinstance(source, str) or not is_hub_id(source):
        rule = "is neither a folder nor a hub id of the form owner/name"
        raise InputError(explain("--model", str(source), rule))
    return _from_hub(source, config_only)


def _from_hub(source: str, config_only: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        # snapshot_download gives up at once without a network; hf_hub_download retries for half a minute.
        patterns = list(_CONFIGURATIONS) if config_only else [*SIDE_FILES, "*.safetensors", "README.md"]
        return Path(snapshot_download(source, allow_patterns=patterns))
    except GatedRepoError:
        rule, remedy = "is gated", "Accept its terms on the hub and set HF_TOKEN"
    except RepositoryNotFoundError:
        rule, remedy = "does not exist on the hub, or is private", "Check the name, or set HF_TOKEN"
    except HFValidationError:
        rule, remedy = "is not a valid hub id", "Give a folder, or owner/name"
    except LocalEntryNotFoundError:
        rule = "is no folder here, is not in the local hub cache, and the hub cannot be reached"
        remedy = "Give a local folder, or run once with network access and HF_HUB_OFFLINE unset"
    except EntryNotFoundError:
        rule, remedy = "has no config.json", "Give a transformers checkpoint"
    except OSError as error:  # every transport error of the hub client is one
        rule = f"could not be fetched from the hub ({type(error).__name__})"
        remedy = "Give a local folder, or check the network"
    raise InputError(explain("--model", source, rule, remedy))


def read_json_object(path: Path, what: str) -> ModelConfig:
    """A JSON object from a checkpoint's file; `InputError` names the file, and the line when it is broken."""
    value: Any = read_json(path, field=what)
    if not isinstance(value, dict):
        raise InputError(explain(what, str(path), "must hold a JSON object"))
    return value


def read_config(folder: Path) -> ModelConfig:
    """config.json in the form that the rest reads (`families.original`). Raises `InputError`."""
    return normal(read_json_object(folder / "config.json", "config.json"))


def read_facts(source: Path | str) -> ModelFacts:
    """config.json and image processor of a checkpoint whose family can be planned; reads no weights."""
    folder = resolve(source, config_only=True)
    return _facts(folder, str(source), "plan")


def _facts(folder: Path, source: str, action: Action) -> ModelFacts:
    check_folder(folder)
    config = _checked_config(folder, source, action)
    return ModelFacts(config, read_preprocessor(folder, config), read_video_settings(folder) or None)


def read_preprocessor(folder: Path, config: ModelConfig | None = None) -> ModelConfig | None:
    """The image processor's configuration beside config.json, where there is one, else what `config` implies.

    All must be sound.
    """
    found = None
    for name, key in _PREPROCESSORS:
        content = _object(folder, name)
        if content is None:
            continue
        check_limits(content, name)
        field, held = (name, content) if key is None else (f"{name}: {key}", content.get(key))
        if held is None:
            continue
        if not isinstance(held, dict):
            raise InputError(explain(field, held, "must be an object", "Use the model's own file"))
        images = checked_images(held, field)
        found = images if found is None else found
    return found if found is not None or config is None else image_processor(config)


def read_video_settings(folder: Path) -> ModelConfig:
    """The video processor's configuration; empty where it is not stated apart from the image processor's."""
    return video_settings(lambda name: _object(folder, name))


def _object(folder: Path, name: str) -> ModelConfig | None:
    """A JSON object of the folder; None where the file is not there."""
    return read_json_object(folder / name, name) if (folder / name).is_file() else None


def _checked_config(folder: Path, source: str, action: Action) -> ModelConfig:
    path = folder / "config.json"
    if not path.is_file():
        if (folder / "adapter_config.json").is_file():
            rule, remedy = "holds an adapter, not a model", "Merge it into its base model first"
        else:
            rule, remedy = "has no config.json", "Give the folder of a transformers checkpoint"
        raise InputError(explain("--model", source, rule, remedy))
    try:
        config = read_config(folder)
    except InputError:
        # transformers writes infinities for some types: those are refused by their name, if they are.
        loose = read_json(path, field="config.json", constants=True)
        if isinstance(loose, dict):
            family_of(loose, action)
        raise
    known = find_family(config.get("model_type"))
    if not (known and known.own_code):
        refuse_own_code(folder)
    family = family_of(config, action)
    check_limits(config)
    if "prune" in family.actions:
        layer_count(config, family, decoder_of(config, family))
    if not family.text_only and not isinstance(config.get(VISION_KEY), dict):
        rule = "is missing or not an object, so there is no vision tower"
        raise InputError(explain(VISION_KEY, config.get(VISION_KEY), rule, "Give a complete config.json"))
    for where in (config, text_part(config)):
        held = where.get("quantization_config")
        if held:
            method = held.get("quant_method", "unknown") if isinstance(held, dict) else held
            remedy = "Give the unquantised source; quantisation comes after pruning"
            raise InputError(explain("quantization_config", method, "the weights are quantised", remedy))
    return config


def open_checkpoint(source: Path | str) -> Checkpoint:
    """Open a checkpoint and check it whole: configuration, shards, headers, tensors. Raises `InputError`."""
    folder = resolve(source)
    facts = _facts(folder, str(source), "prune")
    config, family = facts.config, family_of(facts.config, "prune")
    assert family.tensors is not None  # who prunes says where the tensors are
    decoder = decoder_of(config, family)
    layers = layer_count(config, family, decoder)
    shards, listed, index_metadata = _find_shards(folder, str(source))
    tensors: dict[str, TensorEntry] = {}
    metadata: dict[Path, dict[str, str]] = {}
    for shard in shards:
        entries, metadata[shard] = read_header(shard)
        for entry in entries:
            if entry.name in tensors:
                rule = f"holds the tensor {entry.name} that {tensors[entry.name].file.name} holds too"
                raise InputError(explain("weights", str(shard), rule))
            tensors[entry.name] = entry
    for name, file in listed.items():
        if name not in tensors or tensors[name].file.name != file:
            rule = f"lists the tensor {name} in {file}, where it is not"
            raise InputError(explain(INDEX, str(folder / INDEX), rule, "Copy the checkpoint again"))
    groups = shape_groups(config, family, decoder)
    tied = may_be_tied(config, family, decoder)
    prefix = check_tensors(tensors, family.tensors, groups, folder, tied=tied)
    return Checkpoint(
        folder, str(source), facts, family, decoder, layers, prefix, tensors, metadata, index_metadata
    )


def _find_shards(folder: Path, source: str) -> tuple[list[Path], dict[str, str], ModelConfig]:
    """Weight files, the index's tensor -> file map (empty for one file) and the index's metadata."""
    single, index = folder / SINGLE, folder / INDEX
    if single.is_file():  # transformers prefers it, too
        return [single], {}, {}
    if index.is_file():
        content = read_json_object(index, INDEX)
        weight_map = content.get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise InputError(explain(INDEX, str(index), "has no weight_map"))
        names = sorted(set(map(str, weight_map.values())))
        for name in (*weight_map.values(), *names):
            plain = isinstance(name, str) and "\0" not in name and Path(name).name == name
            if not plain or not name.endswith(".safetensors"):
                raise InputError(explain("weight_map", name, "is not the name of a safetensors file here"))
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            rule = f"lacks {len(missing)} of the {len(names)} shards its index names: {', '.join(missing)}"
            raise InputError(explain("--model", source, rule, "Download the missing files"))
        metadata = content.get("metadata")
        return [folder / name for name in names], weight_map, metadata if isinstance(metadata, dict) else {}
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix in _PICKLES)
    if pickles:
        rule = f"holds only pickled weights ({pickles[0]}), which can run code when they are opened"
        remedy = (
            "Convert them: load the model where you trust it and save_pretrained(..., safe_serialization)"
        )
        raise InputError(explain("--model", source, rule, remedy))
    raise InputError(explain("--model", source, f"has no weights ({SINGLE} or {INDEX})"))


def content_hash(folder: Path) -> str:
    """sha256 (hex) over the names and bytes of everything that decides what the model computes.

    Files of the hub cache are links to blobs named by their own sha256: those are not read again.
    """
    names = [*side_files(folder), *sorted(folder.glob("*.safetensors")), *sorted(folder.glob("*.index.json"))]
    digests = {path.name: _digest(path) for path in names}
    return digest_of(digests)


def _digest(path: Path) -> str:
    target = path.resolve()
    if path.is_symlink() and target.parent.name == "blobs" and _BLOB_SHA256.fullmatch(target.name):
        return target.name
    return sha256_file(path)
