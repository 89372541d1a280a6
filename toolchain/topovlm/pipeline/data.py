"""The samples of one run: which score layers, which judge sets of them, which are held out."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from topovlm import artifacts
from topovlm.config import REFERENCE_MODEL, Config
from topovlm.pipeline.constants import Constants
from topovlm.pipeline.data_split import UserSplit, held_out_digest, split_user_samples
from topovlm.pipeline.rundir import RunDir
from topovlm.samples import Sample, read_jsonl

if TYPE_CHECKING:
    from topovlm.evaluation.task import Task


@dataclass(frozen=True)
class Data:
    """The parts of --data, or of the shipped benchmark. Nothing is read before it is asked for."""

    config: Config
    run: RunDir
    constants: Constants

    @functools.cached_property
    def task(self) -> Task:
        """How held-out questions are put and scored: as --data says, else as the shipped benchmark."""
        from topovlm.tasks import open_task

        return open_task(None, self.config.data)

    @functools.cached_property
    def user_samples(self) -> list[Sample] | None:
        """The samples of --data, every picture checked; None when the shipped ones are used."""
        return None if self.config.data is None else read_jsonl(self.config.data)

    @functools.cached_property
    def user_split(self) -> UserSplit | None:
        """The parts of --data; None when the shipped samples are used. Raises `InputError`: too few."""
        if self.user_samples is None:
            return None
        judged = self.constants.judge_samples
        return split_user_samples(self.user_samples, self.config.samples, judged, self.config.seed)

    def calibration(self) -> list[Sample]:
        """Samples that score layers: a part of --data, else shipped ones that no model was trained on."""
        if self.user_split is not None:
            return list(self.user_split.score)
        return shipped_samples("calibration", self.config.samples, self.config.seed)

    def judging(self) -> list[Sample]:
        """Samples that judge sets of layers: others than those that scored, unless --data is too small."""
        if self.user_split is not None:
            return list(self.user_split.judge)
        return self._shipped_after(self.config.samples)

    def confirming(self) -> list[Sample]:
        """Samples that say whether a repair is kept: they chose nothing else. Empty: --data is too small."""
        if self.user_split is not None:
            return list(self.user_split.confirm)
        return self._shipped_after(self.config.samples + self.constants.judge_samples)

    def _shipped_after(self, start: int) -> list[Sample]:
        wanted = start + self.constants.judge_samples
        return shipped_samples("calibration", wanted, self.config.seed)[start:]

    def held_out(self) -> list[Sample]:
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
    def source(self) -> str:
        """Where samples come from, for people."""
        return self.task.source

    @property
    def notes(self) -> list[str]:
        """What the user should know about the choice of data."""
        found = []
        if self.config.data is None and self.config.model != REFERENCE_MODEL:
            found.append("no --data: layers are scored and judged on the shipped pictures, not on your task")
        if self.judge_shares_samples:
            found.append(
                f"{self.source} is too small to split four ways: no samples are left that could judge "
                "layers without having scored them, or confirm a repair (so none is made)"
            )
        if self.user_samples is not None and not self.held_out():
            found.append(f"{self.source} has no answers to hold out: accuracy is not measured")
        return found

    @functools.cached_property
    def choosing_fact(self) -> dict[str, Any]:
        """What the samples that choose depend on: the data, its pictures, and the seed that splits it."""
        config = self.config
        if config.data is None:
            return {"data": None, "seed": config.seed, "samples": config.samples}
        pictures = [self._picture_digests(sample) for sample in self.user_samples or ()]
        return {
            "data": self.run.digest(config.data),
            "pictures": artifacts.digest_of(pictures),
            "seed": config.seed,
            "samples": config.samples,
        }

    @functools.cached_property
    def held_out_fact(self) -> object:
        """What the held-out questions depend on."""
        if self.config.data is None:
            from topovlm.reference.data import TEST_SEED

            return ["shipped test split", self.config.eval_samples, TEST_SEED]
        return held_out_digest(self.held_out(), self._picture_digests)

    def _picture_digests(self, sample: Sample) -> list[str]:
        """sha256 of each picture file of a sample of --data, through the run directory's cache."""
        return [self.run.digest(image) for image in sample.images if isinstance(image, Path)]


@functools.lru_cache(maxsize=4)
def shipped_samples(split: str, count: int, seed: int) -> list[Sample]:
    """Samples of the reference benchmark; drawing them takes seconds, and several stages use the same."""
    from topovlm.reference.data import samples

    return samples(split, count, seed)
