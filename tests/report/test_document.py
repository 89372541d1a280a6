"""The data model, its storage, its published schema and its content hash."""

from __future__ import annotations

import json
import os
from pathlib import Path

import jsonschema
import msgspec
import pytest

from tests.report import factory
from topovlm.errors import InputError
from topovlm.report import store
from topovlm.report.document import Plan, Report, check, phase_times, plan_row
from topovlm.report.identity import content, content_hash


@pytest.fixture(scope="module")
def report() -> Report:
    """One complete synthetic report."""
    return factory.standard()


def test_json_round_trip_is_lossless(report: Report) -> None:
    """What is written is what is read, raw samples included."""
    assert store.decode(store.encode(report)) == report


def test_committed_schema_is_current() -> None:
    """The published JSON Schema is the one that the data model generates (python -m topovlm.report.store)."""
    assert store.SCHEMA_PATH.read_text(encoding="utf-8") == store.schema_text()


def test_reports_follow_the_published_schema(report: Report) -> None:
    """An independent validator accepts pruned and dense reports, and finds a planted error."""
    schema = json.loads(store.SCHEMA_PATH.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    validator.validate(json.loads(store.encode(report)))
    dense = json.loads(store.encode(factory.standard(pruned=False)))
    validator.validate(dense)
    dense["plan"]["verdict"] = "perhaps"
    assert not validator.is_valid(dense)


def test_folder_and_file_both_open(report: Report, tmp_path: Path) -> None:
    """A run directory stands for its report.json; nothing temporary stays behind."""
    store.write_report(report, tmp_path)
    assert store.read_report(tmp_path) == store.read_report(tmp_path / "report.json") == report
    assert os.listdir(tmp_path) == ["report.json"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not JSON"),
        ("not json", "is not JSON"),
        ("[]", "Expected `object`, got `array`"),
        ('{"schema_version": 2, "x": ' + "[" * 100_000, "nested too deeply"),
        ("{}", "schema_version"),
        ('{"schema_version": "two"}', "Expected `int`, got `str`"),
        ('{"schema_version": 99}', "has schema_version 99, this topovlm reads 2"),
        ('{"schema_version": 1, "topovlm_version": "0.0.9"}', r"1 \(topovlm 0\.0\.9 wrote it\)"),
        ('{"schema_version": 2}', "missing required field `topovlm_version`"),
    ],
)
def test_broken_reports_are_named(tmp_path: Path, text: str, message: str) -> None:
    """Whatever the file holds, the message names the file and what is wrong."""
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(InputError, match=message):
        store.read_report(tmp_path)


def test_a_wrong_field_is_named_by_its_path(report: Report, tmp_path: Path) -> None:
    """A value of the wrong type is found where it stands."""
    data = json.loads(store.encode(report))
    data["accuracy"]["questions"][3]["dense"]["score"] = "yes"
    (tmp_path / "report.json").write_text(json.dumps(data))
    with pytest.raises(InputError, match=r"accuracy\.questions\[3\]\.dense\.score"):
        store.read_report(tmp_path)


def test_missing_reports_say_what_to_give(tmp_path: Path) -> None:
    """A folder without report and a path that is not there."""
    with pytest.raises(InputError, match=r"has no report\.json"):
        store.read_report(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        store.read_report(tmp_path / "nowhere")


def test_unwritable_output_leaves_nothing(report: Report, tmp_path: Path) -> None:
    """Writing below a file fails as bad input, and no half-written file is left."""
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="a file is where a directory is needed"):
        store.write_report(report, tmp_path / "file" / "report.json")
    assert os.listdir(tmp_path) == ["file"]


def test_not_a_number_is_refused_when_written(report: Report) -> None:
    """NaN would be null in the file: the writer finds it, not the reader."""
    figure = msgspec.structs.replace(report.plan.rows[0].ttft, value=float("nan"))
    rows = (msgspec.structs.replace(report.plan.rows[0], ttft=figure),)
    broken = msgspec.structs.replace(report, plan=msgspec.structs.replace(report.plan, rows=rows))
    with pytest.raises(ValueError, match="NaN"):
        store.encode(broken)


