"""The exported folder: file names, the text files beside the graphs, and `topovlm_runtime.json`.

The folder follows the convention of transformers.js and the ONNX community, so it loads there as it is:
graphs under onnx/, a quantised or half-precision graph marked by a suffix, `preprocessor_config.json` beside
`processor_config.json`. Only `write_texts` needs torch, for the tokenizer that it saves.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from topovlm.artifacts import MOST_TOKENIZER_BYTES, read_json, sha256_file, write_json
from topovlm.checkpoint.chat import chat_template
from topovlm.checkpoint.files import read_config, read_preprocessor, read_video_settings
from topovlm.errors import InputError, explain
from topovlm.families.catalogue import family_of
from topovlm.families.configs import ModelConfig, image_token_id, text_part
from topovlm.families.family import Family
from topovlm.families.sizes import completed, picture_rules, read_shape
from topovlm.runtime.runtime_file import DecoderSizes, PromptRules, RuntimeFile, write_runtime_file
from topovlm.runtime.template import adds_special_tokens, messages, render, special_tokens

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PARTS = {"vision": "vision_encoder", "embed": "embed_tokens", "decoder": "decoder_model_merged"}
SUFFIXES = {"fp32": "", "fp16": "_fp16", "int8": "_quantized", "int4": "_q4"}
_COPIED = ("generation_config.json", "special_tokens_map.json")
SINGLE_FILE_BYTES = 1_900_000_000  # protobuf stops at 2 GiB; leaves room for the graph itself


def graph_path(part: str, variant: str = "plain", dtype: str = "fp32") -> str:
    """`onnx/<part>[_fused][_fp16|_quantized|_q4].onnx`, relative to the exported folder."""
    fused = "_fused" if variant == "fused" else ""
    return f"onnx/{PARTS[part]}{fused}{SUFFIXES[dtype]}.onnx"


def graph_key(part: str, variant: str = "plain", dtype: str = "fp32") -> str:
    """The graph's name in `topovlm_runtime.json`: vision, embed, decoder, decoder_fused, decoder_q4, ..."""
    return part + ("_fused" if variant == "fused" else "") + SUFFIXES[dtype]


def write_texts(
    model_dir: Path,
    out: Path,
    *,
    graphs: Mapping[str, str],
    decoder: DecoderSizes,
    processor: Any,
) -> RuntimeFile:
    """Write every file of the folder that is no graph; returns the content of `topovlm_runtime.json`.

    `graphs` maps keys (`graph_key`) to paths relative to `out`, which must exist already. `processor`: the
    checkpoint's, loaded: its tokenizer as transformers runs it may do other than its file says.
    Raises `InputError` when the checkpoint lacks its tokenizer, image processor or chat template.
    """
    from topovlm.checkpoint.processors import fast_tokenizer

    config = read_config(model_dir)
    family = family_of(config, "export")
    tokenizer = fast_tokenizer(processor, model_dir)
    for name in _COPIED:
        if (model_dir / name).is_file():
            shutil.copyfile(model_dir / name, out / name)
    tokenizer.save(str(out / "tokenizer.json"))
    settings = tokenizer_settings(model_dir)
    template = (
        "" if family.prompt == "plain" else chat_template(model_dir, config, family, tokenizer.id_to_token)
    )
    if template:
        (out / "chat_template.jinja").write_text(template, encoding="utf-8")
        settings = {**settings, "chat_template": template}
    write_json(out / "tokenizer_config.json", settings)
    clients = {"transformers.js_config": _client_config(out, graphs)}
    write_json(out / "config.json", {**completed(config), **clients})
    image_id = None
    if "vision" in graphs:
        _write_processor(model_dir, out, config, family, out / graphs["vision"])
        image_id = image_token_id(config, family.defaults)
        if image_id is None:
            raise InputError(explain("image_token_id", None, "is not in config.json", "Complete it"))
    eos = _eos_ids(model_dir, config)
    if not (out / "generation_config.json").is_file():
        write_json(out / "generation_config.json", {"eos_token_id": eos, "do_sample": False})
    content = RuntimeFile(
        model_type=family.model_type,
        prompt=_prompt_rules(tokenizer, family, template, settings),
        strategy=strategy_name(config, family),
        image_token_id=image_id,
        positions=family.positions,
        first_position=family.first_position,
        mask=family.mask,
        eos_token_ids=tuple(eos),
        decoder=decoder,
        graphs=dict(graphs),
        source_config_sha256=sha256_file(model_dir / "config.json"),
    )
    write_runtime_file(out, content)
    return content


