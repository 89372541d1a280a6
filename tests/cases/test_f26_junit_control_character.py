"""JUnit XML and annotations of a check whose names hold characters that XML forbids."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from tests.cases.reports import checked


@pytest.mark.parametrize(
    "name", ["colour\x01first", "nul\x00", "\x1b[31m", "\ufffe\uffff", "a\x85b\u2028c", "]]> & <b> %0A"]
)
def test_a_control_character_in_a_category(name: str, tmp_path: Path) -> None:
    """The XML is well-formed and names the category; the annotation is one line."""

    def change(report: dict[str, Any]) -> None:
        old = report["accuracy"]["categories"][0]["category"]
        for item in (*report["accuracy"]["categories"], *report["accuracy"]["questions"]):
            if item["category"] == old:
                item["category"] = name
        report["verifications"][0]["name"] = name

    def worse(report: dict[str, Any]) -> None:
        change(report)
        report["verifications"].pop(0)
        report["latency"]["phases"].pop()

    done = checked(tmp_path, change, change, "--junit", "check.xml")
    assert done.code == 0, done.err
    suite = ET.parse(tmp_path / "check.xml").getroot()[0]
    names = [case.attrib["name"] for case in suite.findall("testcase")]
    assert len(names) == int(suite.attrib["tests"])
    assert len([n for n in names if n.isprintable()]) == len(names)
    done = checked(tmp_path, worse, change, "--junit", "check.xml", env={"GITHUB_ACTIONS": "true"})
    assert done.code == 4, done.err
    assert ET.parse(tmp_path / "check.xml").getroot().attrib["failures"] == "2"
    annotations = done.out.splitlines()
    assert all(line.startswith(("::error title=", "::warning title=")) for line in annotations)
    assert sum(line.startswith("::error") for line in annotations) == 2
