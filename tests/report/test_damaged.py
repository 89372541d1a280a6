"""`topovlm report` and `topovlm check` on what is no report: one sentence, exit code 2, nothing written."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.report import factory
from topovlm import cli
from topovlm.errors import InputError
from topovlm.report import store
from topovlm.report.document import Report
from topovlm.report.gate import compare
from topovlm.report.markdown import render_markdown


def small() -> Report:
    return factory.small(every=40)


def document() -> dict[str, Any]:
    data: dict[str, Any] = json.loads(store.encode(small()))
    return data


def without(data: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in data.items() if key != name}


DAMAGE = {
    "empty": lambda: "",
    "truncated": lambda: json.dumps(document())[:5000],
    "list": lambda: json.dumps([document()]),
    "number": lambda: "3",
    "not JSON": lambda: "%PDF-1.7",
    "older": lambda: json.dumps({**document(), "schema_version": 1}),
    "newer": lambda: json.dumps({**document(), "schema_version": 99, "new_field": {}}),
    "version of the wrong type": lambda: json.dumps({**document(), "schema_version": "2"}),
    "no version": lambda: json.dumps(without(document(), "schema_version")),
    "missing field": lambda: json.dumps(without(document(), "plan")),
    "unknown field": lambda: json.dumps({**document(), "colour": "red"}),
    "wrong type": lambda: json.dumps({**document(), "budget": "60%"}),
    "null": lambda: json.dumps({**document(), "dense": None}),
    "NaN": lambda: json.dumps({**document(), "verifications": [float("nan")]}),
}
WORDS = {
    "older": "has schema_version 1 (topovlm 0.1.0 wrote it), this topovlm reads 2",
    "newer": "has schema_version 99",
    "missing field": "`plan`",
    "unknown field": "`colour`",
    "wrong type": "$.budget",
    "null": "$.dense",
}


@pytest.mark.parametrize("command", ["report", "run of check", "baseline of check"])
@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_report_is_one_sentence(
    kind: str, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """File, field, rule and remedy in one line on standard error, exit code 2, no report written."""
    for name in ("bad", "good"):
        (tmp_path / name).mkdir()
    bad, good = tmp_path / "bad", tmp_path / "good"
    (bad / "report.json").write_text(DAMAGE[kind]())
    store.write_report(small(), good)
    words = {
        "report": ["report", str(bad)],
        "run of check": ["check", str(bad), "--baseline", str(good)],
        "baseline of check": ["check", str(good), "--baseline", str(bad)],
    }[command]
    assert cli.main(words) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith(f"topovlm: report = '{bad / 'report.json'}': ")
    assert WORDS.get(kind, "cannot be used") in said
    assert "topovlm-deploy" in said
    assert [path.name for path in bad.iterdir()] == ["report.json"]


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        (("accuracy", "questions", 0, "dense", "score"), 1.5, "<= 1.0"),
        (("accuracy", "questions", 0, "dense", "parse"), "unparsed", "an unparsed answer scores 0"),
        (("accuracy", "questions", 0, "chance"), 1.0, "< 1.0"),
        (("accuracy", "questions"), [], "length >= 1"),
        (("accuracy", "questions", 1, "slim"), None, "some of the questions only"),
        (("accuracy", "questions", 1, "id"), "colour-0", "the same id"),
        (("latency", "phases", 0, "dense_samples_ms"), [], "length >= 1"),
        (("latency", "phases", 0, "slim_samples_ms"), [], "needs its samples"),
        (("latency", "phases", 1, "phase"), "vision", "a phase is there twice"),
        (("selection", "dropped"), [99], "layer 99 is named, but 16 layers have scores"),
        (("selection", "barcode", 0, "death"), 99, "beyond the last layer"),
        (("budget", "max_latency_ms"), 7.0, "exclude each other"),
    ],
)
def test_what_cannot_be_is_refused(field: tuple[str | int, ...], value: Any, words: str) -> None:
    """Values of the right type that contradict the rest of the report, with their place in it."""
    data = document()
    place: Any = data
    for key in field[:-1]:
        place = place[key]
    place[field[-1]] = value
    with pytest.raises(InputError) as raised:
        store.decode(json.dumps(data).encode(), "report.json")
    assert words in str(raised.value)
    assert f"$.{field[0]}" in str(raised.value)


def places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every place in a document; of lists the first and the last item."""
    if path:
        yield path
    if isinstance(value, dict):
        for key, item in value.items():
            yield from places(item, (*path, key))
    elif isinstance(value, list):
        for index in {0, len(value) - 1} if value else ():
            yield from places(value[index], (*path, index))


def test_no_damage_is_an_internal_error() -> None:
    """Any one value changed or of another type: the report is refused, or it is read and compared."""
    whole, sound = document(), small()
    rng = random.Random(0)
    tried = [(path, value) for path in places(whole) for value in (None, [], {}, "", "x", -1, 0, 1e308, True)]
    read = 0
    for path, value in rng.sample(tried, 400):
        data = document()
        place: Any = data
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
        try:
            report = store.decode(json.dumps(data).encode(), "report.json")
            render_markdown(report)
            compare(report, sound)
        except InputError:
            continue
        read += 1
    assert 0 < read < 400
