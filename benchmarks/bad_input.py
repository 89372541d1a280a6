"""Every kind of bad input, through the command line: exit code, message, traceback, what was left behind.

    python -m benchmarks.bad_input [--model DIR] [--json]

Exit code 0 when every case ends with the expected code, one sentence, no traceback and nothing written.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

_TARGET = ["--target", "jetson-orin", "--max-latency", "200ms"]


@dataclass(frozen=True)
class Case:
    """What is wrong, the words after `topovlm deploy`, the exit code and a part of the message expected."""

    name: str
    words: list[str]
    code: int
    message: str


@dataclass(frozen=True)
class Result:
    """What happened. `left` lists files that the command wrote."""

    name: str
    code: int
    message: str
    traceback: bool
    left: list[str]
    fine: bool


def spoil_models(model: Path, room: Path) -> dict[str, Path]:
    """Copies of a good model, each with one thing wrong."""

    def spoilt(name: str, change: Callable[[Path], object]) -> Path:
        folder = room / name
        shutil.copytree(model, folder)
        change(folder)
        return folder

    def cut(folder: Path) -> None:
        file = folder / "model.safetensors"
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])

    def pickle(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")

    (room / "no-model").mkdir()
    return {
        "no model": room / "no-model",
        "corrupt": spoilt("corrupt", cut),
        "garbage": spoilt("garbage", lambda f: (f / "model.safetensors").write_bytes(b"\xff" * 4096)),
        "pickle": spoilt("pickle", pickle),
    }


def write_data(room: Path) -> dict[str, Path]:
    """JSONL files whose seventh line is wrong."""
    from PIL import Image

    Image.new("RGB", (48, 48), "red").save(room / "good.png")
    (room / "broken.png").write_bytes((room / "good.png").read_bytes()[:50])
    bad: dict[str, str | dict[str, str]] = {
        "missing": {"image": "missing.png"},
        "broken": {"image": "broken.png"},
        "json": "{oops",
    }
    files = {}
    for name, record in bad.items():
        lines = [
            json.dumps({"image": "good.png", "prompt": f"Is it {n}?", "answer": "no"}) for n in range(20)
        ]
        lines[6] = record if isinstance(record, str) else json.dumps({**record, "prompt": "?"})
        files[name] = room / f"{name}.jsonl"
        files[name].write_text("\n".join(lines))
    return files


def read_only_place(room: Path) -> Path:
    """A folder that this user cannot write to; root can write anywhere but into the kernel's files."""
    place = room / "read-only"
    place.mkdir(mode=0o555)
    return Path("/sys") if os.access(place, os.W_OK) else place


def cases(model: Path, room: Path) -> list[Case]:
    """The issue's list, and some more."""
    models, data = spoil_models(model, room), write_data(room)
    (room / "a-file").write_text("mine")
    (room / "foreign").mkdir()
    (room / "foreign" / "mine.txt").write_text("mine")
    locked = read_only_place(room)
    bad_models = [
        Case(f"model: {name}", [*_TARGET, "--model", str(folder)], 2, "--model" if name == "no model" else "")
        for name, folder in models.items()
    ]
    return [
        Case("unknown target", ["--target", "jetson-orinn", "--max-latency", "200ms"], 2, "Did you mean"),
        Case("latency without a unit", ["--target", "jetson-orin", "--max-latency", "200"], 2, "no unit"),
        Case(
            "impossible budget",
            ["--target", "jetson-orin", "--max-latency", "0.1ms"],
            3,
            "vision encoder alone",
        ),
        Case("impossible memory", [*_TARGET, "--max-memory", "10MiB"], 3, "10.00 MiB"),
        *bad_models,
        Case("model: nowhere", [*_TARGET, "--model", str(room / "nowhere")], 2, "neither a folder nor"),
        Case("picture missing", [*_TARGET, "--data", str(data["missing"])], 2, "missing.jsonl:7: "),
        Case("picture broken", [*_TARGET, "--data", str(data["broken"])], 2, "broken.jsonl:7: "),
        Case("line is not JSON", [*_TARGET, "--data", str(data["json"])], 2, "json.jsonl:7: "),
        Case("output is a file", [*_TARGET, "-o", str(room / "a-file")], 2, "is a file, not a directory"),
        Case("output is foreign", [*_TARGET, "-o", str(room / "foreign")], 2, "is no run directory"),
        Case("output is read-only", [*_TARGET, "-o", str(locked / "out")], 2, "-o"),
        Case("unknown flag", [*_TARGET, "--max-latncy", "1s"], 2, "--max-latncy"),
        Case(
            "engine without its builder",
            ["--target", "rtx-4090", "--format", "onnx,tensorrt"],
            5,
            "tensorrt-rtx",
        ),
    ]


def run_case(case: Case, room: Path) -> Result:
    """Run one case in a process of its own; compare the room's files before and after."""
    words = case.words if "-o" in case.words else [*case.words, "-o", str(room / "out")]
    before = set(room.rglob("*"))
    command = [sys.executable, "-m", "topovlm", "deploy", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    left = sorted(path.relative_to(room).as_posix() for path in set(room.rglob("*")) - before)
    message = (done.stderr.strip().splitlines() or [""])[-1]
    traceback = "Traceback" in done.stderr
    fine = done.returncode == case.code and case.message in message and not traceback and not left
    return Result(case.name, done.returncode, message.replace(str(room), "ROOM"), traceback, left, fine)


def main(argv: list[str] | None = None) -> int:
    from topovlm.reference import model_dir

    parser = argparse.ArgumentParser(prog="python -m benchmarks.bad_input", description=__doc__)
    parser.add_argument("--model", type=Path, help="a good model to spoil copies of (default: the reference)")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="topovlm-bad-") as folder:
        room = Path(folder)
        results = [run_case(case, room) for case in cases(args.model or model_dir(), room)]
    if args.json:
        print(json.dumps([asdict(result) for result in results], indent=1))
    else:
        print("| case | exit | message | fine |\n|---|---|---|---|")
        for result in results:
            fine = "yes" if result.fine else f"NO (left: {', '.join(result.left) or 'nothing'})"
            message = result.message.replace("|", "\\|")
            print(f"| {result.name} | {result.code} | {message} | {fine} |")
        print(f"{sum(result.fine for result in results)} of {len(results)} as expected")
    return 0 if all(result.fine for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
