"""`topovlm_runtime.json` as it is written and read: typed, one schema. `manifest`: the folder as it runs."""

from __future__ import annotations

from pathlib import Path

from topovlm.artifacts import write_json
from topovlm.records import Part, plain, read

MANIFEST_NAME = "topovlm_runtime.json"
SCHEMA = 1


class PromptPieces(Part, frozen=True, kw_only=True):
    """The chat template taken apart: prefix, `image` once per picture, the words, suffix."""

    prefix: str
    image: str
    suffix: str
    add_special_tokens: bool = False


class Pictures(Part, frozen=True, kw_only=True):
    """What the vision graph takes (px), and how pictures are scaled and normalised."""

    height: int
    width: int
    resample: int = 3
    rescale_factor: float = 1 / 255
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


class DecoderSizes(Part, frozen=True, kw_only=True):
    """Sizes that the decoder's inputs and outputs show."""

    layers: int
    hidden: int
    kv_heads: int
    head_dim: int
    vocab: int


class RuntimeFile(Part, frozen=True, kw_only=True):
    """The file as it is written. `graphs`: part, form and precision -> path in the folder."""

    schema: int = SCHEMA
    prompt: PromptPieces
    image_token_id: int
    tokens_per_image: int
    eos_token_ids: int | tuple[int, ...]
    image: Pictures
    decoder: DecoderSizes
    graphs: dict[str, str]
    source_config_sha256: str | None = None


def read_runtime_file(folder: Path) -> RuntimeFile:
    """Of an exported folder. Raises `InputError` when it is missing, damaged or of another schema."""
    file = folder / MANIFEST_NAME
    return read(file, RuntimeFile, field="exported model", remedy="Export again", schema=SCHEMA)


def decoder_keys(content: RuntimeFile) -> list[str]:
    """Keys of the decoder graphs."""
    return [key for key in content.graphs if key.startswith("decoder")]


def write_runtime_file(folder: Path, content: RuntimeFile) -> None:
    """Keys in the order of the fields."""
    write_json(folder / MANIFEST_NAME, plain(content))