def strategy_name(config: ModelConfig, family: Family) -> str | None:
    """The module of `runtime.pictures`; None for models without pictures."""
    return None if family.tokens is None else picture_rules(config, family).strategy


def _prompt_rules(
    tokenizer: Tokenizer, family: Family, template: str, settings: Mapping[str, Any]
) -> PromptRules:
    """Checked with the checkpoint's own tokenizer: what it adds to a rendered prompt."""
    if family.tokens is None:  # a tokenizer alone adds nothing to its own template
        return PromptRules(parts=False)
    if family.prompt == "plain":
        return PromptRules(form="plain")
    named = special_tokens(settings)
    text = render(template, messages(0, "words"), tokens=named)
    with_its_own = tokenizer.encode(text, add_special_tokens=True).ids
    differs = with_its_own != tokenizer.encode(text, add_special_tokens=False).ids
    return PromptRules(add_special_tokens=differs and adds_special_tokens(text, named.get("bos_token")))


def graph_files(path: Path) -> list[Path]:
    """A graph on disk and, where it has one, its data file."""
    return [file for file in (path, path.with_name(f"{path.name}_data")) if file.is_file()]


def graph_bytes(path: Path) -> int:
    """Size of a graph on disk, its data file included."""
    return sum(file.stat().st_size for file in graph_files(path))


def tokenizer_settings(model_dir: Path) -> ModelConfig:
    """tokenizer_config.json, and what older checkpoints keep of it in special_tokens_map.json."""
    settings: ModelConfig = read_json(model_dir / "tokenizer_config.json")
    older = model_dir / "special_tokens_map.json"
    if "added_tokens_decoder" in settings or not older.is_file():
        return settings
    return {**settings, **read_json(older)}


def image_settings(model_dir: Path) -> ModelConfig:
    """The image processor's configuration. Raises `InputError` for a checkpoint without one."""
    settings = read_preprocessor(model_dir, read_config(model_dir))
    if not settings:
        rule, remedy = "the checkpoint has no image processor", "Save the processor beside it"
        raise InputError(explain("preprocessor_config.json", str(model_dir), rule, remedy))
    return settings


def _write_processor(
    model_dir: Path, out: Path, config: ModelConfig, family: Family, vision_graph: Path
) -> None:
    """processor_config.json, preprocessor_config.json and that of videos, where each client looks for them.

    Raises `InputError` for a checkpoint without an image processor.
    """
    file = model_dir / "processor_config.json"
    processor = read_json(file) if file.is_file() else {}
    images = image_settings(model_dir)
    kind = str(images.get("image_processor_type", "ImageProcessor"))
    for ending in ("Pil", "Fast"):
        kind = kind.removesuffix(ending)
    images = {**images, "image_processor_type": kind}
    processor = {**processor, "image_processor": images}
    if family.clients is not None and family.clients.counts_grid:
        processor |= _counted(model_dir, config, processor, _tokens_per_image(vision_graph))
    if family.clients is not None:
        processor |= {**family.clients.processor, "processor_class": family.clients.processor_class}
    write_json(out / "processor_config.json", processor)
    named = {"processor_class": processor["processor_class"]} if "processor_class" in processor else {}
    write_json(out / "preprocessor_config.json", {**images, **named})
    videos = read_video_settings(model_dir)
    if videos and "video_processor" not in processor:
        write_json(out / "video_preprocessor_config.json", videos)


