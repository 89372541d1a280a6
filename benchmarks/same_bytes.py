"""Are the artefacts of the reference model still the same bytes?

    python -m benchmarks.same_bytes            # compare with benchmarks/data/reference_bytes.json
    python -m benchmarks.same_bytes --write    # store what this checkout writes

A deployment that needs no timing (a quarter of the layers goes, on a board of the data sheets) through the
command line; sha256 of every file of the checkpoint and of both exported folders, fp32 and fp16. Exit code 1
when a file differs. The bytes hold on one kind of processor and one set of package versions: both are stored.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

STORED = Path(__file__).parent / "data" / "reference_bytes.json"
_DEPLOY = ["deploy", "--target", "jetson-orin", "--sparsity", "25%", "--samples", "64"]
_DEPLOY += ["--eval-samples", "40", "--measure-time", "1s", "--threads", "1"]
_FOLDERS = ("model", "onnx", "baseline")
_PACKAGES = ("torch", "transformers", "onnx", "onnx-ir", "onnxscript", "onnxruntime", "numpy", "numba")


def run(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "topovlm", *arguments], check=False, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"topovlm {' '.join(arguments)} left with {done.returncode}:\n{done.stderr}")


def digests(root: Path, folders: tuple[str, ...]) -> dict[str, str]:
    """sha256 by path below `root`, of every file of `folders`."""
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in folders
        for path in sorted((root / folder).rglob("*"))
        if path.is_file()
    }


def measure() -> dict[str, str]:
    with tempfile.TemporaryDirectory(prefix="topovlm-bytes-") as scratch:
        root = Path(scratch)
        run([*_DEPLOY, "-o", str(root / "run")])
        run(["export", "--model", str(root / "run" / "model"), "--dtype", "fp16", "-o", str(root / "half")])
        found = digests(root / "run", _FOLDERS)
        return found | digests(root, ("half",))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="store instead of comparing")
    args = parser.parse_args()
    found = measure()
    facts = {"machine": platform.machine(), **{name: metadata.version(name) for name in _PACKAGES}}
    if args.write:
        STORED.write_text(
            json.dumps({"made_with": facts, "sha256": found}, indent=1) + "\n", encoding="utf-8"
        )
        print(f"{len(found)} files stored in {STORED}")
        return 0
    stored = json.loads(STORED.read_text(encoding="utf-8"))
    for name, value in facts.items():
        if stored["made_with"].get(name) != value:
            print(f"note: {name} {value}, stored with {stored['made_with'].get(name)}")
    differing = 0
    for path in sorted({*stored["sha256"], *found}):
        before, after = stored["sha256"].get(path), found.get(path)
        same = before == after
        differing += not same
        verdict = "same" if same else f"was {(before or 'absent')[:16]}"
        print(f"{(after or 'absent')[:16]:16}  {verdict:24}  {path}")
    print(f"{len(found) - differing} of {len(found)} files are the same")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
