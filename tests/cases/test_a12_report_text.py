"""Names in a report are text in each of its forms, and its forms are written together or not at all."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from tests.cases.command import Done, topovlm
from tests.cases.reports import written

NAMES = [
    r"cost $\frac{1}{$",
    "x\r\r# a heading\r\r",
    "nul\x00 bell\x07 \u202eright to left\u2066",
    "| cells | of | a table |",
    "</svg><script>alert(1)</script>",
    "[link](http://example.org) ![picture](x)",
    "汉字 \U0001f600 :smile: &lt;b&gt; `code`",
    'id="accuracy" #010101 url(#x)',
    "_",
]


def renamed(report: dict[str, Any], name: str) -> None:
    old = report["accuracy"]["categories"][0]["category"]
    for item in (*report["accuracy"]["categories"], *report["accuracy"]["questions"]):
        if item["category"] == old:
            item["category"] = name


def rendered(folder: Path, change: Any) -> Done:
    return topovlm("report", written(folder / "report.json", change), cwd=folder)


@pytest.mark.parametrize("name", NAMES)
def test_a_category_of_any_name(name: str, tmp_path: Path) -> None:
    """Both forms are written; neither has a control or a heading, a tag, a link of the name's own."""
    done = rendered(tmp_path, lambda report: renamed(report, name))
    assert done.code == 0, done.err
    for file in ("report.md", "report.html"):
        text = (tmp_path / file).read_bytes().decode()
        odd = {c for c in text if unicodedata.category(c) in ("Cc", "Cf") and c not in "\n"}
        assert not odd, (file, odd)
        assert "<script" not in text
    marked = (tmp_path / "report.md").read_text()
    headings = [line for line in re.split(r"[\r\n]", marked) if line.startswith("#")]
    assert not [line for line in headings if "a heading" in line]
    for table in re.findall(r"(?m)(?:^\|.*\n)+", marked):
        assert len({len(re.findall(r"(?<!\\)(?:\\\\)*\|", row)) for row in table.splitlines()}) == 1, table
    assert "](http" not in marked.replace("\\]", "")


def test_every_name_of_a_report(tmp_path: Path) -> None:
    """Title, board, models, files, checks, answers, scorers, notes: all at once."""
    harm = "a\x1b[31m$\\frac{$|\r\n# <i>\u202e::error::x"

    def everywhere(report: dict[str, Any]) -> None:
        report["title"] = report["dense"]["name"] = report["slim"]["name"] = harm
        report["target"].update(board=harm, mode=harm, requested=harm, alias_of=harm, siblings=[harm])
        report["latency"].update(where=harm, runtime=harm, variant=harm, method=harm, warnings=[harm])
        report["plan"].update(source=harm, floor=harm, floor_text=harm)
        report["plan"]["formats"] = [
            {"dtype": harm, "kept": n, "latency_ms": n, "memory_bytes": n, "fits": True} for n in (1, 2)
        ]
        report["artifacts"][0].update(path=harm, format=harm, title=harm, loads_in=[harm])
        report["verifications"][0].update(name=harm, detail=harm)
        report["selection"].update(scorer=harm, calibration_source=harm, token=harm, parameters={harm: harm})
        report["selection"]["other_sets"][0].update(scorer=harm, note=harm)
        report["selection"]["judge"].update(name=harm, unit=harm, swaps=[harm], text=harm)
        report["provenance"].update(limits=[harm], citations=[harm], model_source=harm, data_source=harm)
        report["environment"].update(cpu=harm, system=harm, versions={harm: harm})
        report["run"].update(argv=[harm], created=harm)
        report["accuracy"].update(source=harm, sample_source=harm, method=harm)
        for question in report["accuracy"]["questions"]:
            question["slim"]["text"] = question["answer"] = harm

    done = rendered(tmp_path, everywhere)
    assert done.code == 0, done.err
    for text in (done.err, (tmp_path / "report.md").read_text(), (tmp_path / "report.html").read_text()):
        assert not {c for c in text if unicodedata.category(c) in ("Cc", "Cf") and c not in "\n"}
        assert not [line for line in text.splitlines() if line.lstrip().startswith("::error")]
    assert "<i>" not in (tmp_path / "report.md").read_text()
    assert "<i>" not in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("dropped", [1000, -1, 10**30])
def test_a_layer_that_is_none(dropped: int, tmp_path: Path) -> None:
    """Refused when the report is read, by field."""

    def change(report: dict[str, Any]) -> None:
        report["selection"]["dropped"][-1] = dropped

    done = rendered(tmp_path, change)
    assert done.refused, done.err
    assert "selection" in done.last
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_forms_are_written_together(tmp_path: Path) -> None:
    """Where one of them cannot be, the other is not changed."""
    (tmp_path / "report.html").mkdir()
    (tmp_path / "report.md").write_text("as it was")
    done = rendered(tmp_path, lambda report: None)
    assert done.refused, done.err
    assert (tmp_path / "report.md").read_text() == "as it was"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.json", "report.md"]
