"""The command line in a process of its own, with limits; models and data to spoil for it."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import shutil
import struct
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

from topovlm.cli import main
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
    """`topovlm WORDS...` in `cwd`. `memory_bytes` bounds its address space (libraries map some 2 GB).

    It is forked from a process that has imported the libraries, which takes seconds, and done nothing else.
    """
    with tempfile.TemporaryDirectory() as folder:
        streams = [Path(folder) / name for name in ("in", "out", "err")]
        streams[0].write_bytes(stdin)
        for stream in streams[1:]:
            stream.touch()
        words_and_more = (list(map(str, words)), cwd, memory_bytes, dict(env or {}), streams)
        process = _forks().Process(target=run_command, args=words_and_more)
        process.start()
        process.join(limit_s)
        code = process.exitcode
        if code is None:
            process.kill()
            process.join()
        return Done(code, *(stream.read_text("utf-8", "backslashreplace") for stream in streams[1:]))


@cache
def _forks() -> ForkServerContext:
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(["tests.cases.libraries"])
    return found


def run_command(
    words: Sequence[str], cwd: Path, memory_bytes: int | None, env: Mapping[str, str], streams: Sequence[Path]
) -> None:
    """In the process that was forked, with its own standard streams: ends with the command's exit code."""
    for number, (file, flags) in enumerate(
        zip(streams, (os.O_RDONLY, os.O_WRONLY, os.O_WRONLY), strict=True)
    ):
        os.dup2(os.open(file, flags), number)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)  # noqa: SIM115
    os.environ.update({"NO_COLOR": "1", **env})
    os.chdir(cwd)
    if memory_bytes is not None:
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    sys.argv = ["topovlm", *words]
    sys.exit(main())


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
