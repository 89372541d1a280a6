"""A real Ray of two nodes gives what this process gives, to the bit, also when workers are killed."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests import tiny
from tests.workers.conftest import Nodes
from topovlm.checkpoint.files import content_hash, open_checkpoint
from topovlm.checkpoint.live import Live, load
from topovlm.choose.clouds import ALL_READINGS
from topovlm.choose.judge_shards import ShardedJudge, elimination_in_shards, patches_in_shards
from topovlm.choose.repair.patch import Cut
from topovlm.choose.repair.patches import fit_patches
from topovlm.choose.shards import (
    TorchModel,
    bypassed_in_shards,
    prompt_lengths,
    sensitivity_in_shards,
    states_in_shards,
    torch_model,
)
from topovlm.errors import InputError, MissingToolError, explain
from topovlm.evaluation.shards import AnswerJob, ExportedFolder
from topovlm.samples import Sample
from topovlm.workers.address import parse_address
from topovlm.workers.jobs import Opened, Shard
from topovlm.workers.pool import HERE, Pool, open_pool, released
from topovlm.workers.ray_cluster import RayCluster
from topovlm.workers.tasks import run_tasks

# Two stretches of batches, the last of each not full.
SAMPLES = tiny.samples(141)


@pytest.fixture(scope="module")
def pool(nodes: Nodes) -> Iterator[Pool]:
    with released(open_pool(nodes.workers)) as opened:
        yield opened


@pytest.fixture(scope="module")
def live(model: Path) -> Live:
    return load(model)


@pytest.fixture(scope="module")
def travelling(model: Path) -> TorchModel:
    return torch_model(open_checkpoint(model), content_hash(model), "float32")


def lengths(live: Live, samples: list[Sample]) -> list[int]:
    return prompt_lengths(live.processor, open_checkpoint(live.folder), samples)


def folder_of(exported: Path) -> ExportedFolder:
    from topovlm.artifacts import sha256_tree

    return ExportedFolder(exported, sha256_tree(exported), 1)


def question_shards(count: int, size: int) -> list[Shard]:
    samples = tiny.samples(count, seed=3)
    return [Shard(tuple(samples[start : start + size])) for start in range(0, count, size)]


def test_hidden_states_are_the_same(pool: Pool, live: Live, travelling: TorchModel) -> None:
    """Every bit of them: batches are composed as here. Progress ends with all samples."""
    from topovlm.choose.calibration import collect

    seen: list[tuple[int, int]] = []
    given = (pool, travelling, SAMPLES, lengths(live, SAMPLES), ALL_READINGS)
    found = states_in_shards(*given, progress=lambda *now: seen.append(now))
    here = collect(live, SAMPLES, ALL_READINGS)
    for reading in ALL_READINGS:
        np.testing.assert_array_equal(found[reading], here[reading])
    assert seen[-1] == (141, 141)


def test_what_scorers_ask_of_the_model_is_the_same(pool: Pool, live: Live, travelling: TorchModel) -> None:
    """Every bit, without each layer and of slopes; batches that are not full among them."""
    from topovlm.choose.bypasses import collect_bypassed
    from topovlm.choose.sensitivities import collect_sensitivity

    samples = SAMPLES[:35]
    given = (pool, travelling, samples, lengths(live, samples))
    np.testing.assert_array_equal(
        bypassed_in_shards(*given, "normalised"), collect_bypassed(live, samples, "normalised")
    )
    np.testing.assert_array_equal(sensitivity_in_shards(*given, 0), collect_sensitivity(live, samples))


def test_judgements_are_the_same(pool: Pool, live: Live, travelling: TorchModel) -> None:
    """Patches, and what is judged with them in several rounds, by a judge whose last batch is not full."""
    from topovlm.choose.judge import Judge

    samples, cuts = SAMPLES[:19], [Cut(1, 2, 2), Cut(2, 3, 4), Cut(4, 5, 5)]
    patches = patches_in_shards(pool, travelling, samples, cuts, torch.float16)
    assert patches.digest == fit_patches(live, cuts, samples, torch.float16).digest
    ours, checkpoint = Judge(live, samples, patches=patches), open_checkpoint(live.folder)
    theirs = ShardedJudge(pool, travelling, checkpoint, samples, lengths(live, samples), patches=patches)
    for drops in ([(2,), (3, 4)], [(3, 4), (), (2, 5)]):
        assert theirs.kls(drops) == ours.kls(drops)


def test_an_elimination_is_the_same(pool: Pool, live: Live, travelling: TorchModel) -> None:
    """Places and divergences, round by round."""
    from topovlm.choose.eliminations import collect_elimination

    samples, checkpoint = SAMPLES[:11], open_checkpoint(live.folder)
    given = (pool, travelling, checkpoint, samples, lengths(live, samples))
    found = elimination_in_shards(*given, protected={0})
    np.testing.assert_array_equal(found, collect_elimination(live, samples, {0}))


def test_answers_are_the_same(pool: Pool, exported: Path) -> None:
    """Word by word."""
    job, shards = AnswerJob(folder_of(exported), 8), question_shards(20, 6)
    assert pool.run(job, shards) == HERE.run(job, shards)


@dataclass(frozen=True)
class DiesOnce(AnswerJob):
    """Kills its worker in the middle of the first shard that comes, once."""

    mark: str = ""

    def run(self, opened: Opened, shard: Shard) -> list[str]:
        found = super().run(opened, shard)
        try:
            os.close(os.open(self.mark, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return found
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)
        return []


def test_a_killed_worker_costs_its_shard(pool: Pool, exported: Path, tmp_path: Path) -> None:
    """The shard is run again, and the result is the same."""
    mark = tmp_path / "killed"
    shards = question_shards(20, 4)
    found = pool.run(DiesOnce(folder_of(exported), 8, mark=str(mark)), shards)
    assert mark.exists()
    assert found == HERE.run(AnswerJob(folder_of(exported), 8), shards)


@dataclass(frozen=True)
class Fails(AnswerJob):
    """Runs at most so many shards altogether: each leaves a file."""

    folder: str = ""
    most: int = 0

    def run(self, opened: Opened, shard: Shard) -> list[str]:
        if len(list(Path(self.folder).iterdir())) >= self.most:
            raise InputError("as a driver that is killed would end")
        (Path(self.folder) / shard.samples[0].id).touch()
        return super().run(opened, shard)


def test_results_outlive_the_driver(nodes: Nodes, exported: Path, tmp_path: Path) -> None:
    """The next run asks for the missing shards alone; a result whose bytes were changed is made again."""
    ran, kept = tmp_path / "ran", tmp_path / "kept"
    ran.mkdir()
    shards, source = question_shards(12, 3), folder_of(exported)
    with released(open_pool(nodes.workers)) as pool:
        pool.keep_in(kept)
        with pytest.raises(InputError, match=r"worker on .*as a driver"):
            pool.run(Fails(source, 8, folder=str(ran), most=2), shards)
        before = len(list(kept.iterdir()))
        assert 1 <= before <= 2
        first = next(kept.iterdir())
        first.write_bytes(first.read_bytes()[:-2])
        found = pool.run(Fails(source, 8, folder=str(ran), most=99), shards)
        assert found == HERE.run(AnswerJob(source, 8), shards)
        assert len(list(kept.iterdir())) == len(shards)
        assert pool.run(Fails(source, 8, folder=str(ran), most=0), shards) == found


def test_another_model_on_a_worker_is_refused(pool: Pool, exported: Path, travelling: TorchModel) -> None:
    """In one sentence that names the node and what to do."""
    other = replace(folder_of(exported), sha256="0" * 64)
    with pytest.raises(InputError, match=r"worker on .*another one.*Share the folder, or copy it"):
        pool.run(AnswerJob(other, 8), question_shards(3, 3))
    gone = replace(travelling, folder=Path("/nowhere"))
    with pytest.raises(InputError, match=r"worker on .*--model = '/nowhere'.*is not there"):
        states_in_shards(pool, gone, SAMPLES[:2], [3, 3])


def test_a_cluster_without_gpus_is_refused(pool: Pool, travelling: TorchModel) -> None:
    """A shard that asks for what no node has would wait for ever."""
    with pytest.raises(MissingToolError, match="has no node with a GPU"):
        states_in_shards(pool, replace(travelling, device="cuda"), SAMPLES[:2], [3, 3])


def test_other_pictures_on_a_worker_are_refused(
    pool: Pool, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is another one there than where it was looked at. Relative paths lead there, too."""
    monkeypatch.chdir(tmp_path)
    picture = Path("a.png")
    tiny.picture(1).save(picture)
    shard = Shard((Sample("a", (picture,), "What is it?"),))
    assert len(pool.run(AnswerJob(folder_of(exported), 4), [shard])) == 1
    assert shard.digest
    tiny.picture(2).save(picture)
    with pytest.raises(InputError, match=r"worker on .*pictures = 'a': differ here.*Share the folder"):
        pool.run(AnswerJob(folder_of(exported), 4), [shard])


