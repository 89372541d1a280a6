"""The gate fails closed: whatever a run lacks is a failure or a refusal, never a comparison left out."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import msgspec
import pytest

from tests.report import factory
from topovlm import cli
from topovlm.errors import InputError
from topovlm.report import store
from topovlm.report.checks import CheckResult
from topovlm.report.document import Report, check
from topovlm.report.gate import compare, run_check

replace = msgspec.structs.replace
Document = dict[str, Any]


@cache
def sound() -> Report:
    asked = factory.benchmark("ai2d", [1, 1, 0, 1, 1, 0, 1, 1], [1, 1, 0, 1, 0, 0, 1, 1], cluster=2)
    return replace(factory.small(every=20), benchmarks=(asked,))


@cache
def slow() -> Report:
    """The same, half as fast again."""
    return replace(sound(), latency=factory.latency(n=8, scale=1.5))


@cache
def unverified() -> Report:
    """The same as the sound one, with one check failed."""
    first, *others = sound().verifications
    return replace(sound(), verifications=(check(first.name, "slim", 9, "equal to", 10), *others))


def document(report: Report) -> Document:
    data: Document = json.loads(store.encode(report))
    return data


def judged(data: Document, baseline: Report | None = None) -> CheckResult:
    """The verdict on a document that was changed by hand."""
    run = store.decode(json.dumps(data).encode(), "run/report.json")
    return compare(run, baseline or sound(), names=("run/report.json", "base/report.json"))


def failures(data: Document) -> set[str]:
    return {row.name for row in judged(data).checks if row.verdict == "regressed"}


def without_category(data: Document) -> None:
    rows = data["accuracy"]["categories"]
    data["accuracy"]["categories"] = [row for row in rows if row["category"] != "motion"]


def without_questions(data: Document) -> None:
    questions = data["accuracy"]["questions"]
    data["accuracy"]["questions"] = [q for q in questions if q["category"] != "motion"]


def silent(data: Document) -> None:
    for question in data["accuracy"]["questions"]:
        question["slim"] = None


def untimed(data: Document) -> None:
    data["latency"]["phases"][1].update(slim=None, slim_samples_ms=[], ratio=None)


REMOVED: dict[str, tuple[Callable[[Document], object], str]] = {
    "accuracy": (lambda data: data.update(accuracy=None), "accuracy"),
    "a category": (without_category, "accuracy.motion"),
    "its questions": (without_questions, "accuracy.questions"),
    "slim answers": (silent, "accuracy.answers"),
    "benchmarks": (lambda data: data.pop("benchmarks"), "benchmarks.ai2d"),
    "a benchmark's question": (
        lambda data: data["benchmarks"][0]["accuracy"]["questions"].pop(),
        "benchmarks.ai2d.questions",
    ),
    "slim answers of a benchmark": (
        lambda data: [q.update(slim=None) for q in data["benchmarks"][0]["accuracy"]["questions"]],
        "benchmarks.ai2d.answers",
    ),
    "latency": (lambda data: data.update(latency=None), "latency"),
    "phases": (lambda data: data["latency"].update(phases=[]), "latency.ttft"),
    "a phase": (lambda data: data["latency"]["phases"].pop(), "latency.end_to_end"),
    "timings of slim": (untimed, "latency.prefill"),
    "memory": (lambda data: data["latency"].update(memory=[]), "memory.peak resident set"),
    "slim memory": (lambda data: data["latency"]["memory"][1].pop("slim"), "memory.peak resident set"),
    "an artefact": (lambda data: data["artifacts"].pop(), "artifact.tensorrt/jetson (tensorrt-bundle, slim)"),
    "artefacts": (lambda data: data.pop("artifacts"), "artifact.model (checkpoint, slim)"),
    "a check": (lambda data: data["verifications"].pop(0), "verification.reload with stock transformers"),
    "checks": (lambda data: data.pop("verifications"), "verification.ONNX parity"),
}


@pytest.mark.parametrize("part", REMOVED)
@pytest.mark.parametrize("run", [sound, slow])
def test_what_is_missing_is_a_failure_by_name(part: str, run: Callable[[], Report]) -> None:
    """Also of a run that is sound otherwise: exit code 4, and the part in the list."""
    data = document(run())
    remove, name = REMOVED[part]
    remove(data)
    assert name in failures(data)


def places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every key and, of lists, the first, a middle and the last item."""
    if path:
        yield path
    if isinstance(value, dict):
        for key, item in value.items():
            yield from places(item, (*path, key))
    elif isinstance(value, list):
        for index in {0, len(value) // 2, len(value) - 1} if value else ():
            yield from places(value[index], (*path, index))


@pytest.mark.parametrize("run", [slow, unverified])
def test_taking_parts_away_never_helps(run: Callable[[], Report]) -> None:
    """A run that fails still fails, or is refused, whatever one part of it is deleted or emptied."""
    whole = document(run())
    assert judged(whole).regressed
    tried = [(path, how) for path in places(whole) for how in ("delete", "null", "empty")]
    for path, how in random.Random(0).sample(tried, 350):
        data = document(run())
        place: Any = data
        for key in path[:-1]:
            place = place[key]
        if how == "delete":
            del place[path[-1]]
        else:
            place[path[-1]] = None if how == "null" else type(place[path[-1]])()
        try:
            assert judged(data).regressed, (path, how)
        except InputError:
            continue


@pytest.mark.parametrize("side", ["run", "baseline"])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"slim_samples_ms": []}, "needs its samples"),
        ({"dense_samples_ms": []}, "length >= 1"),
        ({"slim_samples_ms": [0.0] * 8}, "> 0.0"),
        ({"dense_samples_ms": [0.0] * 8}, "> 0.0"),
        ({"slim_samples_ms": [1.0] * 7 + [-1.0]}, "> 0.0"),
        ({"slim_samples_ms": [1.0] * 7 + [float("nan")]}, "is no number"),
        ({"slim_samples_ms": [1.0] * 7 + [float("inf")]}, "is no number"),
        ({"slim_samples_ms": [1.0] * 7 + [1e300]}, "<= 1000000000.0"),
        ({"slim_samples_ms": [1.0] * 7 + ["1"]}, "Expected `float`"),
        ({"slim_samples_ms": [1.0] * 7}, "different numbers of timings"),
        ({"slim_samples_ms": [9.0], "dense_samples_ms": [9.0]}, "holds too few of them"),
    ],
)
def test_impossible_samples_are_refused_on_both_sides(
    side: str, change: dict[str, Any], words: str, tmp_path: Any
) -> None:
    """Exit code 2 with the file and the field: in the new run and in the baseline alike."""
    for name in ("run", "baseline"):
        data = document(sound())
        if name == side:
            data["latency"]["phases"][0].update(change)
        (tmp_path / f"{name}.json").write_text(json.dumps(data))
    with pytest.raises(InputError) as raised:
        run_check(tmp_path / "run.json", tmp_path / "baseline.json")
    assert words in str(raised.value)
    assert f"{side}.json" in str(raised.value)
    assert cli.main(["check", str(tmp_path / "run.json"), "--baseline", str(tmp_path / "baseline.json")]) == 2


