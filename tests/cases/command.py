"""The command line in a process of its own, with limits; models and data to spoil for it."""

from __future__ import annotations

import json
import os
import resource
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from topovlm.reference import model_dir


@dataclass(frozen=True)
class Done:
    """How a command ended; `code` is negative for a signal, `None` where it was stopped after `limit_s`."""

    code: int | None
    out: str
    err: str

    @property
    def last(self) -> str:
        """The last line on standard error: the sentence for the user."""
        return next((line for line in reversed(self.err.splitlines()) if line.strip()), "")

    @property
    def refused(self) -> bool:
        """Bad input, said in one sentence: no traceback, no internal error."""
        return self.code == 2 and "Traceback" not in self.err and "internal error" not in self.err


def topovlm(
    *words: object,
    cwd: Path,
    limit_s: float = 120,
    memory_bytes: int | None = None,
    env: Mapping[str, str] | None = None,
    stdin: bytes = b"",
) -> Done:
    """`topovlm WORDS...` in `cwd`. `memory_bytes` bounds its address space (libraries map some 2 GB)."""

    def bound() -> None:
        if memory_bytes is not None:
            resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))

    try:
        done = subprocess.run(
            [sys.executable, "-m", "topovlm", *map(str, words)],
            cwd=cwd,
            env={**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1", "HF_HUB_OFFLINE": "1", **(env or {})},
            input=stdin,
            capture_output=True,
            timeout=limit_s,
            check=False,
            preexec_fn=bound,
        )
    except subprocess.TimeoutExpired as error:
        return Done(None, _text(error.stdout), _text(error.stderr))
    return Done(done.returncode, _text(done.stdout), _text(done.stderr))


def _text(raw: bytes | None) -> str:
    return (raw or b"").decode("utf-8", errors="backslashreplace")


def reference_copy(folder: Path) -> Path:
    """A writable copy of the shipped model."""
    shutil.copytree(model_dir(), folder, copy_function=shutil.copyfile)
    return folder


def edit(file: Path, change: Callable[[Any], object]) -> None:
    """Change a JSON file in place: `change` is given its content."""
    content = json.loads(file.read_text(encoding="utf-8"))
    change(content)
    file.write_text(json.dumps(content, indent=1), encoding="utf-8")


def mini(folder: Path, *, sharded: bool = False, layers: int = 4) -> Path:
    """A checkpoint of real names and tiny tensors, which surgery and plan can read and nobody can run."""
    reference = Path(model_dir())
    folder.mkdir(parents=True)
    for name in (
        "config.json",
        "generation_config.json",
        "preprocessor_config.json",
        "processor_config.json",
        "chat_template.jinja",
        "tokenizer.json",
        "tokenizer_config.json",
        "README.md",
    ):
        shutil.copyfile(reference / name, folder / name)
    edit(
        folder / "config.json",
        lambda whole: whole["text_config"].update(
            num_hidden_layers=layers, layer_types=["full_attention"] * layers, max_window_layers=layers
        ),
    )
    shapes = {
        "language_model.model.embed_tokens.weight": (4, 4),
        "language_model.model.norm.weight": (4,),
        "multi_modal_projector.linear_1.weight": (4, 4),
        "multi_modal_projector.linear_2.weight": (4, 4),
        "vision_tower.vision_model.embeddings.patch_embedding.weight": (4, 3, 2, 2),
    }
    for layer in range(layers):
        shapes[f"language_model.model.layers.{layer}.mlp.down_proj.weight"] = (4, 8)
        shapes[f"language_model.model.layers.{layer}.input_layernorm.weight"] = (4,)
    names = list(shapes)
    parts = [names[:7], names[7:]] if sharded else [names]
    count, weight_map = len(parts), {}
    for number, held in enumerate(parts, start=1):
        file = f"model-{number:05d}-of-{count:05d}.safetensors" if sharded else "model.safetensors"
        (folder / file).write_bytes(_safetensors({name: shapes[name] for name in held}))
        weight_map |= dict.fromkeys(held, file)
    if sharded:
        index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1), encoding="utf-8")
    return folder


def _safetensors(shapes: Mapping[str, Sequence[int]]) -> bytes:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        size = 2
        for length in shape:
            size *= length
        header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    raw = json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + bytes(end)
