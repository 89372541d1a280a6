"""What every stage of one run shares: configuration, model, target, samples, run directory."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from topovlm import __version__, artifacts
from topovlm.config import REFERENCE_MODEL, Config
from topovlm.pipeline.data_split import UserSplit, held_out_digest, split_user_samples
from topovlm.pipeline.rundir import RunDir, input_digest
from topovlm.pipeline.sources import Source
from topovlm.samples import Sample, read_jsonl

if TYPE_CHECKING:
    from topovlm.measure.device import Device
    from topovlm.predict.target import ResolvedTarget

# Samples that judge sets of layers (half choose, half confirm), and as many that confirm a repair.
JUDGE_SAMPLES = 96
# Longest answer when accuracy is measured.
ANSWER_TOKENS = 32
# Generated tokens of a timing run when the workload itself asks for one only: per-token times need some.
TIMED_TOKENS = 8
_NUMERIC_PACKAGES = (
    "torch",
    "transformers",
    "tokenizers",
    "onnx",
    "onnxruntime",
    "numpy",
    "pillow",
    "tensorrt-rtx",
)


@dataclass(frozen=True)
class Context:
    """The inputs of one run, fixed before its first stage."""

    config: Config
    source: Source
    target: ResolvedTarget
    run: RunDir
    board: Mapping[str, Any] | None = None  # what --device leads to (`boards.look`); None: this machine

    @property
    def on_target(self) -> bool:
        """Whether latency is measured on the target itself: then the budget is judged on it."""
        return measured_on_target(self.config, self.target)

    @property
    def where(self) -> str:
        """The machine that latency is measured on, for people."""
        return "this machine" if self.board is None else f"{self.target.board.name} over ssh"

    def device(self) -> Device:
        """The machine that latency is measured on; use it as a context manager."""
        from topovlm.measure.device import open_device

        return open_device(self.config.device, say=self.run.display.note)

    @functools.cached_property
    def model_digest(self) -> str:
        from topovlm.checkpoint.files import content_hash

        return content_hash(self.source.folder)

    @functools.cached_property
    def base(self) -> dict[str, Any]:
        """Inputs of every stage that reads the dense model."""
        return {"topovlm": __version__, "model": self.model_digest, **versions()}

    @functools.cached_property
    def timing(self) -> dict[str, Any]:
        """Inputs of every stage that times something: the machine, the packages, and how long."""
        from topovlm.machine.environment import cpu_name
        from topovlm.machine.host import usable_cores

        if self.board is None:
            machine: dict[str, Any] = {"cpu": cpu_name(), "cores": usable_cores()}
        else:
            machine = {"device": self.config.device, "board": dict(self.board)}
        return {
            **machine,
            "threads": self.config.threads,
            "measure_time_ms": self.config.measure_time,
            "topovlm": __version__,
            **versions(),
        }

    @functools.cached_property
    def data_inputs(self) -> dict[str, Any]:
        """What the samples that choose depend on: the data, its pictures, and the seed that splits it."""
        data, seed = self.config.data, self.config.seed
        if data is None:
            return {"data": None, "seed": seed}
        pictures = [self._picture_digests(sample) for sample in self.user_samples or ()]
        return {
            "data": input_digest(self.run, data),
            "pictures": artifacts.digest_of(pictures),
            "seed": seed,
        }

    @functools.cached_property
    def held_out_inputs(self) -> dict[str, Any]:
        """What the held-out questions depend on."""
        if self.config.data is None:
            from topovlm.reference.data import TEST_SEED

            return {"held_out": ["shipped test split", self.config.eval_samples, TEST_SEED]}
        return {"held_out": held_out_digest(self.held_out_samples(), self._picture_digests)}

    def _picture_digests(self, sample: Sample) -> list[str]:
        """sha256 of each picture file of a sample of --data, through the run directory's cache."""
        return [input_digest(self.run, image) for image in sample.images if isinstance(image, Path)]

    @functools.cached_property
    def user_samples(self) -> list[Sample] | None:
        """The samples of --data, every picture checked; None when the shipped ones are used."""
        return None if self.config.data is None else read_jsonl(self.config.data)

    @functools.cached_property
    def user_split(self) -> UserSplit | None:
        """The parts of --data; None when the shipped samples are used. Raises `InputError`: too few."""
        if self.user_samples is None:
            return None
        return split_user_samples(self.user_samples, self.config.samples, JUDGE_SAMPLES, self.config.seed)

    def calibration_samples(self) -> list[Sample]:
        """Samples that score layers: a part of --data, else shipped ones that no model was trained on."""
        if self.user_split is not None:
            return list(self.user_split.score)
        return shipped_samples("calibration", self.config.samples, self.config.seed)

    def judge_samples(self) -> list[Sample]:
        """Samples that judge sets of layers: others than those that scored, unless --data is too small."""
        if self.user_split is not None:
            return list(self.user_split.judge)
        return self._shipped_after(self.config.samples)

    def confirm_samples(self) -> list[Sample]:
        """Samples that say whether a repair is kept: they chose nothing else. Empty: --data is too small."""
        if self.user_split is not None:
            return list(self.user_split.confirm)
        return self._shipped_after(self.config.samples + JUDGE_SAMPLES)

    def _shipped_after(self, start: int) -> list[Sample]:
        return shipped_samples("calibration", start + JUDGE_SAMPLES, self.config.seed)[start:]

    def held_out_samples(self) -> list[Sample]:
        """Questions with answers that no layer was chosen on; empty when --data has no answers left."""
        if self.user_split is not None:
            return list(self.user_split.held_out[: self.config.eval_samples])
        from topovlm.reference.data import TEST_SEED

        return shipped_samples("test", self.config.eval_samples, TEST_SEED)

    @property
    def judge_shares_samples(self) -> bool:
        """Whether sets of layers are judged on the samples that scored them: --data is too small."""
        return self.user_split is not None and self.user_split.shared

    @property
    def sample_source(self) -> str:
        """Where samples come from, for people."""
        return "the shipped reference benchmark" if self.config.data is None else Path(self.config.data).name

    @property
    def notes(self) -> list[str]:
        """What the user should know about the choice of data."""
        found = []
        if self.config.data is None and self.config.model != REFERENCE_MODEL:
            found.append("no --data: layers are scored and judged on the shipped pictures, not on your task")
        if self.judge_shares_samples:
            found.append(
                f"{self.sample_source} is too small to split four ways: no samples are left that could judge "
                "layers without having scored them, or confirm a repair (so none is made)"
            )
        if self.user_samples is not None and not self.held_out_samples():
            found.append(f"{self.sample_source} has no answers to hold out: accuracy is not measured")
        return found


def measured_on_target(config: Config, target: ResolvedTarget) -> bool:
    """Whether this machine is the target, or --device leads to it."""
    return target.board.id == "local" or config.device != "local"


def board_digest(target: ResolvedTarget) -> str:
    """Identity of what is known about a board: a user's own file may change under the same name."""
    import msgspec

    return artifacts.digest_of(msgspec.to_builtins(target.board))


@functools.lru_cache(maxsize=4)
def shipped_samples(split: str, count: int, seed: int) -> list[Sample]:
    """Samples of the reference benchmark; drawing them takes seconds, and several stages use the same."""
    from topovlm.reference.data import samples

    return samples(split, count, seed)


@functools.cache
def versions() -> dict[str, str]:
    """Versions of the packages that decide the numbers; read without importing them."""
    from importlib import metadata

    found = {}
    for name in _NUMERIC_PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