CONTRADICTIONS: dict[str, tuple[Callable[[Document], object], str]] = {
    "no questions": (lambda data: data["accuracy"].update(questions=[]), "length >= 1"),
    "a question twice": (
        lambda data: data["accuracy"]["questions"].append(data["accuracy"]["questions"][0]),
        "the same id",
    ),
    "a question that is new": (
        lambda data: data["accuracy"]["questions"][0].update(id="new"),
        "is no question of the baseline",
    ),
    "a question moved elsewhere": (
        lambda data: data["accuracy"]["questions"][0].update(category="motion"),
        "accuracy.questions.category = 'motion'",
    ),
    "a phase twice": (
        lambda data: data["latency"]["phases"].append(data["latency"]["phases"][0]),
        "a phase is there twice",
    ),
    "no slim model": (lambda data: data.update(slim=None), "the report has none"),
    "a reversed interval": (
        lambda data: data["latency"]["phases"][0]["slim"].update(low=3.0, high=1.0),
        "the interval is reversed",
    ),
    "half an interval": (lambda data: data["latency"]["phases"][0]["slim"].update(low=None), "two ends"),
    "a negative figure": (
        lambda data: data["latency"]["phases"][0]["slim"].update(value=-1.0, low=-2.0, high=0.0),
        "less than nothing",
    ),
    "a workload of its own": (
        lambda data: data["latency"]["workload"].update(prompt_tokens=9),
        "latency.workload.prompt_tokens",
    ),
    "a negative count": (lambda data: data["workload"].update(new_tokens=-1), ">= 0"),
}


