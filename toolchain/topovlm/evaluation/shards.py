"""Questions to an exported folder in shards, each what an engine is given at a time: answers are the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from topovlm.artifacts import digest_of, sha256_tree
from topovlm.console import Progress
from topovlm.errors import InputError, explain
from topovlm.evaluation.evaluate import Outcome, check_samples, folded, score_text
from topovlm.evaluation.task import Task
from topovlm.samples import Sample
from topovlm.workers.jobs import Opened, Shard
from topovlm.workers.pool import Pool

if TYPE_CHECKING:
    from topovlm.runtime.engine import Engine

_BATCH = 16


@dataclass(frozen=True)
class ExportedFolder:
    """`sha256`: of names and bytes of all its files; empty where nobody but this process opens it."""

    folder: Path
    sha256: str
    threads: int

    @property
    def key(self) -> str:
        return digest_of(["exported", str(self.folder), self.sha256, self.threads])

    def check(self) -> None:
        if not self.folder.is_dir() or sha256_tree(self.folder) != self.sha256:
            rule = "is not there, or another one than where the run is"
            remedy = "Share the folder, or copy it to the same path"
            raise InputError(explain("exported folder", str(self.folder), rule, remedy))

    def open(self) -> Opened:
        from topovlm.runtime.engine import Engine

        return Opened(Engine(self.folder, variant="plain", threads=self.threads))


@dataclass(frozen=True)
class AnswerJob:
    """Greedy answers as texts. ONNX Runtime has as many threads everywhere as the run was asked for."""

    source: ExportedFolder
    new_tokens: int
    gpus: int = 0

    @property
    def cpus(self) -> int:
        return self.source.threads

    @property
    def key(self) -> str:
        of = {**asdict(self.source), "folder": "", "new_tokens": self.new_tokens}
        return digest_of(["answers", of])

    def run(self, opened: Opened, shard: Shard) -> list[str]:
        engine = cast("Engine", opened.value)
        items = [(sample.load_images(), sample.prompt) for sample in shard.samples]
        return [answer.text for answer in engine.generate_batch(items, _BATCH, self.new_tokens)]


def answer_in_shards(
    pool: Pool,
    folder: Path,
    task: Task,
    samples: Sequence[Sample],
    *,
    threads: int,
    new_tokens: int,
    size: int,
    progress: Progress | None = None,
) -> list[Outcome]:
    """One outcome per sample (or what the task folds them to), in order; `size` are answered together.

    Only prompts and pictures travel: the task, which may be a plug-in's, scores here.
    """
    check_samples(task, samples)
    folder = folder.resolve()
    job = AnswerJob(ExportedFolder(folder, "" if pool.here else sha256_tree(folder), threads), new_tokens)
    asked = [replace(sample, prompt=task.prompt(sample), answer=None) for sample in samples]
    shards = [Shard(tuple(asked[start : start + size])) for start in range(0, len(asked), size)]
    texts = [text for part in pool.run(job, shards, progress) for text in part]
    return folded(task, [score_text(task, s, str(text)) for s, text in zip(samples, texts, strict=True)])
