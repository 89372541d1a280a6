"""What every stage of one run shares: configuration, model, target, samples, run directory."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from topovlm import __version__
from topovlm.config import REFERENCE_MODEL, Config
from topovlm.errors import InputError, explain
from topovlm.rundir import RunDir, input_digest
from topovlm.samples import Sample, read_jsonl
from topovlm.sources import Source

if TYPE_CHECKING:
    from topovlm.hardware.target import ResolvedTarget

# Samples that judge sets of layers (half choose, half confirm), and as many that confirm a repair.
JUDGE_SAMPLES = 96
# Longest answer when accuracy is measured.
ANSWER_TOKENS = 32
# Generated tokens of a timing run when the workload itself asks for one only: per-token times need some.
TIMED_TOKENS = 8
_NUMERIC_PACKAGES = ("torch", "transformers", "onnx", "onnxruntime", "numpy")


@dataclass(frozen=True)
class Context:
    """The inputs of one run, fixed before its first stage."""

    config: Config
    source: Source
    target: ResolvedTarget
    run: RunDir

    @property
    def local(self) -> bool:
        """Whether this machine is the target: then latency is measured and the budget judged on it."""
        return self.target.board.id == "local"

    @functools.cached_property
    def model_digest(self) -> str:
        from topovlm.models.checkpoint import content_hash

        return content_hash(self.source.folder)

    @functools.cached_property
    def base(self) -> dict[str, Any]:
        """Inputs of every stage that reads the dense model."""
        return {"topovlm": __version__, "model": self.model_digest, **versions()}

    @functools.cached_property
    def data_inputs(self) -> dict[str, Any]:
        """What the samples depend on."""
        data = self.config.data
        return {"data": None if data is None else input_digest(self.run, data), "seed": self.config.seed}

    @functools.cached_property
    def user_samples(self) -> list[Sample] | None:
        """The samples of --data, every picture checked; None when the shipped ones are used."""
        return None if self.config.data is None else read_jsonl(self.config.data)

    def calibration_samples(self) -> list[Sample]:
        """Samples that score layers: the first of --data, else shipped ones that no model was trained on."""
        count = self.config.samples
        if self.user_samples is None:
            return shipped_samples("calibration", count, self.config.seed)
        chosen = self.user_samples[: min(count, (len(self.user_samples) + 1) // 2)]
        if len(chosen) < 8:
            rule = f"holds {len(self.user_samples)} samples; at least 16 are needed"
            raise InputError(
                explain("--data", str(self.config.data), rule, "Half calibrates, half is held out")
            )
        return chosen

    def judge_samples(self) -> list[Sample]:
        """Samples that judge sets of layers; shipped ones are others than those that scored."""
        return self._further_samples(0)

    def confirm_samples(self) -> list[Sample]:
        """Samples that say whether a repair is kept; shipped ones chose neither layers nor repair."""
        return self._further_samples(1)

    def _further_samples(self, part: int) -> list[Sample]:
        start = JUDGE_SAMPLES * part
        if self.user_samples is not None:
            return self.calibration_samples()[:JUDGE_SAMPLES]
        start += self.config.samples
        return shipped_samples("calibration", start + JUDGE_SAMPLES, self.config.seed)[start:]

    def held_out_samples(self) -> list[Sample]:
        """Questions with answers that no layer was chosen on; empty when --data has no answers left."""
        if self.user_samples is None:
            from topovlm.reference.data import TEST_SEED

            return shipped_samples("test", self.config.eval_samples, TEST_SEED)
        used = {sample.id for sample in self.calibration_samples()}
        rest = [s for s in self.user_samples if s.id not in used and s.answer is not None]
        return rest[: self.config.eval_samples]

    @property
    def sample_source(self) -> str:
        """Where samples come from, for people."""
        return "the shipped reference benchmark" if self.config.data is None else Path(self.config.data).name

    @property
    def notes(self) -> list[str]:
        """What the user should know about the choice of data."""
        if self.config.data is None and self.config.model != REFERENCE_MODEL:
            return ["no --data: layers are scored and judged on the shipped pictures, not on your task"]
        return []


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
