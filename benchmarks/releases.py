"""Checkpoints that topovlm writes, loaded in several releases of transformers: the same greedy tokens?

    python -m benchmarks.releases PYTHON [PYTHON ...]     # interpreters that have those releases
    python -m benchmarks.releases --make DIR              # makes environments for 4.57 and 5.5 there first

The reference and a slim model of it answer through the checkpoint's own processor. Tiny checkpoints of every
family, as the hub would have them, and a slim one of each that may be pruned get the same arrays in every
release. The release of this interpreter is the one compared with. benchmarks/data/releases.json says which
families need a newer release than the oldest that has them, and why. Exits 4 when anything else differs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tests import tiny_families

from topovlm.artifacts import read_json, write_json
from topovlm.checkpoint.processors import load_processor
from topovlm.checkpoint.published import published_config, published_tokenizer, write_published_names
from topovlm.checkpoint.surgery import prune_checkpoint
from topovlm.errors import InputError
from topovlm.reference import model_dir
from topovlm.reference.data import samples

RELEASES = ("4.57.*", "5.5.*")
# What those releases need and this one may have too new.
_BESIDE = {
    "4.57.*": ("huggingface-hub>=0.34,<1.0", "tokenizers>=0.22,<0.23", "requests", "httpx"),
    "5.5.*": ("huggingface-hub>=1.5,<2.0", "tokenizers>=0.22,<0.23", "httpx"),
}
NEEDS: dict[str, dict[str, str]] = read_json(Path(__file__).parent / "data" / "releases.json")
WORKER = Path(__file__).with_name("release_answers.py")
NEW_TOKENS = 12
DROPPED = (3, 4)  # of eight layers


@dataclass(frozen=True)
class Row:
    """One checkpoint in one release. `same` of `asked` answers are those of this interpreter's release."""

    checkpoint: str
    release: str
    same: int
    asked: int
    missing: tuple[str, ...] = ()
    error: str = ""

    @property
    def unknown(self) -> bool:
        """The release has no such model type."""
        return "does not recognize this architecture" in self.error or "Unrecognized" in self.error

    @property
    def right(self) -> bool:
        """Every answer is the same, and loading found every tensor."""
        return self.same == self.asked and not self.missing and not self.error

    @property
    def need(self) -> dict[str, str] | None:
        """What is stated for the family, where the release is too old for it."""
        stated = NEEDS.get(self.checkpoint.removesuffix(", slim"))
        return stated if stated and _version(self.release) < _version(stated["right_from"]) else None

    @property
    def as_stated(self) -> bool:
        """Right, or wrong where that is stated."""
        return self.unknown or self.right == (self.need is None)

    def __str__(self) -> str:
        verdict = "no such model" if self.unknown else self.error or f"{self.same} of {self.asked} answers"
        if self.need is not None:
            verdict = f"needs {self.need['right_from']}: {self.need['why']}"
        lack = f", {len(self.missing)} tensors not found ({self.missing[0]}, ...)" if self.missing else ""
        return f"{self.checkpoint:28}  {self.release:8}  {verdict}{lack}"


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2])


