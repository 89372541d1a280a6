"""Memory and load time of one exported folder, in a process of its own: no other model shares the heap.

python -m topovlm.measure.footprint '{"folder": "out/onnx", "images": 1, "prompt_tokens": 60}'
"""

from __future__ import annotations

import subprocess
import sys

import msgspec

from topovlm.errors import InputError
from topovlm.machine.host import resident_bytes
from topovlm.records import Part, decode


class Footprint(Part, frozen=True, kw_only=True):
    """Bytes of resident memory: of the libraries alone, and at the peak of one full generation."""

    libraries_bytes: int
    peak_bytes: int
    load_ms: float  # the file cache is warm when the folder was just written or read

    @property
    def model_bytes(self) -> int:
        """What the model adds to the libraries, at its peak."""
        return max(0, self.peak_bytes - self.libraries_bytes)


class FootprintRequest(Part, frozen=True, kw_only=True):
    """What to open and generate once; `prompt_tokens` counts all tokens of the prefill, visual ones too."""

    folder: str
    variant: str = "auto"
    threads: int | None = None
    providers: tuple[str, ...] | None = None
    images: int = 1
    frames: int = 0
    image_size: tuple[int, int] | None = None
    prompt_tokens: int | None = None
    new_tokens: int = 8


def measure_footprint(request: FootprintRequest, timeout_s: float = 300) -> Footprint:
    """Carry out `request` in a fresh process. Raises RuntimeError with what the process said."""
    text = msgspec.json.encode(request).decode()
    command = [sys.executable, "-m", "topovlm.measure.footprint", text]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"the memory measurement took longer than {timeout_s:g} s") from None
    last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    if done.returncode != 0:
        raise RuntimeError(f"the memory measurement failed: {last}")
    try:
        return decode(done.stdout.splitlines()[-1], Footprint, field="footprint", name=request.folder)
    except (InputError, IndexError):
        raise RuntimeError(f"the memory measurement gave no answer: {last}") from None


def _child(request: FootprintRequest) -> Footprint:
    """Open the folder and generate once."""
    from topovlm.measure.timing_workload import synthetic_workload
    from topovlm.runtime.engine import Engine

    libraries = resident_bytes()
    engine = Engine(
        request.folder, variant=request.variant, threads=request.threads, providers=request.providers
    )
    workload = synthetic_workload(
        engine,
        images=request.images,
        frames=request.frames,
        prompt_tokens=request.prompt_tokens,
        new_tokens=request.new_tokens,
        image_size=request.image_size,
    )
    engine.generate_prepared(workload.prompts[0], workload.new_tokens, stop_at_eos=False)
    return Footprint(libraries_bytes=libraries, peak_bytes=resident_bytes(peak=True), load_ms=engine.load_ms)


if __name__ == "__main__":
    asked = decode(sys.argv[1], FootprintRequest, field="request", name="footprint")
    print(msgspec.json.encode(_child(asked)).decode())
