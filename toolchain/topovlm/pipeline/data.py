"""The samples of one run: which score layers, which judge sets of them, which are held out."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from topovlm import artifacts
from topovlm.config import REFERENCE_MODEL, Config
from topovlm.errors import InputError, explain, located
from topovlm.pipeline.data_split import Parts, choosing_parts, hold_out, samples_digest, shared_links
from topovlm.plain_files import Stored
from topovlm.samples import Sample, with_pixels
from topovlm.videos.clip import Clip

if TYPE_CHECKING:
    from topovlm.evaluation.task import Task


@dataclass(frozen=True)
class Data:
    """The parts of a task's samples. Nothing is read or drawn before it is asked for."""

    config: Config

    @functools.cached_property
    def task(self) -> Task:
        """How held-out questions are put and scored: as --task and --data say, else the shipped benchmark."""
        from topovlm.tasks import open_task

        return open_task(self.config.task, self.config.data)

    @property
    def is_own(self) -> bool:
        """Whether the samples are the user's choice. Otherwise they are the shipped ones."""
        return self.config.data is not None or self.config.task is not None

    @functools.cached_property
    def _divided(self) -> tuple[list[Sample], list[Sample]] | None:
        """A file of questions is one set: (what chooses, what is held out). None for tasks with splits."""
        from topovlm.tasks.jsonl import JsonlTask

        if not isinstance(self.task, JsonlTask):
            return None
        judged = self.config.judge_samples
        return hold_out(self.task.questions, self.config.samples, judged, self.config.seed)

    @functools.cached_property
    def _parts(self) -> Parts:
        scored, judged = self.config.samples, self.config.judge_samples
        one_set = self._divided is not None
        drawn = self._divided[0] if self._divided else self._drawn("calibration", scored + 2 * judged)
        # Layers are chosen on what the model will be asked.
        asked = [replace(sample, prompt=self.task.prompt(sample)) for sample in drawn]
        return choosing_parts(asked, scored, judged, in_order=not one_set)

    def _drawn(self, split: str, count: int) -> list[Sample]:
        """Picture files are looked at: one under two names must not be on two sides."""
        known: dict[Path | Stored | Clip, str] = {}
        return [with_pixels(one, known) for one in self.task.samples(split, count, self.config.seed)]

    def calibration(self) -> list[Sample]:
        """Samples that score layers. Raises `InputError` when there are too few."""
        return list(self._parts.score)

    def judging(self) -> list[Sample]:
        """Samples that judge sets of layers: others than those that scored, unless there are too few."""
        return list(self._parts.judge)

    def confirming(self) -> list[Sample]:
        """Samples that say whether a repair is kept: they chose nothing else. Empty: there are too few."""
        return list(self._parts.confirm)

    @functools.cached_property
    def _held_out(self) -> tuple[Sample, ...]:
        wanted = self.config.eval_samples
        if self._divided is not None:
            return tuple(self._divided[1][:wanted])
        return tuple(self._drawn("test", wanted))

    def check(self) -> None:
        """Raises `InputError`: too few samples, broken ones, or questions that choose and measure."""
        from topovlm.evaluation.evaluate import check_samples, check_text

        parts, held_out = self._parts, self.held_out()
        for sample in (*parts.score, *parts.judge, *parts.confirm):
            try:
                check_text(sample)
            except InputError as error:
                raise InputError(located(error, sample.source or f"sample {sample.id}")) from None
        if held_out:
            check_samples(self.task, held_out)
        both = shared_links((*parts.score, *parts.judge, *parts.confirm), held_out)
        if both:
            rule = f"chooses layers and measures accuracy on the same samples ({both[0]}, {len(both)} in all)"
            raise InputError(explain("--task", self.task.name, rule, "Its splits must share none"))

    def held_out(self) -> list[Sample]:
        """Questions with answers that no layer was chosen on; empty when --data has no answers left."""
        return list(self._held_out)

    @property
    def judge_shares_samples(self) -> bool:
        """Whether sets of layers are judged on the samples that scored them: there are too few."""
        return self._parts.shared

    @property
    def source(self) -> str:
        """Where samples come from, for people."""
        return self.task.source

    @property
    def notes(self) -> list[str]:
        """What the user should know about the choice of data."""
        found = []
        if not self.is_own and self.config.model != REFERENCE_MODEL:
            found.append("no --data: layers are scored and judged on the shipped pictures, not on your task")
        if self.is_own and self.judge_shares_samples:
            found.append(
                f"{self.source} is too small to split four ways: no samples are left that could judge "
                "layers without having scored them, or confirm a repair (so none is made)"
            )
        found += self._protocol
        if self.is_own and not self.held_out():
            found.append(f"{self.source} has no answers to hold out: accuracy is not measured")
        return found

    @property
    def _protocol(self) -> list[str]:
        """What tells a public benchmark's figure from the one that it is named after."""
        from topovlm.tasks.public.table import LMMS_EVAL, differences
        from topovlm.tasks.public.task import PublicTask

        task = self.task
        if not isinstance(task, PublicTask) or task.protocol != LMMS_EVAL:
            return []
        return [f"{task.name}, {LMMS_EVAL}: {line}" for line in differences(task.record)]

    @functools.cached_property
    def choosing_fact(self) -> dict[str, Any]:
        """What the samples that choose depend on: task, data, its pictures, and the seed that splits it."""
        counts = {"samples": self.config.samples, "judge_samples": self.config.judge_samples}
        fact = {**self._task_fact, "seed": self.config.seed, **counts}
        if not self._in_files:
            return fact
        parts = self._parts
        chosen = parts.score if parts.shared else (*parts.score, *parts.judge, *parts.confirm)
        rows, data = samples_digest(chosen), self.config.data
        file = {} if data is None or data.is_dir() else {"data": artifacts.sha256_file(data)}
        return {**fact, **file, "questions": rows}

    @functools.cached_property
    def held_out_fact(self) -> dict[str, Any]:
        """What the held-out questions depend on: their content, or what a task draws them from."""
        if not self._in_files:
            return {**self._task_fact, "seed": self.config.seed, "eval_samples": self.config.eval_samples}
        return {**self._task_fact, "questions": samples_digest(self.held_out())}

    @property
    def _in_files(self) -> bool:
        """Whether the questions lie in files of somebody else's, which may change under the same name."""
        from topovlm.tasks.public.task import PublicTask

        return self.config.data is not None or isinstance(self.task, PublicTask)

    @property
    def _task_fact(self) -> dict[str, Any]:
        """A task draws the same questions for the same arguments: its code stands for them."""
        from topovlm.tasks import TASKS

        return {"task": self.task.name, "origin": TASKS.origin(self.task.name)}
