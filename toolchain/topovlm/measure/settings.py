"""What one asks of a measurement: how graphs are run, how long, and what a profile times."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from topovlm.errors import InputError, explain
from topovlm.records import Part, plain

Folders = Mapping[str, str | Path]  # name -> exported folder
RoundProgress = Callable[[int, float], None]  # (rounds done, seconds spent)


class TimingRules(Part, frozen=True):
    """How long to measure. The interval's full width is compared with `precision` x median."""

    warmup: int = 3
    min_rounds: int = 10
    max_rounds: int = 300
    time_limit_s: float = 60.0
    precision: float = 0.02
    seed: int = 0
    memory: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.min_rounds <= self.max_rounds:
            rule = f"must lie between 1 and max_rounds = {self.max_rounds}"
            raise InputError(explain("min_rounds", self.min_rounds, rule))
        if self.warmup < 0 or self.time_limit_s <= 0 or self.precision <= 0:
            raise InputError(explain("timing rules", plain(self), "must be positive"))


@dataclass(frozen=True)
class RunSettings:
    """How exported graphs are run. See `runtime.engine.Engine`; `providers` None: the device's own choice.

    That is the CPU here, and a board's GPU where its ONNX Runtime knows it.
    """

    variant: str = "auto"
    threads: int | None = None
    providers: tuple[str, ...] | None = None


@dataclass(frozen=True)
class ProfileRequest:
    """What a profile times: pictures and words of the workload, lengths, depths.

    `frames`: of a video, in place of pictures. `image_size`: (height, width) in px (default: the model's).
    `prompt_tokens` counts text with its template (default: 16 words); `lengths` are prompt lengths to time
    with it, visual tokens included (default: from the bare template to four times the workload, as far as
    the model's context reaches; fewer where one round takes too long for `rules`). `layer_counts`: depths of
    the slices that are cut out of the dense graph (default: 2, 6 and the middle of the rest). Slices are
    written below `scratch` (default: beside the export, so that unchanged files can be linked) and removed.
    """

    images: int = 1
    frames: int = 0
    image_size: tuple[int, int] | None = None
    prompt_tokens: int | None = None
    new_tokens: int = 8
    lengths: tuple[int, ...] | None = None
    layer_counts: tuple[int, ...] | None = None
    rules: TimingRules = field(default_factory=lambda: TimingRules(time_limit_s=30))
    run: RunSettings = field(default_factory=RunSettings)
    scratch: Path | None = None

    @property
    def timed_tokens(self) -> int:
        """New tokens: a profile needs a time per token, whatever the workload asks for."""
        return max(2, self.new_tokens)
