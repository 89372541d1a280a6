"""`import topovlm`: what the commands do, as functions with the same options, records and errors."""

from __future__ import annotations

import importlib
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import topovlm
from tests import tiny
from tests.pipeline.test_data import data_file
from tests.report import factory
from topovlm import api, cli
from topovlm.commands import export, plan, prune, score
from topovlm.config import OPTIONS
from topovlm.errors import BudgetError, InputError
from topovlm.pipeline.question import refuse_infeasible
from topovlm.records import plain, write

ALONE = ("config", "display")  # where the options come from, and where progress goes


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.build(tmp_path_factory.mktemp("api") / "tiny", layers=4)


def printed(capsys: pytest.CaptureFixture[str], *argv: object) -> Any:
    """The JSON document of a command."""
    capsys.readouterr()
    assert cli.main([str(word) for word in (*argv, "--json")]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("function", "options", "more"),
    [
        (topovlm.deploy, [option.name for option in OPTIONS], ()),
        (topovlm.sweep, [option.name for option in OPTIONS], ()),
        (
            topovlm.plan,
            plan._OPTIONS,
            ("profile", "image_size", "visual_tokens", "confident", "runtime", "observed"),
        ),
        (topovlm.score, score._OPTIONS, ()),
        (topovlm.prune, prune._OPTIONS, ("verify",)),
        (topovlm.export, export._OPTIONS, ()),
    ],
)
def test_a_function_takes_the_options_of_its_command(function: Any, options: list[str], more: Any) -> None:
    """By the same names, and it explains itself."""
    assert set(inspect.signature(function).parameters) - set(ALONE) == {*options, *more}
    assert inspect.getdoc(function)


def test_the_package_offers_them_and_nothing_else() -> None:
    """By `dir` too; a name that is none says so."""
    assert set(topovlm.__all__) == {"__version__", "errors", "records", *api.__all__}
    assert set(topovlm.__all__) <= set(dir(topovlm))
    with pytest.raises(AttributeError, match="no attribute 'prunes'"):
        topovlm.prunes  # noqa: B018


