"""The kinds of file that users hand in, each with an undamaged example and the commands that read it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from benchmarks.fuzzing import spoil

Spoil = Callable[[Random, bytes], bytes]
_TARGET = ("--target", "jetson-orin", "--sparsity", "25%")


@dataclass(frozen=True)
class Kind:
    """`file` lies in the folder `base` of the examples.

    A command is words, with `{it}` for that folder and `{out}` for a place to write; `weights` say how often
    each is taken. `slow` ones load torch.
    """

    name: str
    base: str
    file: str
    spoil: Spoil
    commands: tuple[tuple[str, ...], ...]
    weights: tuple[int, ...]
    slow: bool = False


_PLAN = ("plan", *_TARGET, "--model", "{it}")
_PRUNE = ("prune", "--model", "{it}", "--drop", "1", "--no-verify", "-o", "{out}")
_DRY_RUN = ("deploy", "--dry-run", *_TARGET, "--model", "{it}", "-o", "{out}")
_RUN = ("run", "{it}", "--image", "picture.png", "--prompt", "What colour?", "--max-new-tokens", "2")
_CHECK = ("check", "{it}", "--baseline", "baseline", "--junit", "{out}")
_RENDER = ("report", "{it}", "-o", "{out}")
_EVAL = ("eval", "export", "--data", "{it}/data.jsonl", "--eval-samples", "4")
_PICTURE = ("run", "export", "--image", "{it}/spoilt", "--prompt", "What colour?", "--max-new-tokens", "2")

_SIDE_FILES: Mapping[str, Spoil] = {
    "config.json": spoil.json_text,
    "generation_config.json": spoil.json_text,
    "preprocessor_config.json": spoil.json_text,
    "processor_config.json": spoil.json_text,
    "tokenizer_config.json": spoil.json_text,
    "tokenizer.json": spoil.json_text,
    "chat_template.jinja": spoil.template,
}

KINDS: tuple[Kind, ...] = (
    Kind("config.json", "mini", "config.json", spoil.json_text, (_PLAN, _PRUNE), (1, 1)),
    Kind("index", "sharded", "model.safetensors.index.json", spoil.json_text, (_PRUNE, _PLAN), (3, 1)),
    Kind("safetensors", "mini", "model.safetensors", spoil.safetensors, (_PRUNE, _PLAN), (3, 1)),
    *(
        Kind(f"model: {file}", "model", file, change, (_DRY_RUN,), (1,), slow=True)
        for file, change in _SIDE_FILES.items()
    ),
    *(Kind(f"export: {file}", "export", file, change, (_RUN,), (1,)) for file, change in _SIDE_FILES.items()),
    Kind("topovlm_runtime.json", "export", "topovlm_runtime.json", spoil.json_text, (_RUN,), (1,)),
    Kind("onnx", "export", "onnx/embed_tokens.onnx", spoil.octets, (_RUN,), (1,)),
    Kind("picture: png", "png", "spoilt", spoil.picture, (_PICTURE,), (1,)),
    Kind("picture: jpeg", "jpeg", "spoilt", spoil.picture, (_PICTURE,), (1,)),
    Kind("data", "data", "data.jsonl", spoil.json_lines, (_EVAL,), (1,)),
    Kind(
        "data: dry run",
        "data",
        "data.jsonl",
        spoil.json_lines,
        (("deploy", "--dry-run", *_TARGET, "--data", "{it}/data.jsonl", "-o", "{out}"),),
        (1,),
        slow=True,
    ),
    Kind(
        "target",
        "target",
        "board.toml",
        spoil.toml_text,
        (("plan", "--target", "{it}/board.toml", "--sparsity", "25%", "--model", "mini"),),
        (1,),
    ),
    Kind(
        "profile",
        "profile",
        "profile.json",
        spoil.json_text,
        (("plan", "--target", "h200-sxm", "--sparsity", "25%", "--profile", "{it}/profile.json"),),
        (1,),
    ),
    Kind("report", "report", "report.json", spoil.json_text, (_CHECK, _RENDER), (1, 1)),
    Kind(
        "topovlm.toml",
        "settings",
        "topovlm.toml",
        spoil.toml_text,
        (("plan", "--model", "mini", "--config", "{it}/topovlm.toml"),),
        (1,),
    ),
)


def weight(kind: Kind) -> int:
    """Shares of the cases, so that slow commands do not take all of the time."""
    return 1 if kind.slow else 6


def make_examples(room: Path, kinds: Sequence[Kind]) -> None:
    """Every undamaged folder that one of the kinds names or needs, under `room`."""
    from PIL import Image
    from tests.cases.command import mini, reference_copy
    from tests.report import factory

    from topovlm.records import encode

    mini(room / "mini")
    mini(room / "sharded", sharded=True)
    reference_copy(room / "model")
    if any("export" in (kind.base, *words) for kind in kinds for words in kind.commands):
        export = [sys.executable, "-m", "topovlm", "export", "--model", str(room / "model")]
        done = subprocess.run([*export, "-o", str(room / "export")], capture_output=True, check=False)
        if done.returncode != 0:
            raise SystemExit(f"topovlm export: exit code {done.returncode}: {done.stderr.decode()[-500:]}")
    repository = Path(__file__).resolve().parents[2]
    for name in ("target", "profile", "report", "baseline", "settings", "data", "png", "jpeg"):
        (room / name).mkdir()
    board = repository / "targets" / "jetson-orin-nano-8gb.toml"
    shutil.copyfile(board, room / "target" / "board.toml")
    shutil.copyfile(
        next((repository / "profiles" / "reference").glob("*.json")), room / "profile" / "profile.json"
    )
    raw = encode(factory.standard())
    for name in ("report", "baseline"):
        (room / name / "report.json").write_bytes(raw)
    settings = (
        'target = "jetson-orin"\nsparsity = "25%"\nseed = 3\n\n[deploy]\nimages = 1\nprompt-tokens = 40\n'
    )
    (room / "settings" / "topovlm.toml").write_text(settings)
    picture = Image.linear_gradient("L").resize((48, 40)).convert("RGB")
    picture.save(room / "picture.png")
    picture.save(room / "png" / "spoilt", format="PNG")
    picture.save(room / "jpeg" / "spoilt", format="JPEG")
    lines = []
    for number in range(40):
        name = f"{number % 10}.png"
        Image.new("RGB", (48, 48), (25 * (number % 10), 80, 120)).save(room / "data" / name)
        lines.append(json.dumps({"image": name, "prompt": f"Is it {number}?", "answer": "no"}))
    (room / "data" / "data.jsonl").write_text("\n".join(lines))


def spoilt_copy(kind: Kind, examples: Path, folder: Path, content: bytes) -> None:
    """A copy of the kind's folder with `content` in the place of its file; the other files are shared."""
    base = examples / kind.base
    for path in sorted(base.rglob("*")):
        inside = folder / path.relative_to(base)
        if path.is_dir():
            inside.mkdir(parents=True)
            continue
        inside.parent.mkdir(parents=True, exist_ok=True)
        if path.relative_to(base).as_posix() == kind.file:
            inside.write_bytes(content)
        else:
            os.link(path, inside)


def example(kind: Kind, examples: Path) -> bytes:
    """The undamaged file."""
    return (examples / kind.base / kind.file).read_bytes()
