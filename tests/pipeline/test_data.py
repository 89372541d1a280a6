"""How --data is split: parts that share no picture, and truthful words where it is too small."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from topovlm.config import resolve
from topovlm.console import Display
from topovlm.errors import InputError
from topovlm.pipeline.context import Context
from topovlm.pipeline.data_split import choosing_parts, hold_out
from topovlm.pipeline.rundir import RunDir
from topovlm.pipeline.sources import find_model
from topovlm.predict.target import load_target
from topovlm.samples import Sample


def questions(count: int, per_picture: int = 1, answer: str | None = "yes") -> list[Sample]:
    """`count` samples, `per_picture` of them on each picture."""
    return [
        Sample(
            f"q{n}", (Path(f"{n // per_picture}.png"),), f"Is it {n}?", answer, group=f"{n // per_picture}"
        )
        for n in range(count)
    ]


def data_file(folder: Path, count: int, answered: bool = True) -> Path:
    """A JSONL of `count` questions, each on a picture of its own."""
    import json

    from tests import tiny

    lines = []
    for number in range(count):
        tiny.picture(number, 32).save(folder / f"{number}.png")
        line = {"image": f"{number}.png", "prompt": f"What is {number}?"}
        lines.append(json.dumps({**line, "answer": "yes"} if answered else line))
    (folder / "mine.jsonl").write_text("\n".join(lines))
    return folder / "mine.jsonl"


def context(model: Path, out: Path, **flags: str) -> Context:
    """The inputs of a run, without running it."""
    config = resolve({"target": "jetson-orin", "model": str(model), "threads": "1", **flags})
    return Context(config, find_model(str(model)), load_target("jetson-orin"), RunDir(out, Display()))


def groups_of(parts: Iterable[Sequence[Sample]]) -> list[set[str]]:
    return [{sample.group for sample in part} for part in parts]


@pytest.mark.parametrize(("count", "per_picture"), [(64, 1), (200, 3), (900, 7)])
def test_the_four_parts_share_no_picture(count: int, per_picture: int) -> None:
    """Scoring, judging, confirming and held-out samples are disjoint by picture; half is held out."""
    choosing, held_out = hold_out(questions(count, per_picture), 256, 96, seed=1)
    parts = choosing_parts(choosing, 256, 96)
    groups = groups_of((parts.score, parts.judge, parts.confirm, held_out))
    assert all(groups)
    assert len(set.union(*groups)) == sum(map(len, groups))
    assert not parts.shared
    assert len(held_out) >= count // 2 - per_picture


@pytest.mark.parametrize(("count", "per_picture", "scored"), [(40, 1, 20), (448, 1, 256), (448, 5, 256)])
def test_a_task_with_splits_gives_its_first_questions_to_scoring(
    count: int, per_picture: int, scored: int
) -> None:
    """In the task's order; a picture is on one side only."""
    drawn = questions(count, per_picture)
    parts = choosing_parts(drawn, 256, 96, in_order=True)
    chosen = [*parts.score, *parts.judge, *parts.confirm]
    assert chosen == [sample for sample in drawn if sample in chosen]
    assert len(parts.score) == scored
    groups = groups_of((parts.score, parts.judge, parts.confirm))
    assert all(groups)
    assert len(set.union(*groups)) == sum(map(len, groups))


def test_samples_linked_by_one_of_several_pictures_stay_together() -> None:
    """A sample with two pictures ties the samples of both."""
    samples = questions(64)
    samples.append(Sample("both", (Path("0.png"), Path("1.png")), "Same?", "no", group="pair"))
    choosing, held_out = hold_out(samples, 16, 8, seed=0)
    parts = choosing_parts(choosing, 16, 8)
    each = (parts.score, parts.judge, parts.confirm, held_out)
    tied = [part for part in each if {sample.id for sample in part} & {"q0", "q1", "both"}]
    assert len(tied) == 1


def test_small_data_judges_on_what_it_scored_and_says_so(tmp_path: Path) -> None:
    """24 samples: 12 choose layers, 12 are held out, no repair, and a note."""
    from tests.pipeline import deploying

    model = deploying.build_model(tmp_path / "model")
    here = context(model, tmp_path / "out", data=str(data_file(tmp_path, 24)))
    assert len(here.data.calibration()) == len(here.data.held_out()) == 12
    assert here.data.judging() == here.data.calibration()
    assert here.data.confirming() == []
    assert any("too small" in note for note in here.data.notes)


def test_data_without_answers_all_chooses() -> None:
    """Nothing could be held out: all of it serves the choice."""
    choosing, held_out = hold_out(questions(64, answer=None), 256, 96, seed=0)
    parts = choosing_parts(choosing, 256, 96)
    assert (len(parts.score) + len(parts.judge) + len(parts.confirm), held_out) == (64, [])


def test_too_little_data_is_refused() -> None:
    """Eight samples must be left to choose on."""
    choosing, _ = hold_out(questions(12), 256, 96, seed=0)
    with pytest.raises(InputError, match="at least 8 are needed"):
        choosing_parts(choosing, 256, 96)


def test_inputs_notice_pictures_and_the_held_out_set(tmp_path: Path) -> None:
    """Another picture under the same name, and another split, are other inputs."""
    from tests import tiny
    from tests.pipeline import deploying

    model = deploying.build_model(tmp_path / "model")
    data = str(data_file(tmp_path, 40))
    before = context(model, tmp_path / "out", data=data).data
    facts = (before.choosing_fact, before.held_out_fact)
    [changed] = before.calibration()[0].images
    assert isinstance(changed, Path)
    tiny.picture(99, 40).save(changed)
    after = context(model, tmp_path / "out", data=data)
    assert facts[0] != after.data.choosing_fact
    assert facts[1] == after.data.held_out_fact
    other = context(model, tmp_path / "out", data=data, seed="3")
    assert after.data.held_out_fact != other.data.held_out_fact
    assert after.data.held_out_fact == context(model, tmp_path / "out", data=data).data.held_out_fact
