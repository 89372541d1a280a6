"""What travels to a board for a timing run: graphs, prompts, the request; each distinct file once.

Prompts are made here (tokenizer, picture processor): the board needs neither.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from topovlm.artifacts import sha256_file
from topovlm.measure.settings import Folders, RunSettings, TimingRules
from topovlm.measure.ssh.backends import TRAVEL, Backend, takes_plain_graphs
from topovlm.measure.ssh.messages import Case, EngineFiles, Request
from topovlm.travel.prompts import pack as packed_arrays

if TYPE_CHECKING:
    from topovlm.measure.timing_workload import TimingWorkload
    from topovlm.runtime.manifest import Manifest
    from topovlm.runtime.prompt import Prompter
    from topovlm.travel.prompts import Prompt


class Preparer:
    """The half of an `Engine` that makes prompts: no graph is opened here."""

    def __init__(self, folder: str | Path) -> None:
        from topovlm.runtime.prompt import prompter_of

        self.prompter: Prompter = prompter_of(folder)
        self.manifest: Manifest = self.prompter.manifest


def synthetic(
    folder: str | Path,
    *,
    images: int = 1,
    frames: int = 0,
    prompt_tokens: int | None = None,
    new_tokens: int = 8,
    seed: int = 0,
    image_size: tuple[int, int] | None = None,
) -> TimingWorkload:
    """`timing_workload.synthetic_workload` for a folder that is not opened here."""
    from topovlm.measure.timing_workload import synthetic_workload

    return synthetic_workload(
        Preparer(folder),
        images=images,
        frames=frames,
        prompt_tokens=prompt_tokens,
        new_tokens=new_tokens,
        seed=seed,
        image_size=image_size,
    )


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


@dataclass(frozen=True)
class Load:
    """What a run times: prompts, cases, how many new tokens; memory with the prompt `footprint_prompt`."""

    prompts: Sequence[Prompt]
    cases: Sequence[Case]
    new_tokens: int
    footprint_prompt: int = 0


def pack(folders: Folders, load: Load, rules: TimingRules, backend: Backend, run: RunSettings) -> Parcel:
    """Graphs of `folders` (name -> exported folder) and all that the timer needs beside them.

    `run.threads` is set: the board's cores are known. Raises `InputError` for a folder that is no export.
    """
    from topovlm.runtime.manifest import load_manifest
    from topovlm.runtime.sessions import full_name

    engines: dict[str, EngineFiles] = {}
    files: dict[str, Path] = {}
    variants, layers = {}, {}
    providers = tuple(full_name(provider) for provider in run.providers or ())
    variant = run.variant
    if variant == "auto" and takes_plain_graphs(backend, providers):
        variant = "plain"
    for number, (name, folder) in enumerate(folders.items()):
        manifest = load_manifest(folder)
        variants[name], layers[name] = manifest.resolve(variant), manifest.layers
        graphs = manifest.parts(variants[name])
        profiles = _profiles(manifest, load) if backend.native else None
        paths = {part: f"{number}/{graph.name}" for part, graph in graphs.items()}
        engines[name] = EngineFiles(
            vision=paths.get("vision"), embed=paths["embed"], decoder=paths["decoder"], profiles=profiles
        )
        for graph in graphs.values():
            for file in sorted(graph.parent.glob(f"{graph.name}*")):  # external weights lie beside
                files[f"{number}/{file.name}"] = file
    request = Request(
        engines=engines,
        new_tokens=load.new_tokens,
        module=backend.module,
        package=backend.package,
        needs=backend.needs,
        cases=tuple(load.cases),
        footprint_prompt=load.footprint_prompt,
        threads=run.threads or 1,
        providers=providers,
        rules=rules,
    )
    small = {"request.json": msgspec.json.encode(request), "prompts.npz": _archive(load.prompts)}
    items = {
        path: Item(path, data, len(data), hashlib.sha256(data).hexdigest()) for path, data in small.items()
    }
    items |= {item.path: item for item in travellers(backend.files)}
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


def travellers(names: Sequence[str]) -> list[Item]:
    """Files of the package that travels."""
    sources = [TRAVEL / name for name in names]
    return [Item(f"travel/{s.name}", s, s.stat().st_size, sha256_file(s)) for s in sources]


def _profiles(manifest: Manifest, load: Load) -> dict[str, object]:
    """Shapes that the engines must take, by part: up to the longest prompt."""
    from topovlm.exporters.tensorrt.shapes import prompt_ranges
    from topovlm.records import plain
    from topovlm.runtime.prompt import Prompter

    found = prompt_ranges(Prompter(manifest), load.prompts, load.new_tokens)
    names = {"vision": "vision_encoder", "embed": "embed_tokens", "decoder": "decoder_model_merged"}
    return {part: plain(found[name]) for part, name in names.items() if name in found}


def _archive(prompts: Sequence[Prompt]) -> bytes:
    held = io.BytesIO()
    np.savez(held, **packed_arrays(prompts))
    return held.getvalue()