@pytest.mark.parametrize("kind", CONTRADICTIONS)
def test_what_contradicts_itself_is_refused(kind: str) -> None:
    """Nothing is compared, nothing is guessed."""
    data = document(sound())
    change, words = CONTRADICTIONS[kind]
    change(data)
    with pytest.raises(InputError) as raised:
        judged(data)
    assert words in str(raised.value)


def test_a_baseline_without_the_slim_models_answers_is_refused() -> None:
    """Its dense answers are no substitute; the message names the baseline's file."""
    data = document(sound())
    silent(data)
    baseline = store.decode(json.dumps(data).encode(), "base/report.json")
    with pytest.raises(InputError, match=r"base/report.json: .*holds no answers of the slim model"):
        judged(document(sound()), baseline)


def test_a_baseline_that_measured_less_is_said() -> None:
    """What it lacks cannot be compared: a note, and what both have is compared all the same."""
    data = document(sound())
    data["accuracy"] = None
    data["latency"]["phases"].pop(0)
    baseline = store.decode(json.dumps(data).encode(), "base/report.json")
    found = judged(document(slow()), baseline)
    assert found.regressed
    assert "accuracy: measured in this run only, not compared" in found.notes
    assert "latency.vision: timed in this run only, not compared" in found.notes


def test_two_reports_that_measured_nothing_are_refused() -> None:
    """Verifications alone are no comparison of what was measured."""
    bare = replace(sound(), accuracy=None, benchmarks=())
    for empty in (
        replace(bare, latency=None),
        replace(bare, latency=replace(factory.latency(n=8), phases=(), memory=())),
    ):
        with pytest.raises(InputError, match="nothing to compare"):
            compare(empty, empty)


def test_an_untold_version_excuses_nothing() -> None:
    """A run that does not name its software is not the gentler comparison of a changed software."""
    quiet = replace(slow(), environment=replace(slow().environment, versions={}))
    assert {c.verdict for c in compare(quiet, sound()).checks if c.name == "latency.ttft"} == {"regressed"}


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("selection", "dropped"), [1000], "layer 1000 is named"),
        (("selection", "dropped"), [-1], ">= 0"),
        (("selection", "kept"), [10**30], "cannot be used"),
        (("selection", "other_sets", 0, "dropped"), [77], "layer 77 is named"),
        (("selection", "dropped"), [0], "both dropped and kept"),
        (("selection", "barcode", 0, "count"), 10**9, "<= 1000000"),
        (("selection", "scores", 0), 1e300, "cannot be used"),
        (("plan", "rows", 0, "kept"), -3, ">= 0"),
        (("plan", "rows", 0, "ttft", "value"), 1e308, "cannot be used"),
        (("dense", "weight_bytes"), 10**400, "cannot be used"),
        (("budget", "sparsity"), 7.0, "<= 1.0"),
        (("latency", "threads"), -1, ">= 0"),
    ],
)
def test_numbers_that_name_nothing_are_refused_when_read(
    path: tuple[str | int, ...], value: Any, words: str
) -> None:
    """Indices beyond the layers, counts below zero, numbers that no plot can hold."""
    data = document(sound())
    place: Any = data
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(InputError, match=r"report\.json") as raised:
        judged(data)
    assert words in str(raised.value)
