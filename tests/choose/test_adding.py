"""docs/adding-a-scorer.md, carried out: its two files make a scorer that the whole chain knows."""

from __future__ import annotations

import re
import textwrap
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.pipeline import deploying
from topovlm import cli
from topovlm.choose.record import Scores, Selection
from topovlm.choose.scorers import SCORERS, scorers_for
from topovlm.records import decode, read
from topovlm.report.store import read_report

PAGE = Path(__file__).parents[2] / "docs" / "adding-a-scorer.md"
WHY = "it changes the length of the residual stream least"  # the page's `why`


def _files() -> dict[str, str]:
    """File name -> text, of the page's numbered steps."""
    blocks = re.findall(r"^ +`([\w.]+)`\n\n( +)```\w+\n(.*?)^ +```$", PAGE.read_text("utf-8"), re.M | re.S)
    return {name: textwrap.dedent(text) for name, _, text in blocks}


def _install(site: Path, module: str, text: str, project: dict[str, Any]) -> None:
    """A package as pip would leave it: the module beside what its entry points say."""
    facts = site / f"{module}-{project['version']}.dist-info"
    facts.mkdir(parents=True)
    (site / f"{module}.py").write_text(text, encoding="utf-8")
    (facts / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    lines = []
    for group, points in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in points.items())]
    (facts / "entry_points.txt").write_text("\n".join(lines) + "\n")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of packages that Python finds while the test runs."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    return folder


@pytest.fixture
def gentle(site: Path) -> None:
    """The page's package, installed."""
    files = _files()
    assert set(files) == {"gentle_scorer.py", "pyproject.toml"}
    project = tomllib.loads(files["pyproject.toml"])["project"]
    _install(site, "gentle_scorer", files["gentle_scorer.py"], project)


@pytest.mark.usefixtures("gentle")
def test_help_and_errors_list_it(capsys: pytest.CaptureFixture[str]) -> None:
    """Beside `--scorer`, and where a name is misspelt."""
    with pytest.raises(SystemExit):
        cli.main(["deploy", "--help"])
    shown = " ".join(capsys.readouterr().out.split()).replace("- ", "-")  # names are wrapped at dashes
    assert f"how layers are ranked: {', '.join(SCORERS)} " in shown
    assert "gentle" in SCORERS
    assert cli.main(["score", "--scorer", "gentel"]) == 2
    message = capsys.readouterr().err
    assert ", gentle." in message
    assert "Did you mean gentle?" in message


@pytest.mark.usefixtures("gentle")
def test_it_scores_proposes_and_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From `topovlm score` through a deployment that it leads to the sentence in the report."""
    model = deploying.build_model(tmp_path / "tiny")
    assert cli.main(["score", "--model", str(model), "--samples", "8", "--json"]) == 0
    printed = decode(capsys.readouterr().out, Scores, field="scores", name="standard output")
    assert tuple(printed.scorers) == scorers_for()
    assert "gentle" in printed.scorers

    out = tmp_path / "out"
    code, outcome = deploying.deploy(model, out, "--scorer", "gentle")
    assert code == 0
    dropped = set(outcome["dropped"])
    selection = read(out / "selection.json", Selection, field="selection")
    assert selection.scorer == "gentle"
    assert len(selection.proposals["gentle"]) == len(dropped)
    assert selection.judge is not None
    assert selection.judge.search.proposals["gentle"].kl > 0
    report = read_report(out).selection
    assert report is not None
    assert report.parameters["paper"] == "none: an example"
    assert float(report.parameters["largest_change"]) > 0
    assert 0 < float(report.parameters["equivalent_eps"]) <= 1
    assert "gentle" in {row.scorer for row in report.other_sets}
    whys = {layer.layer: layer.why for layer in report.layers}
    assert dropped  # the budget takes all layers that are not protected: no other scorer can lead
    assert {whys[layer] for layer in dropped} == {WHY}


def _write(site: Path, name: str, text: str) -> None:
    project = {
        "name": name,
        "version": "1.0",
        "entry-points": {"topovlm.scorers": {name: f"{name}_module:SCORER"}},
    }
    _install(site, f"{name}_module", text, project)


BROKEN = {
    "seven": ("SCORER = 7", "holds no topovlm.choose.scorers.Scorer"),
    "absent": ("import no_such_module", "does not load (ModuleNotFoundError"),
    "other": ("from topovlm.choose.scorers.drawn import SCORER", "of that name"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_scorer_is_refused_before_anything_runs(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """A plug-in that holds something else is named, and nothing is written."""
    text, message = BROKEN[name]
    _write(site, name, text + "\n")
    out = tmp_path / "out"
    assert cli.main(["deploy", "--target", "jetson-orin", "--max-latency", "70%", "-o", str(out)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert name in error
    assert not out.exists()


def test_cached_scores_are_those_of_the_installed_version(site: Path) -> None:
    """What the stage depends on names the code and its version; ours go with topovlm's own."""
    _write(site, "dated", "")
    origins = SCORERS.origins()
    assert origins["dated"] == "dated_module:SCORER 1.0"
    assert origins["zigzag"] == "topovlm"
