"""An exported folder as it runs: `topovlm_runtime.json` and the files beside it. Read once, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from topovlm.artifacts import inside
from topovlm.errors import InputError, explain
from topovlm.families.facts import ModelFacts
from topovlm.families.images import MOST_SIDE, checked_images, video_settings
from topovlm.records import read
from topovlm.runtime.graph_file import external_files
from topovlm.runtime.runtime_file import MANIFEST_NAME, RuntimeFile, read_runtime_file
from topovlm.runtime.template import MAX_TEMPLATE

_REMEDY = (
    "Give a folder written by `topovlm export` or `topovlm deploy` (it holds topovlm_runtime.json and onnx/)"
)


@dataclass(frozen=True)
class Manifest:
    """An exported folder; the paths are absolute and exist.

    `layers`: of the decoder graphs. `vision` is empty for a model without pictures. `facts`: what its
    config.json and its image processor say. `processor`, `tokenizer`: the content of processor_config.json
    and of tokenizer_config.json, empty where there is none. `template`: the chat template's text. `videos`:
    the video processor's settings, empty where they are not stated apart from the image processor's.
    """

    folder: Path
    file: RuntimeFile
    layers: int
    vision: dict[str, Path]  # by precision suffix: "" (fp32), "_fp16", "_q4", ...
    embed: dict[str, Path]
    decoders: dict[str, Path]  # by form and precision suffix: "plain", "fused", "fused_fp16", ...
    facts: ModelFacts
    processor: Mapping[str, Any]
    tokenizer: Mapping[str, Any]
    template: str
    videos: Mapping[str, Any] = field(default_factory=dict)

    @property
    def tokenizer_file(self) -> Path:
        return self.folder / "tokenizer.json"

    @property
    def eos_token_ids(self) -> frozenset[int]:
        return frozenset(self.file.eos_token_ids)

    @property
    def image_token_id(self) -> int | None:
        return self.file.image_token_id

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

    def parts(self, variant: str) -> dict[str, Path]:
        """Graphs of a resolved variant by part, in its precision where they have it."""
        suffix = variant.removeprefix("plain").removeprefix("fused")
        others = {"vision": self.vision, "embed": self.embed}
        found = {name: held.get(suffix, next(iter(held.values()))) for name, held in others.items() if held}
        return {**found, "decoder": self.decoders[variant]}


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
    graphs = {name: _inside(folder, path, f"{file}: graphs.{name}") for name, path in held.graphs.items()}
    vision, embed, decoder_graphs = (_by_suffix(graphs, part) for part in ("vision", "embed", "decoder"))
    if not (embed and decoder_graphs and bool(vision) == (held.strategy is not None)):
        wanted = "embed and decoder" if held.strategy is None else "vision, embed and decoder"
        raise InputError(explain(f"{file}: graphs", sorted(graphs), f"must list {wanted}", "Export again"))
    decoders = {("" if key.startswith("_fused") else "plain") + key: p for key, p in decoder_graphs.items()}
    decoders = {key.removeprefix("_"): path for key, path in decoders.items()}
    for path in (*graphs.values(), folder / "tokenizer.json"):
        if not path.is_file():
            raise InputError(
                explain("model", str(path), "is listed in the export but missing", "Export again")
            )
    for path in graphs.values():
        _check_weights(folder, path)
    processor = _held(folder / "processor_config.json")
    videos = video_settings(lambda name: _held(folder / name))
    facts = ModelFacts(_held(folder / "config.json"), _images(folder, processor), videos or None)
    tower = facts.shape.vision
    if tower is not None and tower.image_size > MOST_SIDE:
        rule = f"is more than {MOST_SIDE} px"
        raise InputError(explain("config.json: vision_config.image_size", tower.image_size, rule))
    return Manifest(
        folder=folder,
        file=held,
        layers=held.decoder.layers,
        vision=vision,
        embed=embed,
        decoders=decoders,
        facts=facts,
        processor=processor,
        tokenizer=_held(folder / "tokenizer_config.json"),
        template=_template(folder / "chat_template.jinja"),
        videos=videos,
    )


def _template(file: Path) -> str:
    """Empty where there is none. Raises `InputError` for one that is no text."""
    if not file.is_file():
        return ""
    with file.open("rb") as held:
        data = held.read(4 * MAX_TEMPLATE + 1)  # longer ones are refused when they are rendered
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise InputError(explain("chat_template", str(file), "is not UTF-8 text", "Export again")) from None


def _images(folder: Path, processor: Mapping[str, Any]) -> dict[str, Any]:
    """The image processor's settings, in a file of their own or in the processor's."""
    own = _held(folder / "preprocessor_config.json")
    if own:
        return checked_images(own, "preprocessor_config.json")
    nested = processor.get("image_processor")
    if not isinstance(nested, Mapping):
        return {}
    return checked_images(nested, "processor_config.json: image_processor")


def _inside(folder: Path, path: str, field: str) -> Path:
    """A file of the folder. Raises `InputError` where a path, or a link on it, leads out.

    What is named here is opened, and sent to boards. A snapshot of the hub's cache is links into its blobs.
    """
    homes = [folder.parent.parent / "blobs"] if folder.parent.name == "snapshots" else []
    found = inside(folder, path, *homes)
    if found is None:
        rule = "must be a path inside the exported folder"
        raise InputError(explain(field, path, rule, "Export again"))
    return found


def _check_weights(folder: Path, graph: Path) -> None:
    """Raises `InputError` for a graph that is no ONNX, or whose weights lie elsewhere or are not there."""
    beside = {
        location: f"{graph.parent.relative_to(folder)}/{location}" for location in external_files(graph)
    }
    # What lies beside a graph under its name travels with it.
    held = {path.name: str(path.relative_to(folder)) for path in graph.parent.glob(f"{graph.name}*")}
    for location, path in {**held, **beside}.items():
        if Path(location).is_absolute() or not _inside(folder, path, f"{graph}: weights").is_file():
            rule = "holds weights of the graph, and is no file of the exported folder"
            raise InputError(explain(f"{graph}: weights", location, rule, "Export again"))


def _held(file: Path) -> dict[str, Any]:
    """A JSON object of the folder; empty where the file is not there."""
    if not file.is_file():
        return {}
    content: dict[str, Any] = read(file, dict[str, Any], field=file.name, remedy="Export again")
    return content


def _by_suffix(graphs: dict[str, Path], part: str) -> dict[str, Path]:
    """What follows the part's name in the graph keys -> file: `decoder_fused_fp16` -> `_fused_fp16`."""
    return {key.removeprefix(part): path for key, path in graphs.items() if key.startswith(part)}
