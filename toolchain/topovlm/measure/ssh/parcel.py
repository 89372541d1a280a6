"""What travels to a board for a timing run: graphs, prompts, the request; each distinct file once.

Prompts are made here (tokenizer, picture processor): the board needs neither.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from topovlm.artifacts import sha256_file
from topovlm.travel import build_engines, traveller

if TYPE_CHECKING:
    from topovlm.measure.timing import TimingRules
    from topovlm.measure.timing_workload import TimingWorkload
    from topovlm.runtime.engine import Engine, Prepared
    from topovlm.runtime.manifest import Manifest

ONNXRUNTIME, TENSORRT = "onnxruntime", "tensorrt"


@dataclass(frozen=True)
class Case:
    """One thing to time once per round: an engine with its prompts (indices), taken in turn."""

    name: str
    engine: str
    prompts: tuple[int, ...]


class Preparer:
    """The half of an `Engine` that makes prompts: no graph is opened here."""

    def __init__(self, folder: str | Path) -> None:
        from topovlm.runtime.manifest import load_manifest
        from topovlm.runtime.prompt import Prompter

        self.manifest: Manifest = load_manifest(folder)
        self.prompter = Prompter(self.manifest)

    def prepare(self, images: Sequence[Any], prompt: str) -> Prepared:
        from topovlm.pictures import load_image
        from topovlm.runtime.engine import Prepared
        from topovlm.runtime.preprocess import batch_pixels

        pictures = [load_image(image) if isinstance(image, (str, Path)) else image for image in images]
        pixels = batch_pixels(pictures, self.manifest.image) if pictures else None
        return Prepared(self.prompter.encode(prompt, len(pictures)), pixels)


def synthetic(folder: str | Path, **shape: Any) -> TimingWorkload:
    """`runtime.workload.synthetic_workload` for a folder that is not opened here; `shape` goes through."""
    from topovlm.measure.timing_workload import synthetic_workload

    return synthetic_workload(cast("Engine", Preparer(folder)), **shape)


@dataclass(frozen=True)
class Item:
    """One file to send: `source` is a file here or the bytes themselves."""

    path: str
    source: Path | bytes
    size: int
    sha256: str


@dataclass(frozen=True)
class Parcel:
    """Items to send, and second names (path, path of an item) for files that several folders share."""

    items: tuple[Item, ...]
    copies: tuple[tuple[str, str], ...]
    variants: dict[str, str]
    layers: dict[str, int]
    loaded_bytes: int  # of all graphs when every engine is open

    @property
    def size_bytes(self) -> int:
        return sum(item.size for item in self.items)


def pack(
    folders: Mapping[str, str | Path],
    prompts: Sequence[Prepared],
    cases: Sequence[Case],
    rules: TimingRules,
    *,
    new_tokens: int,
    backend: str = ONNXRUNTIME,
    footprint_prompt: int = 0,
    variant: str = "auto",
    threads: int | None = None,
    providers: Sequence[str] | None = None,
) -> Parcel:
    """Graphs of `folders` (name -> exported folder) and all that the timer needs beside them.

    `backend`: `onnxruntime`, or `tensorrt` for engines that the board builds from the plain graphs.
    Memory is measured with the prompt of index `footprint_prompt`.

    Raises `InputError` for a folder that is no export.
    """
    from topovlm.runtime.manifest import load_manifest
    from topovlm.runtime.sessions import SHORT_NAMES

    engines: dict[str, dict[str, Any]] = {}
    files: dict[str, Path] = {}
    variants, layers = {}, {}
    image_token_id = 0
    wanted = [SHORT_NAMES.get(provider.lower(), provider) for provider in providers or ()]
    if variant == "auto" and (backend == TENSORRT or SHORT_NAMES["tensorrt"] in wanted):
        variant = "plain"  # the fused operators are not TensorRT's
    for number, (name, folder) in enumerate(folders.items()):
        manifest = load_manifest(folder)
        image_token_id = manifest.image_token_id
        variants[name], layers[name] = manifest.resolve(variant), manifest.layers
        graphs = dict(zip(("vision", "embed", "decoder"), manifest.parts(variants[name]), strict=True))
        engines[name] = {key: f"{number}/{path.name}" for key, path in graphs.items()}
        if backend == TENSORRT:
            engines[name]["profiles"] = _profiles(manifest, prompts, new_tokens)
        for graph in graphs.values():
            for file in sorted(graph.parent.glob(f"{graph.name}*")):  # external weights lie beside
                files[f"{number}/{file.name}"] = file
    request = {
        "engines": engines,
        "image_token_id": image_token_id,
        "new_tokens": new_tokens,
        "prompts": len(prompts),
        "backend": backend,
        "cases": [asdict(case) for case in cases],
        "footprint_prompt": footprint_prompt,
        "threads": threads,
        "providers": wanted,
        "rules": asdict(rules),
    }
    small = {
        "request.json": json.dumps(request).encode(),
        "prompts.npz": _archive(prompts),
    }
    items = {
        path: Item(path, data, len(data), hashlib.sha256(data).hexdigest()) for path, data in small.items()
    }
    if backend == TENSORRT:
        for source in (traveller("board_tensorrt.py"), Path(build_engines.__file__)):
            items[source.name] = Item(source.name, source, source.stat().st_size, sha256_file(source))
    copies: list[tuple[str, str]] = []
    seen: dict[str, str] = {}
    for path, file in files.items():
        digest = sha256_file(file)
        if digest in seen:
            copies.append((path, seen[digest]))
        else:
            seen[digest] = path
            items[path] = Item(path, file, file.stat().st_size, digest)
    loaded = sum(file.stat().st_size for file in files.values())
    return Parcel(tuple(items.values()), tuple(copies), variants, layers, loaded)


def _profiles(manifest: Manifest, prompts: Sequence[Prepared], new_tokens: int) -> dict[str, Any]:
    """Shapes that the engines must take, by part: up to the longest prompt."""
    from topovlm.exporters.onnx.manifest import read_runtime_file
    from topovlm.exporters.tensorrt.shapes import shape_ranges
    from topovlm.records import plain
    from topovlm.workload import Workload

    longest = max(prompts, key=lambda prompt: len(prompt.input_ids))
    images = 0 if longest.pixels is None else len(longest.pixels)
    height, width = (1, 1) if longest.pixels is None else longest.pixels.shape[2:]
    workload = Workload(
        images=images,
        image_height=height,
        image_width=width,
        prompt_tokens=len(longest.input_ids) - images * manifest.tokens_per_image,
        new_tokens=new_tokens,
    )
    found = shape_ranges(read_runtime_file(manifest.folder), workload)
    names = {"vision": "vision_encoder", "embed": "embed_tokens", "decoder": "decoder_model_merged"}
    return {part: plain(found[name]) for part, name in names.items()}


def _archive(prompts: Sequence[Prepared]) -> bytes:
    arrays = {}
    for index, prompt in enumerate(prompts):
        arrays[f"ids{index}"] = prompt.input_ids
        if prompt.pixels is not None:
            arrays[f"pixels{index}"] = prompt.pixels
    held = io.BytesIO()
    np.savez(held, **cast("dict[str, Any]", arrays))
    return held.getvalue()
