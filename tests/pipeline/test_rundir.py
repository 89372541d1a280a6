"""The run directory: reuse by content, repeat what is stale, never two runs at once."""

from __future__ import annotations

import json
import multiprocessing
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from topovlm.artifacts import sha256_tree
from topovlm.console import Display
from topovlm.errors import InputError, VerificationError
from topovlm.pipeline.rundir import HIDDEN, Record, RunDir
from topovlm.pipeline.stage import Stage
from topovlm.records import Part


class Written(Part, frozen=True, kw_only=True):
    """What the stages of these tests hand on."""

    text: str


def stage(name: str, feeds: tuple[str, ...] = ()) -> Stage[Written]:
    """A stage with one file and one folder as outputs."""
    return Stage(name, Written, outputs=(f"{name}.txt", name), feeds=lambda: feeds)


def write(
    run: RunDir, name: str, inputs: dict[str, Any], text: str = "out", feeds: tuple[str, ...] = ()
) -> Record[Written]:
    """Run a stage that reports how it was called."""

    def make(work: Path, progress: Any) -> Written:
        (work / f"{name}.txt").write_text(text)
        (work / name).mkdir()
        (work / name / "part").write_text(text)
        return Written(text=text)

    return run.stage(stage(name, feeds), inputs, make)


def test_equal_inputs_are_reused_and_others_run_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Same inputs: cached, same digest. Other inputs: run again, and what differs is said."""
    with RunDir(tmp_path / "run", Display()).locked() as run:
        first = write(run, "a", {"k": 5})
        again = write(run, "a", {"k": 5}, "ignored")
        assert (first.cached, again.cached, again.value) == (False, True, Written(text="out"))
        assert first.digest == again.digest
        changed = write(run, "a", {"k": 15}, "new")
        assert not changed.cached
        assert changed.digest != first.digest
    assert "a runs again (k: 5 -> 15)" in capsys.readouterr().err
    assert (tmp_path / "run" / "a" / "part").read_text() == "new"


@pytest.mark.parametrize("spoil", ["change", "remove"])
def test_touched_outputs_are_made_again(tmp_path: Path, spoil: str) -> None:
    """A changed or missing output makes its stage stale."""
    with RunDir(tmp_path / "run", Display(quiet=True)).locked() as run:
        write(run, "a", {})
        part = run.root / "a" / "part"
        part.write_text("spoilt") if spoil == "change" else part.unlink()
        assert not write(run, "a", {}).cached
        assert part.read_text() == "out"


def test_a_failing_stage_leaves_the_old_outputs(tmp_path: Path) -> None:
    """Nothing of a failed stage is seen; the earlier result stays whole and valid."""
    with RunDir(tmp_path / "run", Display(quiet=True)).locked() as run:
        write(run, "a", {"v": 1})

        def fail(work: Path, progress: Any) -> Written:
            (work / "a.txt").write_text("half")
            raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            run.stage(stage("a"), {"v": 2}, fail)
        assert (run.root / "a.txt").read_text() == "out"
        assert write(run, "a", {"v": 1}).cached


def test_other_outputs_take_away_what_was_made_from_the_old_ones(tmp_path: Path) -> None:
    """A run that ends after a changed stage leaves no later results beside it; equal outputs keep them."""
    run = RunDir(tmp_path / "run", Display(quiet=True))
    with run.locked():
        write(run, "a", {"v": 1})
        write(run, "b", {})
        write(run, "a", {"v": 2}, feeds=("b",))  # runs again, with the same outputs
        assert (run.root / "b.txt").exists()
        write(run, "a", {"v": 3}, "other", feeds=("b",))
        assert not (run.root / "b.txt").exists()
        assert not (run.root / "b").exists()
        assert run.recorded("b") is None
        assert write(run, "a", {"v": 3}).cached


def test_leftovers_of_a_killed_run_are_swept(tmp_path: Path) -> None:
    """Temporary files and work folders go when the directory is next used; results stay."""
    root = tmp_path / "run"
    with RunDir(root, Display(quiet=True)).locked() as run:
        write(run, "a", {})
    (root / HIDDEN / "work" / "b").mkdir(parents=True)
    (root / ".report.json.17.tmp").write_text("half")
    with RunDir(root, Display(quiet=True)).locked() as run:
        assert write(run, "a", {}).cached
    assert sorted(path.name for path in root.iterdir()) == [HIDDEN, "a", "a.txt"]
    assert not (root / HIDDEN / "work" / "b").exists()


def _hold(root: Path, ready: Any, done: Any) -> None:
    with RunDir(root, Display(quiet=True)).locked():
        ready.set()
        done.wait(30)


@pytest.mark.parametrize("end", [KeyboardInterrupt, OSError])
def test_a_run_that_is_stopped_leaves_no_work(end: type[BaseException], tmp_path: Path) -> None:
    """The half-made outputs of a stage go with the run, not with the next one."""
    root = tmp_path / "run"

    def stop(work: Path, progress: Any) -> Written:
        (work / "b.txt").write_text("half")
        raise end

    def begin() -> None:
        with RunDir(root, Display(quiet=True)).locked() as run:
            write(run, "a", {})
            run.stage(stage("b"), {}, stop)

    with pytest.raises(end):
        begin()
    assert not (root / ".topovlm" / "work").exists()
    assert (root / "a.txt").is_file()


def test_two_runs_on_one_directory_are_refused(tmp_path: Path) -> None:
    """The second is told; when the first is killed the lock is free at once."""
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    holder = context.Process(target=_hold, args=(tmp_path / "run", ready, done))
    holder.start()
    assert ready.wait(30)
    second = RunDir(tmp_path / "run", Display(quiet=True))
    with pytest.raises(InputError, match="in use by another run"), second.locked():
        pass
    holder.kill()
    holder.join()
    with second.locked() as run:
        write(run, "a", {})


def test_a_foreign_folder_is_refused(tmp_path: Path) -> None:
    """A folder with somebody's files is no run directory; an empty one may become it."""
    (tmp_path / "mine").write_text("")
    with (
        pytest.raises(InputError, match="is no run directory"),
        RunDir(tmp_path, Display(quiet=True)).locked(),
    ):
        pass
    (tmp_path / "mine").unlink()
    with RunDir(tmp_path, Display(quiet=True)).locked():
        pass