def test_documents_cannot_be_changed(report: Report) -> None:
    """Parts are frozen: a figure that was shown stays what it was."""
    with pytest.raises(AttributeError):
        report.dense.layers = 3  # type: ignore[misc]


def test_predictions_are_found_by_model(report: Report) -> None:
    """The dense model's row and the slim model's row; none for a slim model that is not there."""
    dense, slim = plan_row(report, "dense"), plan_row(report, "slim")
    assert dense is not None
    assert slim is not None
    assert (dense.kept, slim.kept) == (16, 10)
    assert plan_row(factory.standard(pruned=False), "slim") is None
    assert phase_times(report, "ttft") is not None
    assert phase_times(report, "embed") is None


def changed(report: Report, **fields: object) -> str:
    return content_hash(msgspec.structs.replace(report, **fields))


def test_content_hash_ignores_when_where_and_how_fast(report: Report) -> None:
    """Times, timings, paths, the machine and non-reproducible bytes are no content."""
    replace = msgspec.structs.replace
    before = content_hash(report)
    stages = (replace(report.run.stages[0], seconds=99.0, cached=True),)
    run = replace(report.run, created="2030-01-01T00:00:00Z", argv=("other",), stages=stages, config={})
    onnx = replace(report.artifacts[1], bytes=1, sha256="f" * 64)
    assert not onnx.reproducible
    parity = replace(report.verifications[2], value=3.1e-5, detail="worded otherwise")
    assert changed(report, run=run) == before
    assert changed(report, environment=replace(report.environment, cpu="Other")) == before
    assert changed(report, latency=factory.latency(scale=3, seed=8)) == before
    assert changed(report, latency=None) == before
    assert changed(report, dense=replace(report.dense, path="/other")) == before
    assert changed(report, budget=replace(report.budget, latency_ms=7.77)) == before
    assert changed(report, artifacts=(report.artifacts[0], onnx, report.artifacts[2])) == before
    verifications = (*report.verifications[:2], parity, report.verifications[3])
    assert changed(report, verifications=verifications) == before


def test_content_hash_sees_what_was_decided_and_answered(report: Report) -> None:
    """Seed, weights, layers, one flipped answer, a failed check, another reproducible file: all change it."""
    replace = msgspec.structs.replace
    before = content_hash(report)
    assert report.selection is not None
    assert report.accuracy is not None
    question = report.accuracy.questions[0]
    flipped = replace(question, dense=replace(question.dense, score=1 - question.dense.score))
    accuracy = replace(report.accuracy, questions=(flipped, *report.accuracy.questions[1:]))
    others = [
        changed(report, run=replace(report.run, seed=1)),
        changed(report, dense=replace(report.dense, weights_sha256="0" * 64)),
        changed(report, plan=replace(report.plan, keep_layers=9)),
        changed(report, selection=replace(report.selection, dropped=report.selection.dropped[:-1])),
        changed(report, accuracy=accuracy),
        changed(report, verifications=(check(report.verifications[0].name, "slim", 9, "equal to", 10),)),
        changed(report, artifacts=(replace(report.artifacts[0], sha256="0" * 64),)),
    ]
    assert len({before, *others}) == len(others) + 1


def test_predictions_count_unless_they_were_measured_here(report: Report) -> None:
    """A published predictor's figures are content; those of a profile timed in this run are not."""
    replace = msgspec.structs.replace

    def with_rows(plan: Plan, count: int) -> str:
        return changed(report, plan=replace(plan, rows=plan.rows[:count]))

    published = replace(report.plan, predictor="published")
    assert with_rows(report.plan, 3) == with_rows(report.plan, 5)
    assert with_rows(published, 3) != with_rows(published, 5)


def test_last_bits_are_no_content() -> None:
    """Six significant digits count; minus zero is zero."""
    assert content((0.1234564, -0.0)) == content((0.12345641, 0.0))
    assert content(0.123456) != content(0.123457)
