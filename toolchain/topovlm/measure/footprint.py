"""Memory and load time of one exported folder, in a process of its own: no other model shares the heap.

python -m topovlm.measure.footprint '{"folder": "out/onnx", "images": 1, "prompt_tokens": 60}'
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Footprint:
    """Bytes of resident memory: of the libraries alone, and at the peak of one full generation."""

    libraries_bytes: int
    peak_bytes: int
    load_ms: float  # the file cache is warm when the folder was just written or read

    @property
    def model_bytes(self) -> int:
        """What the model adds to the libraries, at its peak."""
        return max(0, self.peak_bytes - self.libraries_bytes)

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "model_bytes": self.model_bytes}


def measure_footprint(request: dict[str, Any], timeout_s: float = 300) -> Footprint:
    """Run `request` (see `_child`) in a fresh process. Raises RuntimeError with what the process said."""
    command = [sys.executable, "-m", "topovlm.measure.footprint", json.dumps(request)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"the memory measurement took longer than {timeout_s:g} s") from None
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise RuntimeError(f"the memory measurement failed: {last}")
    return Footprint(**json.loads(done.stdout.splitlines()[-1]))


def resident_bytes(peak: bool) -> int:
    """Resident memory of this process, now or at its highest."""
    try:
        # Not ru_maxrss on Linux: it keeps the parent's peak through fork and exec.
        field = "VmHWM:" if peak else "VmRSS:"
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))
    except (OSError, StopIteration):
        import resource

        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return used if sys.platform == "darwin" else used * 1024


def _child(request: dict[str, Any]) -> Footprint:
    """Open the folder and generate once.

    Keys: folder; variant, threads, providers (see Engine); images, prompt_tokens, new_tokens (see
    synthetic_workload).
    """
    from topovlm.measure.timing_workload import synthetic_workload
    from topovlm.runtime.engine import Engine

    libraries = resident_bytes(peak=False)
    keys = ("variant", "threads", "providers")
    engine = Engine(request["folder"], **{key: request[key] for key in keys if key in request})
    workload = synthetic_workload(
        engine,
        images=request.get("images", 1),
        prompt_tokens=request.get("prompt_tokens"),
        new_tokens=request.get("new_tokens", 8),
    )
    engine.generate_prepared(workload.prompts[0], workload.new_tokens, stop_at_eos=False)
    return Footprint(libraries, resident_bytes(peak=True), engine.load_ms)


if __name__ == "__main__":
    print(json.dumps(asdict(_child(json.loads(sys.argv[1])))))