def test_a_broken_record_is_no_record(tmp_path: Path) -> None:
    """A record cut short means: run the stage again."""
    with RunDir(tmp_path / "run", Display(quiet=True)).locked() as run:
        write(run, "a", {})
        record = run.root / HIDDEN / "stages" / "a.json"
        record.write_text(record.read_text()[:40])
        assert not write(run, "a", {}).cached


@pytest.mark.parametrize("damage", [{"schema": 1}, {"value": {"text": 7}}, {"value": {}}, {"inputs": 3}])
def test_records_of_another_version_are_made_again(tmp_path: Path, damage: dict[str, Any]) -> None:
    """An older run directory is run again, never misread; its outputs are replaced."""
    with RunDir(tmp_path / "run", Display(quiet=True)).locked() as run:
        write(run, "a", {})
        record = run.root / HIDDEN / "stages" / "a.json"
        record.write_text(json.dumps({**json.loads(record.read_text()), **damage}))
        again = write(run, "a", {}, "new")
        assert (again.cached, again.value.text) == (False, "new")
        assert (run.root / "a.txt").read_text() == "new"


def test_forgotten_stages_take_their_outputs_along(tmp_path: Path) -> None:
    """What no longer applies is removed, not left to mislead."""
    with RunDir(tmp_path / "run", Display(quiet=True)).locked() as run:
        write(run, "a", {})
        run.forget("a")
        assert sorted(path.name for path in run.root.iterdir()) == [HIDDEN]


@pytest.mark.parametrize("wrong", ["no folder", "another record"])
def test_a_stage_that_does_not_do_what_it_promises_keeps_nothing(tmp_path: Path, wrong: str) -> None:
    """A plug-in's exporter may: what was there before stays, and the next run tries again."""

    def make(work: Path, progress: Any) -> Written:
        (work / "a.txt").write_text("new")
        if wrong == "no folder":
            return Written(text="new")
        (work / "a").mkdir()
        return Written(text=3)  # type: ignore[arg-type]

    with RunDir(tmp_path / "run", Display(quiet=True)).locked() as run:
        write(run, "a", {"k": 5}, "old")
        with pytest.raises(VerificationError, match=r"writing a|no Written"):
            run.stage(stage("a"), {"k": 6}, make)
        assert (run.root / "a.txt").read_text() == "old"
        assert write(run, "a", {"k": 5}).cached


