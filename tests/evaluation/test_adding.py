"""docs/adding-a-task.md carried out: its module and its entry point, and nothing else, make a task."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
from PIL.Image import Image

from tests.pipeline import deploying
from tests.pipeline.test_data import context
from tests.report import factory
from topovlm.errors import InputError
from topovlm.evaluation.evaluate import Outcome, evaluate
from topovlm.evaluation.task import Task
from topovlm.report.document import Accuracy
from topovlm.report.gate import compare
from topovlm.report.html import render_html
from topovlm.report.markdown import render_markdown
from topovlm.report.sections import accuracy_section
from topovlm.tasks import TASKS, open_task

PAGE = Path(__file__).parents[2] / "docs" / "adding-a-task.md"
ANSWERS = {"shop": "Corner Bakery", "cashier": "Ada"}


@pytest.fixture
def receipts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Task]:
    """The task of the page, installed as pip would: a module and an entry point."""
    text = PAGE.read_text(encoding="utf-8")
    module = re.search(r"```python\n(.*?)```", text, re.S)
    point = re.search(r"```toml\n\[project\.entry-points\.\"(.+?)\"\]\n(\w+) = \"(.+?)\"\n```", text)
    assert module is not None
    assert point is not None
    (tmp_path / "receipts.py").write_text(module[1], encoding="utf-8")
    metadata = tmp_path / "receipts-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: receipts\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[{point[1]}]\n{point[2]} = {point[3]}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield open_task("receipts", None)
    sys.modules.pop("receipts", None)


@dataclass
class Said:
    text: str


@dataclass
class Reader:
    """An engine that reads the receipt, and every `slips`-th time loses the end of what it read."""

    slips: int

    def generate_batch(
        self, items: Sequence[tuple[list[Image], str]], batch_size: int, max_new_tokens: int
    ) -> list[Said]:
        assert all(prompt.endswith("Answer with the text on the receipt.") for _, prompt in items)
        read = [next(a for field, a in ANSWERS.items() if field in prompt) for _, prompt in items]
        return [Said(a[: -2 if i % self.slips == 0 else None]) for i, a in enumerate(read)]


def answers(task: Task, slips: int) -> list[Outcome]:
    return evaluate(Reader(slips), task, task.samples("test", 40, 0))


def accuracy(task: Task, slips: int) -> Accuracy:
    """Dense slips once in twenty questions, slim once in `slips`."""
    dense, slim = answers(task, 20), answers(task, slips)
    return accuracy_section(dense, slim, source="reader", sample_source=task.source, task=task.name)


def test_a_plug_in_is_found_by_its_entry_point(receipts: Task) -> None:
    """Installed, it is named among the tasks, and what it refuses is said in its own words."""
    assert "receipts" in TASKS.names()
    assert (receipts.name, receipts.licence) == ("receipts", "CC0-1.0")
    with pytest.raises(InputError, match="brings its own questions"):
        open_task("receipts", Path("data.jsonl"))
    asked = [{sample.prompt for sample in receipts.samples(split, 9, 0)} for split in ("calibration", "test")]
    assert not asked[0] & asked[1]


def test_a_deployment_chooses_on_one_split_and_measures_on_the_other(receipts: Task, tmp_path: Path) -> None:
    """Layers are scored, judged and repaired on calibration questions; test questions are held out."""
    model = deploying.build_model(tmp_path / "model")
    data = context(model, tmp_path / "out", task="receipts").data
    parts = (data.calibration(), data.judging(), data.confirming())
    assert [len(part) for part in parts] == [20, 12, 8]
    drawn = receipts.samples("calibration", 40, 0)
    assert [sample.id for part in parts for sample in part] == [sample.id for sample in drawn]
    asked = {sample.prompt for part in parts for sample in part}
    assert asked == {receipts.prompt(sample) for sample in drawn}  # as the questions that measure are put
    assert data.held_out() == receipts.samples("test", 600, 0)
    assert data.held_out_fact["origin"] == "receipts:Receipts 1.0"
    assert "receipts" in data.source


def test_a_task_of_another_name_is_refused(receipts: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    """The report and the keys of stages call it what `--task` does."""
    monkeypatch.setattr(type(receipts), "name", "bills")
    with pytest.raises(InputError, match="'receipts': calls itself 'bills'"):
        open_task("receipts", None)


def test_splits_that_share_questions_are_refused(
    receipts: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report says that no layer was chosen on what is measured: that is checked, not believed."""
    drawn = receipts.samples("calibration", 40, 0)
    monkeypatch.setattr(type(receipts), "samples", lambda self, split, count, seed: drawn[:count])
    model = deploying.build_model(tmp_path / "model")
    with pytest.raises(InputError, match=r"on the same samples \(group calibration-0, 50 in all\)"):
        context(model, tmp_path / "out", task="receipts").data.check()


def test_graded_scores_reach_the_report_and_its_readable_forms(receipts: Task) -> None:
    """Means of scores between 0 and 1, called scores and not right answers, in JSON, Markdown and HTML."""
    section = accuracy(receipts, 3)
    overall = section.overall
    assert not overall.binary
    assert overall.dense_right is overall.slim_right is None
    scores = [question.slim.score for question in section.questions if question.slim]
    assert overall.slim is not None
    assert overall.slim.value == pytest.approx(sum(scores) / 40)
    assert overall.difference is not None
    assert overall.worse == sum(i % 3 == 0 and i % 20 != 0 for i in range(40))
    assert {found.category for found in section.categories} == set(ANSWERS)
    report = msgspec.structs.replace(factory.standard(), accuracy=section)
    markdown, page = render_markdown(report), render_html(report)
    assert "t intervals of the mean" in markdown
    assert "| dense score | slim score |" in markdown
    assert f"score {100 * overall.slim.value:.1f}" in page
    assert "dense right" not in markdown
    assert receipts.source in page


def test_the_gate_reads_graded_scores(receipts: Task) -> None:
    """A model that reads worse than the baseline's fails the check, the same one passes."""
    before = msgspec.structs.replace(factory.standard(), accuracy=accuracy(receipts, 20), latency=None)
    after = msgspec.structs.replace(before, accuracy=accuracy(receipts, 1))
    assert not compare(before, before).regressed
    found = {row.name: row.verdict for row in compare(after, before).checks}
    assert found["accuracy.overall"] == "regressed"
    assert not compare(before, after).regressed