def test_another_version_on_a_worker_is_refused() -> None:
    """Numbers are those of one set of packages."""
    from topovlm.workers.node import packages, perform

    job, shard = AnswerJob(ExportedFolder(Path("/nowhere"), "", 1), 8), question_shards(1, 1)[0]
    with pytest.raises(InputError, match=r"worker on .*numpy.*the run has 0\.1.*Install numpy==0\.1 there"):
        perform(job, shard, shard.digest, {**packages(), "numpy": "0.1"})


@dataclass(frozen=True)
class Piece:
    """A task that writes a line each time it is run, and then does as it is told."""

    how: str
    file: str
    cpus: int = 1
    gpus: int = 0

    def run(self) -> list[object]:
        with open(self.file, "a") as file:
            file.write(f"{os.getpid()}\n")
        if self.how == "refuse":
            raise InputError(explain("--model", "x", "is another one"))
        if self.how == "die" or (self.how == "die once" and len(Path(self.file).read_text().split()) == 1):
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)
        return [self.how, os.getpid()]


def test_tasks_end_as_they_end(nodes: Nodes, pool: Pool, tmp_path: Path) -> None:
    """Each in a process of its own; one whose worker died runs again, one that always dies is given up; what
    a task raises is its own end alone."""
    hows = ("work", "refuse", "die once", "die", "work")
    tasks = [Piece(how, str(tmp_path / str(number))) for number, how in enumerate(hows)]
    cluster = RayCluster(parse_address(nodes.workers))
    with contextlib.closing(run_tasks(cluster, tasks)) as ended:
        found = dict(ended)
    cluster.release()
    assert set(found) == set(range(len(hows)))
    for number in (0, 2, 4):
        assert found[number][0] == hows[number]
    assert isinstance(found[1], InputError)
    assert re.match(r"worker on .*: --model = 'x': is another one", str(found[1]))
    assert found[1].rule == "is another one"
    assert isinstance(found[3], MissingToolError)
    assert "has lost the same piece of work 4 times" in str(found[3])
    lines = [(tmp_path / str(number)).read_text().split() for number in range(len(hows))]
    assert [len(runs) for runs in lines] == [1, 1, 2, 4, 1]
    processes = [process for runs in lines for process in runs]
    assert len(set(processes)) == len(processes)