def test_the_package_gives_its_errors_and_records_at_once() -> None:
    """After `import topovlm` alone, in a fresh process, and that import loads none of them."""
    code = (
        "import sys, topovlm\n"
        "ours = {name for name in sys.modules if name.startswith('topovlm.')}\n"
        "assert ours == {'topovlm.version'}, ours\n"
        "print(topovlm.errors.InputError.__name__, topovlm.records.plain.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["InputError", "plain"], done.stderr


def test_plan_is_the_record_that_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    """An infeasible budget is a verdict, not an error."""
    record = topovlm.plan(target="jetson-orin", model="qwen3-vl-2b", max_latency="60%", image_size=(480, 640))
    words = ("--model", "qwen3-vl-2b", "--max-latency", "60%", "--image-size", "480x640")
    assert plain(record) == printed(capsys, "plan", "--target", "jetson-orin", *words)
    assert topovlm.plan(target="jetson-orin", max_latency="0.01ms").verdict == "infeasible"


def test_score_is_the_record_that_the_command_prints(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Layers of the user's checkpoint on the user's samples."""
    data = data_file(tmp_path, 16)
    record = topovlm.score(checkpoint, data=data, k=3)
    assert plain(record) == printed(capsys, "score", "--model", checkpoint, "--data", data, "--k", "3")
    assert {len(scores.scores) for scores in record.scorers.values()} == {4}


def test_clouds_and_scorers_are_those_that_were_asked_for(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another cloud gives another barcode and leaves scorers of streams alone; a scorer that asks the model
    runs where it is named."""
    given = {"data": data_file(tmp_path, 40), "k": 3}
    usual = topovlm.score(checkpoint, **given)
    other = topovlm.score(checkpoint, **given, cloud="normalised", token="multi", scorer="bypass-consistency")
    assert (usual.cloud, usual.token, other.cloud, other.token) == (
        "residual",
        "text-mean",
        "normalised",
        "multi",
    )
    assert other.barcode != usual.barcode
    assert other.scorers["block-influence"] == usual.scorers["block-influence"]
    assert set(other.scorers) - set(usual.scorers) == {"bypass-consistency"}
    words = ("--cloud", "normalised", "--token", "multi", "--scorer", "fisher", "--k", "plateau")
    shown = printed(capsys, "score", "--model", checkpoint, "--data", given["data"], *words)
    assert shown["scorers"]["fisher"]["order"][0] in range(4)
    assert shown["k"] in (3, 4, 5, 7, 10, 15)
    greedy = topovlm.score(checkpoint, **given, scorer="greedy").scorers["greedy"]
    assert (set(greedy.order[:2]), greedy.extra["eliminated"]) == ({1, 2}, 2)  # the others are protected
    with pytest.raises(InputError, match="--token = 'first'"):
        topovlm.score(checkpoint, token="first")


def test_prune_and_export_write_what_the_commands_write(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same bytes, the same records."""
    pruned = topovlm.prune(checkpoint, (1, 2), tmp_path / "slim")
    assert pruned.surgery.kept == (0, 3)
    words = ("--model", checkpoint, "--drop", "1,2", "-o", tmp_path / "other")
    shown = printed(capsys, "prune", *words)
    assert shown["surgery"]["kept"] == [0, 3]
    name = "model.safetensors"
    assert (tmp_path / "slim" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()

    record = topovlm.export(tmp_path / "slim", tmp_path / "onnx", dtype="fp16")
    again = printed(
        capsys, "export", "--model", tmp_path / "slim", "--dtype", "fp16", "-o", tmp_path / "again"
    )
    assert plain(record)["files"] == again["files"]
    for file in record.files:
        assert (tmp_path / "onnx" / file.path).read_bytes() == (tmp_path / "again" / file.path).read_bytes()


def test_check_says_what_regressed(tmp_path: Path) -> None:
    """The verdict of the gate, as a value."""
    for name in ("before", "after"):
        write(tmp_path / name / "report.json", factory.standard())
    assert not topovlm.check(tmp_path / "after", tmp_path / "before").regressed


def test_errors_carry_what_is_wrong() -> None:
    """Field, value, rule and remedy are attributes, so that a caller need not read the sentence."""
    with pytest.raises(InputError) as caught:
        topovlm.plan(target="jetson-orinn", max_latency="200")
    assert caught.value.field == "--max-latency"
    assert caught.value.value == "200"
    assert "unit" in str(caught.value)


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda: topovlm.plan(drop=5), "--drop"),
        (lambda: topovlm.plan(max_latency=[1]), "--max-latency"),
        (lambda: topovlm.plan(max_memory=[1]), "--max-memory"),
        (lambda: topovlm.plan(sparsity={}), "--sparsity"),
        (lambda: topovlm.plan(target="jetson-orin", image_size=5), "--image-size"),
        (lambda: topovlm.plan(target="jetson-orin", image_size=(1.5, 2)), "--image-size"),
        (lambda: topovlm.plan(target="jetson-orin", image_size=(1, 2, 3)), "--image-size"),
        (
            lambda: topovlm.plan(target="jetson-orin", image_size="1x999999", model="qwen3-vl-2b"),
            "image_size",
        ),
        (lambda: topovlm.plan(target="jetson-orin", visual_tokens="many"), "--visual-tokens"),
        (lambda: topovlm.plan(target="jetson-orin", visual_tokens=[1]), "--visual-tokens"),
        (lambda: topovlm.plan(target="jetson-orin", visual_tokens=3, image_size="3x3"), "--visual-tokens"),
        (lambda: topovlm.plan(target="jetson-orin", profile={}), "--profile"),
        (lambda: topovlm.plan(config=3), "--config"),
        (lambda: topovlm.prune("reference", 3, "out"), "--drop"),
        (lambda: topovlm.deploy(format=3), "--format"),
        (lambda: topovlm.check(3, "b"), "candidate"),
        (lambda: topovlm.check("a", "b", latency_tolerance="5 ms"), "--latency-tolerance"),
        (lambda: topovlm.check("a", "b", accuracy_tolerance=[1]), "--accuracy-tolerance"),
        (lambda: topovlm.check("a", "b", confidence=95), "--confidence"),
    ],
)
def test_what_cannot_be_used_is_an_input_error(call: Any, field: str) -> None:
    """A wrong type as much as a wrong value: it names the option, never a line of ours."""
    with pytest.raises(InputError) as caught:
        call()
    assert caught.value.field == field
    assert caught.value.rule


def test_sizes_and_shares_may_be_text(tmp_path: Path) -> None:
    """The way the flags take them: the same plan, the same verdict."""
    asked = {"target": "jetson-orin", "model": "qwen3-vl-2b", "max_latency": "60%"}
    assert topovlm.plan(**asked, image_size="480x640") == topovlm.plan(**asked, image_size=(480, 640))
    assert topovlm.plan(**asked, visual_tokens="500") == topovlm.plan(**asked, visual_tokens=500)
    write(tmp_path / "report.json", factory.standard())
    typed = {"latency_tolerance": "5%", "accuracy_tolerance": "0", "confidence": "95%"}
    values = {"latency_tolerance": 0.05, "accuracy_tolerance": 0.0, "confidence": 0.95}
    assert topovlm.check(tmp_path, tmp_path, **typed) == topovlm.check(tmp_path, tmp_path, **values)


@pytest.mark.parametrize(
    ("options", "field", "value"),
    [
        ({"max_latency": "0.01ms"}, "--max-latency", "0.01ms"),
        ({"max_memory": "1MiB"}, "--max-memory", "1MiB"),
        ({"max_token_latency": "10us"}, "--max-token-latency", "0.01ms"),
    ],
)
def test_a_budget_that_cannot_be_met_says_which(
    model: Path, tmp_path: Path, options: dict[str, str], field: str, value: str
) -> None:
    """`BudgetError`: the flag of the budget that binds, its bound, the floor and what would help."""
    with pytest.raises(BudgetError) as caught:
        topovlm.deploy(target="jetson-orin", model=model, output=tmp_path / "out", **options)
    error = caught.value
    assert (error.field, error.value) == (field, value)
    assert error.rule.startswith("Infeasible on Jetson AGX Orin")
    assert error.remedy


def test_a_board_with_too_little_memory_is_what_binds() -> None:
    """No budget was asked for: the error is about the target."""
    plan = topovlm.plan(target="jetson-orin-nano-4gb", model="llava-onevision-7b")
    with pytest.raises(BudgetError) as caught:
        refuse_infeasible(plan)
    assert caught.value.field == "--target"
    assert str(caught.value.value).startswith("jetson-orin-nano-4gb")


def test_the_page_about_python_is_right(capsys: pytest.CaptureFixture[str]) -> None:
    """docs/python.md: its first lines and its error run, and its table names what each function returns."""
    page = (Path(__file__).parents[2] / "docs" / "python.md").read_text(encoding="utf-8")
    first, error = re.findall(r"```python\n(.*?)```", page, re.S)
    exec(first.partition("\n\nfound")[0], {})
    assert capsys.readouterr().out.split()[0] in ("dense", "prune", "infeasible")
    exec(error, {"topovlm": topovlm})
    rows = dict(re.findall(r"^\| `(\w+)` \| `(topovlm\.[\w.]+)` \|", page, re.M))
    assert set(rows) == set(api.__all__)
    for name, record in rows.items():
        module, _, kind = record.rpartition(".")
        assert hasattr(importlib.import_module(module), kind)
        assert inspect.signature(getattr(topovlm, name)).return_annotation == kind
