"""Questions to an exported folder in shards, each what an engine is given at a time: answers are the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, cast

from topovlm.artifacts import digest_of, files_under, sha256_tree
from topovlm.console import Progress
from topovlm.errors import InputError, explain
from topovlm.evaluation.evaluate import Outcome, check_samples, folded, score_text
from topovlm.evaluation.task import Task
from topovlm.samples import Sample, with_pixels
from topovlm.workers import kept as kept_results
from topovlm.workers.jobs import Opened, Shard
from topovlm.workers.pool import Pool

if TYPE_CHECKING:
    from topovlm.runtime.engine import Engine
    from topovlm.workers.jobs import Result

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
        items = [(sample.visuals(), sample.prompt) for sample in shard.samples]
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
    kept: Path | None = None,
) -> list[Outcome]:
    """One outcome per sample (or what the task folds them to), in order; `size` are answered together.

    Only prompts and pictures travel: the task, which may be a plug-in's, scores here. `kept`: a folder where
    answers are kept by question and model as they come; those that it holds are not asked again.
    """
    check_samples(task, samples)
    folder = folder.resolve()
    local = pool.here and kept is None
    job = AnswerJob(ExportedFolder(folder, "" if local else _tree_digest(folder), threads), new_tokens)
    asked = [replace(sample, prompt=task.prompt(sample), answer=None) for sample in samples]
    if kept is None:
        texts = _texts(pool, job, asked, size, progress)
    else:
        texts = _remembered(pool, job, asked, progress, kept)
    return folded(task, [score_text(task, s, str(text)) for s, text in zip(samples, texts, strict=True)])


def _tree_digest(folder: Path) -> str:
    """sha256 of the folder's files; read again only where one of them has changed."""
    files = tuple((path, path.stat().st_size, path.stat().st_mtime_ns) for path in files_under(folder))
    return _digest_of_files(folder, files)


@lru_cache(maxsize=8)
def _digest_of_files(folder: Path, files: tuple[tuple[Path, int, int], ...]) -> str:
    return sha256_tree(folder)


def _texts(
    pool: Pool, job: AnswerJob, asked: Sequence[Sample], size: int, progress: Progress | None
) -> list[str]:
    return [str(text) for part in pool.run(job, _shards(asked, size), progress) for text in part]


def _shards(asked: Sequence[Sample], size: int) -> list[Shard]:
    return [Shard(tuple(asked[start : start + size])) for start in range(0, len(asked), size)]


def _remembered(
    pool: Pool, job: AnswerJob, asked: Sequence[Sample], progress: Progress | None, folder: Path
) -> list[str]:
    """Answers from the folder, and the others, which go there a batch at a time."""
    keys = {sample.id: _question_key(job, sample) for sample in asked}
    known = {name: found for name, key in keys.items() if (found := kept_results.read(folder, key))}
    waiting = [sample for sample in asked if sample.id not in known]

    def ended(shard: Shard, result: Result) -> None:
        for sample, text in zip(shard.samples, result, strict=True):
            known[sample.id] = [str(text)]
            kept_results.write(folder, keys[sample.id], [str(text)])

    def beyond(done: int, total: int) -> None:
        if progress:
            progress(len(asked) - total + done, len(asked))

    folder.mkdir(parents=True, exist_ok=True)
    pool.run(job, _shards(waiting, _BATCH), beyond, ended)
    return [str(known[sample.id][0]) for sample in asked]


def _question_key(job: AnswerJob, sample: Sample) -> str:
    """Of the model, the words and the pixels, whatever the question is called and whoever scores it."""
    return digest_of([job.key, sample.prompt, with_pixels(sample).pixels or Shard((sample,)).digest])