def make_environment(folder: Path, release: str) -> Path:
    """A virtual environment with that release; torch and the rest are this interpreter's. Its python."""
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        own = subprocess.run(
            [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
            check=True, capture_output=True, text=True,
        ).stdout.strip()  # fmt: skip
        # Read last, so that what is installed there comes first.
        Path(own, "zz_shared.pth").write_text(sysconfig.get_path("purelib") + "\n")
        install = [str(python), "-m", "pip", "install", "-q", "--ignore-installed", "--no-deps"]
        subprocess.run([*install, f"transformers=={release}", *_BESIDE[release]], check=True)
    return python


def run_release(python: str | Path, request: Sequence[dict[str, Any]], scratch: Path) -> dict[str, Any]:
    """What one interpreter's transformers answers. Raises `RuntimeError` with its own words."""
    file = scratch / "request.json"
    file.write_text(json.dumps(request))
    done = subprocess.run([str(python), str(WORKER), str(file)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{python}: {done.stderr[-2000:]}")
    answered: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answered


def reference_checkpoints(scratch: Path, count: int) -> list[dict[str, Any]]:
    """The shipped model and a slim one of it, asked `count` questions about one picture each."""
    questions = []
    for sample in samples("test", 4 * count, 0):
        if len(sample.images) == 1 and len(questions) < count:
            image = scratch / f"{sample.id}.png"
            sample.load_images()[0].save(image)
            questions.append({"image": str(image), "prompt": sample.prompt})
    prune_checkpoint(model_dir(), scratch / "slim", (4, 7, 9, 11))
    facts = {"questions": questions, "new_tokens": NEW_TOKENS}
    return [
        {"name": "reference", "folder": str(model_dir()), **facts},
        {"name": "reference, slim", "folder": str(scratch / "slim"), **facts},
    ]


def family_checkpoints(scratch: Path, names: Sequence[str], count: int) -> list[dict[str, Any]]:
    """A tiny checkpoint per family under its published names, and a slim one where layers may go."""
    made = []
    for name in names:
        folder = tiny_families.build(scratch / name, name)
        _publish(folder)
        inputs = _inputs(folder, tiny_families.sample(name, count), scratch / f"{name}-inputs")
        facts = {"inputs": inputs, "new_tokens": NEW_TOKENS}
        made.append({"name": name, "folder": str(folder), **facts})
        try:
            prune_checkpoint(folder, scratch / f"{name}-slim", DROPPED)
        except InputError:
            continue  # this family's layers do not go
        made.append({"name": f"{name}, slim", "folder": str(scratch / f"{name}-slim"), **facts})
    return made


def _publish(folder: Path) -> None:
    """As the hub has such checkpoints: the newest release writes names that only it reads."""
    for name, published in (("config", published_config), ("tokenizer_config", published_tokenizer)):
        write_json(folder / f"{name}.json", published(read_json(folder / f"{name}.json")))
    write_published_names(folder)


def _inputs(folder: Path, asked: Sequence[Any], target: Path) -> list[str]:
    """The arrays of each question, as this release's processor makes them."""
    target.mkdir()
    processor = load_processor(folder)
    files = []
    for index, sample in enumerate(asked):
        parts = bool(sample.images)
        content = [*({"type": "image"} for _ in sample.images), {"type": "text", "text": sample.prompt}]
        chat = [{"role": "user", "content": content if parts else sample.prompt}]
        if getattr(processor, "chat_template", None):
            text = processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
        else:
            text = "<image>" * len(sample.images) + sample.prompt
        pictures = {"images": [sample.load_images()]} if parts else {}
        inputs = processor(text=[text], return_tensors="np", **pictures)
        file = target / f"{index}.npz"
        np.savez(file, **{name: np.asarray(value) for name, value in inputs.items()})
        files.append(str(file))
    return files


def compare(pythons: Sequence[str | Path], request: Sequence[dict[str, Any]], scratch: Path) -> list[Row]:
    """Every checkpoint in every release, against this interpreter's."""
    newest = run_release(sys.executable, request, scratch)
    rows = []
    for answered in (newest, *(run_release(python, request, scratch) for python in pythons)):
        for checkpoint, wanted, got in zip(request, newest["rows"], answered["rows"], strict=True):
            pairs = list(zip(wanted.get("tokens", []), got.get("tokens", []), strict=False))
            rows.append(
                Row(
                    checkpoint=checkpoint["name"],
                    release=answered["release"],
                    same=sum(one == other for one, other in pairs),
                    asked=len(checkpoint.get("inputs") or checkpoint["questions"]),
                    missing=tuple(got.get("missing_keys", ())),
                    error=got.get("error", ""),
                )
            )
    return rows


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.releases", description=__doc__)
    parser.add_argument("pythons", nargs="*", metavar="PYTHON")
    parser.add_argument("--make", type=Path, metavar="DIR", help="make environments there where absent")
    parser.add_argument("--family", action="append", help="only these; default: all")
    parser.add_argument("--count", type=int, default=36, help="questions to the reference")
    args = parser.parse_args(argv)
    pythons = list(args.pythons)
    if args.make:
        pythons += [make_environment(args.make / release.removesuffix(".*"), release) for release in RELEASES]
    with tempfile.TemporaryDirectory(prefix="topovlm-releases-") as folder:
        scratch = Path(folder)
        request = reference_checkpoints(scratch, args.count)
        request += family_checkpoints(scratch, args.family or tiny_families.STOCK, 3)
        rows = compare(pythons, request, scratch)
    for row in sorted(rows, key=lambda row: [c["name"] for c in request].index(row.checkpoint)):
        print(row)
    wrong = [row for row in rows if not row.as_stated]
    for row in wrong:
        print(f"not as stated: {row}")
    print(f"{len(rows) - len(wrong)} of {len(rows)} are right, or stated to need another release")
    return 4 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