def test_what_an_exporter_left_goes_with_it(tmp_path: Path) -> None:
    """A format that is not asked for any more is taken away, also when its plug-in is not installed now."""
    from tests.pipeline import deploying
    from tests.pipeline.test_data import context
    from topovlm.pipeline.exporting import export_others

    here = context(deploying.build_model(tmp_path / "model"), tmp_path / "run")
    with here.run.locked() as run:
        for name in ("gone", "select", "rejected-5"):
            write(run, name, {})
        export_others(here)
        there = [(run.root / name).exists() for name in ("gone", "select", "rejected-5")]
        assert there == [False, True, True]
        assert run.names() == ("rejected-5", "select")


def tampered(root: Path, name: str, **changes: Any) -> None:
    """A record as another person's archive might hold it."""
    record = root / HIDDEN / "stages" / f"{name}.json"
    record.parent.mkdir(parents=True, exist_ok=True)
    sound = {"schema": 2, "name": name, "inputs": {}, "outputs": {}, "value": {"text": ""}, "seconds": 0.0}
    record.write_text(json.dumps({**sound, **changes}))


@pytest.mark.parametrize(
    "output", ["{victim}", "../victim", "a/../../victim", "link", "link/file", ".", "", "a\0b"]
)
def test_a_record_names_nothing_outside_of_its_directory(tmp_path: Path, output: str) -> None:
    """Absolute, upwards or through a link: neither resuming nor forgetting the stage touches it."""
    victim, root = tmp_path / "victim", tmp_path / "run"
    victim.mkdir()
    (victim / "file").write_text("precious")
    output = output.format(victim=victim)
    for name in ("a", "report", "gone"):
        tampered(root, name, outputs={output: sha256_tree(victim)})
    (root / "link").symlink_to(victim)
    with RunDir(root, Display(quiet=True), [stage("a")]).locked() as run:
        assert run.recorded("a") is None
        for name in run.names():
            run.forget(name)
        assert not write(run, "a", {}).cached
    assert (victim / "file").read_text() == "precious"
    assert (root / "link").is_symlink()


@pytest.mark.parametrize("name", ["Documents", "../victim", "a.b", "model"])
def test_what_a_stage_did_not_write_stays(tmp_path: Path, name: str) -> None:
    """A record of a stage that nobody knows takes along what it was made of, and nothing else."""
    root = tmp_path / "run"
    (root / name).mkdir(parents=True)
    (root / name / "mine").write_text("precious")
    record = root / HIDDEN / "stages" / f"{Path(name).name}.json"
    record.parent.mkdir(parents=True, exist_ok=True)
    sound = {"schema": 2, "name": name, "inputs": {}, "value": {}, "seconds": 0.0}
    record.write_text(json.dumps({**sound, "outputs": {name: "0" * 64}}))
    with RunDir(root, Display(quiet=True)).locked() as run:
        run.forget(name)
        run.forget(Path(name).name)
    assert (root / name / "mine").read_text() == "precious"


def test_a_link_in_the_place_of_an_output_is_no_output(tmp_path: Path) -> None:
    """Its content may be what was recorded: what ships is a copy of ours, and what it leads to stays."""
    with RunDir(tmp_path / "run", Display(quiet=True)).locked() as run:
        write(run, "a", {})
        (run.root / "a").rename(tmp_path / "elsewhere")
        (run.root / "a").symlink_to(tmp_path / "elsewhere")
        assert not write(run, "a", {}, "new").cached
        assert not (run.root / "a").is_symlink()
        (run.root / "a" / "part").unlink()
        (run.root / "a" / "part").symlink_to(tmp_path / "elsewhere" / "part")
        assert not write(run, "a", {}, "new").cached
    assert (tmp_path / "elsewhere" / "part").read_text() == "out"


@pytest.mark.parametrize("place", [HIDDEN, f"{HIDDEN}/stages", f"{HIDDEN}/work", f"{HIDDEN}/lock", "logs"])
def test_what_we_write_through_is_no_link(tmp_path: Path, place: str) -> None:
    """It would lead a sweep, a lock, a record or a log elsewhere."""
    victim, root = tmp_path / "victim", tmp_path / "run"
    (victim / "work").mkdir(parents=True)
    (victim / "work" / "file").write_text("precious")
    (root / HIDDEN).mkdir(parents=True)
    if place == HIDDEN:
        (root / HIDDEN).rmdir()
    (root / place).symlink_to(victim)
    with pytest.raises(InputError, match="a link or a pipe"), RunDir(root, Display(quiet=True)).locked():
        pass
    assert [path.name for path in victim.iterdir()] == ["work"]
    assert (victim / "work" / "file").read_text() == "precious"


