"""JUnit XML of a check, as CI systems read it: regressed = failure, inconclusive = skipped."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from topovlm.report.checks import CheckResult
from topovlm.text import for_xml


def junit_xml(result: CheckResult) -> bytes:
    """One test suite, one test case per check (class = the part before the first dot)."""
    counts = {
        "tests": len(result.checks),
        "failures": sum(check.verdict == "regressed" for check in result.checks),
        "skipped": sum(check.verdict == "inconclusive" for check in result.checks),
        "errors": 0,
    }
    attributes = {name: str(count) for name, count in counts.items()}
    root = ET.Element("testsuites", {"name": "topovlm check", **attributes})
    suite = ET.SubElement(root, "testsuite", {"name": "topovlm check", **attributes})
    properties = ET.SubElement(suite, "properties")
    for name, value in (("run", result.run), ("baseline", result.baseline)):
        ET.SubElement(properties, "property", {"name": name, "value": for_xml(value)})
    for check in result.checks:
        kind, _, name = for_xml(check.name).partition(".")
        text = for_xml(check.text)
        case = ET.SubElement(
            suite, "testcase", {"classname": f"topovlm.{kind}", "name": name or kind, "time": "0"}
        )
        if check.verdict == "regressed":
            ET.SubElement(case, "failure", {"message": text, "type": "regression"}).text = text
        elif check.verdict == "inconclusive":
            ET.SubElement(case, "skipped", {"message": text})
        ET.SubElement(case, "system-out").text = text
    if result.notes:
        ET.SubElement(suite, "system-out").text = for_xml("\n".join(result.notes))
    ET.indent(root)
    written: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return written
