"""`topovlm_runtime.json` as it is written and read: typed, one schema. `manifest`: the folder as it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from topovlm.artifacts import write_json
from topovlm.records import Strict, plain, read

MANIFEST_NAME = "topovlm_runtime.json"
SCHEMA = 2
# What no model comes near: numbers of a damaged file end here, not in an array of that size.
Count = Annotated[int, Meta(ge=1, le=1 << 20)]
TokenId = Annotated[int, Meta(ge=0, lt=1 << 31)]
Few = Annotated[int, Meta(ge=0, le=1024)]


class PromptRules(Strict, frozen=True, kw_only=True):
    """How words become a prompt: the folder's chat template, or the words as they are.

    `add_special_tokens`: whether the tokenizer adds its own around the rendered text. `parts`: whether the
    template takes a message as a list of parts, or as one string.
    """

    form: Literal["template", "plain"] = "template"
    add_special_tokens: bool = False
    parts: bool = True


class DecoderSizes(Strict, frozen=True, kw_only=True):
    """Sizes that the decoder's inputs and outputs show.

    `rows`: of position_ids, 1 or 3. `stacked`: layers with picture features added behind them.
    """

    layers: Count
    hidden: Count
    kv_heads: Count
    head_dim: Count
    vocab: Annotated[int, Meta(ge=1, le=1 << 26)]
    rows: Annotated[int, Meta(ge=1, le=3)] = 1
    stacked: Few = 0


class RuntimeFile(Strict, frozen=True, kw_only=True):
    """The file as it is written; a field that is not known could change what the graphs mean: refused.

    `graphs`: part, form and precision -> path in the folder. `strategy`: the module of `runtime.pictures`,
    and `image_token_id`: None for a model without pictures. `first_position`: of the first token. `mask`: as
    in the family's record.
    """

    schema: int = SCHEMA
    model_type: str
    prompt: PromptRules
    strategy: str | None = None
    image_token_id: TokenId | None = None
    positions: Literal["sequential", "grid"] = "sequential"
    first_position: Few = 0
    mask: Literal["causal", "blocks", "prefix"] = "causal"
    eos_token_ids: tuple[TokenId, ...]
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