def test_a_pipe_among_the_records_is_not_waited_for(tmp_path: Path) -> None:
    """Nor in the place of the lock or the log."""
    for number, place in enumerate((f"{HIDDEN}/stages/a.json", f"{HIDDEN}/lock", "logs/libraries.log")):
        root = tmp_path / str(number)
        (root / HIDDEN).mkdir(parents=True)
        (root / place).parent.mkdir(exist_ok=True)
        os.mkfifo(root / place)
        with pytest.raises(InputError, match="a link or a pipe"), RunDir(root, Display(quiet=True)).locked():
            pass


@pytest.mark.parametrize("target", ["a.txt", "a/part"])
def test_bytes_that_changed_under_the_same_size_and_time_are_noticed(tmp_path: Path, target: str) -> None:
    """A copied directory keeps times, and so does who changes bytes on purpose: all are read again."""
    with RunDir(tmp_path / "run", Display(quiet=True)).locked() as run:
        write(run, "a", {}, "sound")
        assert write(run, "a", {}).cached
        file = run.root / target
        before = file.stat()
        with file.open("r+b") as opened:  # in place: the same inode
            opened.write(b"wrong")
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        after = file.stat()
        same = ("st_size", "st_mtime_ns", "st_ino")
        assert [getattr(after, name) for name in same] == [getattr(before, name) for name in same]
        assert not write(run, "a", {}, "sound").cached
        assert file.read_text() == "sound"


def test_temporary_files_of_others_stay(tmp_path: Path) -> None:
    """Only those that are called as ours are swept."""
    with RunDir(tmp_path / "run", Display(quiet=True)).locked() as run:
        (run.root / ".notes.tmp").write_text("mine")
        (run.root / ".report.json.17.tmp").write_text("half")
    with RunDir(tmp_path / "run", Display(quiet=True)).locked() as run:
        assert sorted(path.name for path in run.root.glob(".*.tmp")) == [".notes.tmp"]


def lent(
    lender: Path, run: Path, inputs: dict[str, Any], *, may: bool = True
) -> tuple[Record[Written], bool]:
    """A stage `a` in `run`, which may look into `lender`; and whether it was computed there."""
    made: list[Path] = []

    def make(work: Path, progress: Any) -> Written:
        made.append(work)
        (work / "a.txt").write_text("computed")
        (work / "a").mkdir()
        return Written(text="computed")

    asked = replace(stage("a"), lent=may)
    with RunDir(run, Display(quiet=True), lenders=[run.parent / "nowhere", lender]).locked() as opened:
        return opened.stage(asked, inputs, make), bool(made)


def test_a_result_of_another_directory_serves_when_its_key_is_equal(tmp_path: Path) -> None:
    """The same record, the same bytes; the stage does not run. Not for another key, and not when timed."""
    with RunDir(tmp_path / "first", Display(quiet=True)).locked() as run:
        first = write(run, "a", {"k": 5})
    second, computed = lent(tmp_path / "first", tmp_path / "second", {"k": 5})
    assert not computed
    assert (second.digest, second.outputs, second.value) == (first.digest, first.outputs, first.value)
    assert (tmp_path / "second" / "a" / "part").read_text() == "out"
    assert lent(tmp_path / "first", tmp_path / "third", {"k": 6})[1]
    assert lent(tmp_path / "first", tmp_path / "fourth", {"k": 5}, may=False)[1]


@pytest.mark.parametrize("how", ["changed", "removed", "linked"])
def test_what_is_not_as_recorded_is_not_taken_over(tmp_path: Path, how: str) -> None:
    """The lender's files are read whole: a stage whose files were touched is computed."""
    with RunDir(tmp_path / "first", Display(quiet=True)).locked() as run:
        write(run, "a", {"k": 5})
    part = tmp_path / "first" / "a" / "part"
    part.unlink()
    if how == "changed":
        part.write_text("oth")
    elif how == "linked":
        (tmp_path / "elsewhere").write_text("out")
        part.symlink_to(tmp_path / "elsewhere")
    record, computed = lent(tmp_path / "first", tmp_path / "second", {"k": 5})
    assert computed
    assert record.value == Written(text="computed")
