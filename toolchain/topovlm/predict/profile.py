"""The profile of a machine: its measured phases over depth and length, as stored and as predicted from.

All times are in ms. In `affine`, prefill is all between the picture features and the first token: embedding
and prefill graph. `workload.prompt_tokens` counts text with its template; visual tokens come on top.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta

from topovlm.errors import VerificationError, explain
from topovlm.machine.environment import Environment
from topovlm.machine.telemetry import Doubt, Telemetry
from topovlm.predict.surface import FORMS, Error, Line, Signed, Surface, Time
from topovlm.records import Part, read, write

__all__ = [
    "SCHEMA",
    "Affine",
    "DeviceFacts",
    "Energy",
    "Line",
    "Looks",
    "MemoryLine",
    "Profile",
    "Samples",
    "Spread",
    "TimedWorkload",
    "load_profile",
    "save_profile",
]

SCHEMA = 2
Count = Annotated[int, Meta(ge=0, le=1 << 40)]
Depth = Annotated[int, Meta(ge=1, le=1 << 20)]
Bytes = Annotated[float, Meta(ge=-(10**18), le=10**18)]
_NOISY = ("prefill", "token")  # phases whose noise widens predictions at other lengths
_REMEDY = "Measure again: `topovlm profile`"


class MemoryLine(Part, frozen=True, kw_only=True):
    """Peak bytes that the model adds, as a line in layers; the libraries' own come on top."""

    intercept_bytes: Bytes
    slope_bytes_per_layer: Bytes
    libraries_bytes: Annotated[float, Meta(ge=0, le=10**18)] = 0.0

    def at(self, layers: float) -> float:
        """Bytes in all, libraries included; the model's never negative."""
        return max(0.0, self.intercept_bytes + self.slope_bytes_per_layer * layers) + self.libraries_bytes


class Affine(Part, frozen=True, kw_only=True):
    """The phases at the workload."""

    vision_ms: Time
    prefill: Line
    decode: Line


class Spread(Part, frozen=True, kw_only=True):
    """Relative errors to expect of predictions."""

    vision: Error
    prefill: Error
    decode: Error
    memory: Error | None = None


class TimedWorkload(Part, frozen=True, kw_only=True):
    """What was timed. `prefill_tokens` = `visual_tokens` + `prompt_tokens`."""

    images: Count
    image_height: Count  # px
    image_width: Count
    visual_tokens: Count
    prompt_tokens: Count
    prefill_tokens: Count
    new_tokens: Count
    batch: Count = 1
    prompt_tokens_range: tuple[int, int] | None = None
    source: str = "synthetic"
    video_frames: Count = 0


class Looks(Part, frozen=True, kw_only=True):
    """The machine's own sensors before and after the run."""

    before: Telemetry
    after: Telemetry


class Energy(Part, frozen=True, kw_only=True):
    """By rail or counter."""

    seconds: float
    energy_j: dict[str, float]
    mean_w: dict[str, float]


class DeviceFacts(Part, frozen=True, kw_only=True):
    """What a board that was measured over ssh says it is."""

    model: str | None
    compatible: tuple[str, ...] = ()
    l4t: str | None = None


Samples = dict[str, dict[str, dict[str, list[Time]]]]  # layers -> prefill tokens -> phase -> ms


class Profile(Part, frozen=True, kw_only=True):
    """One machine in one mode, with one runtime and precision, timed with one model."""

    schema: int = SCHEMA
    kind: Literal["measured"] = "measured"
    target: str
    mode: str
    runtime: str
    dtype: str
    variant: str
    threads: Depth
    model_sha256: str
    config_sha256: str | None
    layers: Depth
    depths: tuple[Depth, ...]
    lengths: tuple[Count, ...]
    workload: TimedWorkload
    surfaces: dict[str, Surface]
    phases: dict[str, Line]
    affine: Affine
    spread: Spread
    noise: dict[str, Error]
    drift: Signed
    memory: MemoryLine | None
    energy: Energy | None
    samples: Samples
    rounds: Count
    stopped: str
    environment: Environment
    telemetry: Looks
    doubts: tuple[Doubt, ...]
    warnings: tuple[str, ...]
    seconds: float = 0.0
    device: DeviceFacts | None = None
    machine: dict[str, Any] | None = None  # what `measure.microbench` found; for people

    def __post_init__(self) -> None:
        for name, has, needed in (("surfaces", self.surfaces, FORMS), ("noise", self.noise, _NOISY)):
            for phase in needed:
                if phase not in has:
                    raise ValueError(f"{name} has no {phase!r}")

    @property
    def grave(self) -> list[str]:
        """Why the figures describe a machine that did not hold still; empty for sound ones."""
        return [doubt.text for doubt in self.doubts if doubt.grave]


def load_profile(path: str | Path) -> Profile:
    """Read a profile. Raises `InputError` when it is none, or of another schema."""
    return read(Path(path), Profile, field="profile", remedy=_REMEDY, schema=SCHEMA)


def save_profile(profile: Profile, directory: str | Path, *, force: bool = False) -> Path:
    """Write `<target>--<runtime>--<dtype>.json` in `directory`, whole or not at all; returns the file.

    Raises `VerificationError` for figures that describe a throttled or drifting machine, unless `force`.
    """
    if profile.grave and not force:
        rule = "was measured on a machine that did not hold still: " + "; ".join(profile.grave)
        remedy = "Cool the machine, close other programs, measure again; -o FILE keeps it all the same"
        raise VerificationError(explain("profile", profile.target, rule, remedy))
    path = Path(directory) / f"{profile.target}--{profile.runtime}--{profile.dtype}.json"
    write(path, profile)
    return path
