"""`topovlm_runtime.json`: what an exported folder says about itself. Read once, checked, typed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from topovlm.errors import InputError, explain
from topovlm.records import plain, read
from topovlm.runtime.preprocess import ImageRecipe
from topovlm.runtime.runtime_file import MANIFEST_NAME, Pictures, RuntimeFile, read_runtime_file

_REMEDY = (
    "Give a folder written by `topovlm export` or `topovlm deploy` (it holds topovlm_runtime.json and onnx/)"
)


@dataclass(frozen=True)
class Manifest:
    """An exported folder; the paths are absolute and exist."""

    folder: Path
    prompt_prefix: str
    prompt_image: str  # the piece that stands for one picture
    prompt_suffix: str
    add_special_tokens: bool
    image_token_id: int
    tokens_per_image: int
    eos_token_ids: frozenset[int]
    layers: int
    kv_heads: int
    head_dim: int
    hidden: int
    vision: dict[str, Path]  # by precision suffix: "" (fp32), "_fp16", "_q4", ...
    embed: dict[str, Path]
    decoders: dict[str, Path]  # by form and precision suffix: "plain", "fused", "fused_fp16", ...
    image: ImageRecipe
    file: RuntimeFile

    @property
    def tokenizer_file(self) -> Path:
        return self.folder / "tokenizer.json"

    def resolve(self, variant: str) -> str:
        """The full name of a decoder graph that is there.

        `auto` prefers fused, then full precision; `plain` and `fused` alone take the first precision listed.
        Raises `InputError` when the folder has no such graph.
        """
        if variant in self.decoders:
            return variant
        forms = {"auto": ("fused", "plain")}.get(variant, (variant,))
        for form in forms:
            if form in self.decoders:
                return form
            for name in self.decoders:
                if form in ("plain", "fused") and name.startswith(f"{form}_"):
                    return name
        rule = f"is not in {self.folder}; it has {', '.join(sorted(self.decoders))}"
        raise InputError(explain("variant", variant, rule))

    def parts(self, variant: str) -> tuple[Path, Path, Path]:
        """(vision, embed, decoder) graphs of a resolved variant, in its precision where they have it."""
        suffix = variant.removeprefix("plain").removeprefix("fused")
        vision, embed = (part.get(suffix, next(iter(part.values()))) for part in (self.vision, self.embed))
        return vision, embed, self.decoders[variant]


def load_manifest(folder: str | Path) -> Manifest:
    """Read and check an exported folder. Raises `InputError` when it is none, or when a file is missing."""
    folder = Path(folder).expanduser().resolve()
    file = folder / MANIFEST_NAME
    if not folder.is_dir():
        rule = "is not a folder" if folder.exists() else "no such folder"
        raise InputError(explain("model", str(folder), rule, _REMEDY))
    if not file.is_file():
        raise InputError(
            explain("model", str(folder), f"is no exported model: {MANIFEST_NAME} is missing", _REMEDY)
        )
    held = read_runtime_file(folder)
    graphs = {name: folder / path for name, path in held.graphs.items()}
    vision, embed, decoder_graphs = (_by_suffix(graphs, part) for part in ("vision", "embed", "decoder"))
    if not (vision and embed and decoder_graphs):
        rule = "must list vision, embed and decoder"
        raise InputError(explain(f"{file}: graphs", sorted(graphs), rule, "Export again"))
    decoders = {("" if key.startswith("_fused") else "plain") + key: p for key, p in decoder_graphs.items()}
    decoders = {key.removeprefix("_"): path for key, path in decoders.items()}
    for path in (*graphs.values(), folder / "tokenizer.json"):
        if not path.is_file():
            raise InputError(
                explain("model", str(path), "is listed in the export but missing", "Export again")
            )
    eos = held.eos_token_ids
    return Manifest(
        folder=folder,
        prompt_prefix=held.prompt.prefix,
        prompt_image=held.prompt.image,
        prompt_suffix=held.prompt.suffix,
        add_special_tokens=held.prompt.add_special_tokens,
        image_token_id=held.image_token_id,
        tokens_per_image=held.tokens_per_image,
        eos_token_ids=frozenset((eos,) if isinstance(eos, int) else eos),
        layers=held.decoder.layers,
        kv_heads=held.decoder.kv_heads,
        head_dim=held.decoder.head_dim,
        hidden=held.decoder.hidden,
        vision=vision,
        embed=embed,
        decoders=decoders,
        image=_image_recipe(folder, held.image),
        file=held,
    )


def _by_suffix(graphs: dict[str, Path], part: str) -> dict[str, Path]:
    """What follows the part's name in the graph keys -> file: `decoder_fused_fp16` -> `_fused_fp16`."""
    return {key.removeprefix(part): path for key, path in graphs.items() if key.startswith(part)}


def _image_recipe(folder: Path, pictures: Pictures) -> ImageRecipe:
    """The processor's own file says more (crop, aspect, switches) than the summary in the manifest."""
    for name, key in (("preprocessor_config.json", None), ("processor_config.json", "image_processor")):
        if (folder / name).is_file():
            whole: dict[str, Any] = read(folder / name, dict[str, Any], field=name, remedy="Export again")
            config = whole if key is None else whole.get(key)
            if config:
                return ImageRecipe.from_config(config, field=name)
    return ImageRecipe.from_config(plain(pictures), field=f"{MANIFEST_NAME}: image")