def _counted(
    model_dir: Path, config: ModelConfig, processor: ModelConfig, tokens_per_image: int
) -> dict[str, Any]:
    """What clients need that count `grid + num_additional_image_tokens` for a picture.

    The vision graph has done the selection of features itself: what counts is what the graph returns.
    """
    shape = read_shape(config)  # knows what a configuration may leave out
    tower = shape.vision
    if tower is None:
        raise InputError(
            explain("vision_config", config.get("vision_config"), "must describe a vision tower")
        )
    side, patch = tower.image_size, processor.get("patch_size") or tower.patch
    additional = tokens_per_image - (side // patch) ** 2
    # A tower without a class token may be asked to leave its first feature out, as if it were one.
    if additional < -int(shape.drop_first_token and not tower.class_token):
        rule = f"is more than the {tokens_per_image} features that the vision graph returns per picture"
        raise InputError(explain("patches per picture", (side // patch) ** 2, rule))
    return {
        "image_token": processor.get("image_token") or _image_token(model_dir, config),
        "patch_size": patch,
        "num_additional_image_tokens": additional,
    }


def _tokens_per_image(vision_graph: Path) -> int:
    import onnx

    graph = onnx.load(vision_graph, load_external_data=False).graph
    return int(graph.output[0].type.tensor_type.shape.dim[1].dim_value)


def _image_token(model_dir: Path, config: ModelConfig) -> str:
    wanted = image_token_id(config, family_of(config, "export").defaults)
    for token in read_json(model_dir / "tokenizer.json", most_bytes=MOST_TOKENIZER_BYTES).get(
        "added_tokens", []
    ):
        if token["id"] == wanted:
            return str(token["content"])
    raise InputError(explain("image_token_id", wanted, "is not an added token of the tokenizer"))


def _eos_ids(model_dir: Path, config: ModelConfig) -> list[int]:
    file = model_dir / "generation_config.json"
    sources = [read_json(file) if file.is_file() else {}, text_part(config), config]
    for source in sources:
        held = source.get("eos_token_id")
        if held is not None:
            return [held] if isinstance(held, int) else list(held)
    raise InputError(explain("eos_token_id", None, "is neither in generation_config.json nor in config.json"))


def _client_config(out: Path, graphs: Mapping[str, str]) -> dict[str, object]:
    """What transformers.js reads: which precision to load by default, and which graphs have a data file."""
    names = [Path(path).name for path in graphs.values()]
    external = {name: 1 for name in names if (out / "onnx" / f"{name}_data").is_file()}
    held = {part: _client_dtype(names, file) for part, file in PARTS.items()}
    # One word where all parts have one precision; by file where a quantised decoder stands beside fp32 parts.
    one = held["decoder"] if len(set(held.values())) == 1 else None
    dtype = one or {PARTS[part]: dtype for part, dtype in held.items()}
    return {"dtype": dtype, **({"use_external_data_format": external} if external else {})}


def _client_dtype(names: Collection[str], file: str) -> str:
    """The first precision, in transformers.js' words, in which that graph is there."""
    known = zip(SUFFIXES.values(), ("fp32", "fp16", "q8", "q4"), strict=True)
    return next((dtype for suffix, dtype in known if f"{file}{suffix}.onnx" in names), "fp32")


def replace_graphs(out: Path, content: RuntimeFile, graphs: Mapping[str, str]) -> RuntimeFile:
    """Name other graphs (key -> path) in a folder that is already written; returns the new content."""
    config = read_json(out / "config.json")
    config["transformers.js_config"] = _client_config(out, graphs)
    write_json(out / "config.json", config)
    changed = replace(content, graphs=dict(graphs))
    write_runtime_file(out, changed)
    return changed
