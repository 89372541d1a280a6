"""Plug-ins by name: which are seen, what they must have, and whose fault it is when one fails."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest

from topovlm.errors import InputError
from topovlm.registry import Registry

CODE = """
class Whole:
    name = "whole"
    def work(self):
        return 1 / 0

WHOLE = Whole()
HALF = object()
"""


@pytest.fixture
def things(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry[object]:
    """One of ours, and a package with some of its own."""
    (tmp_path / "things_plugin.py").write_text(CODE, encoding="utf-8")
    facts = tmp_path / "things_plugin-2.1.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: things-plugin\nVersion: 2.1\n")
    names = {
        "ours": "WHOLE",
        "taken": "WHOLE",
        "../up": "WHOLE",
        "whole": "WHOLE",
        "half": "HALF",
        "gone": "X",
    }
    lines = [f"{name} = things_plugin:{thing}" for name, thing in names.items()]
    (facts / "entry_points.txt").write_text("\n".join(["[test.things]", *lines, ""]))
    monkeypatch.syspath_prepend(str(tmp_path))
    return Registry("test.things", {"ours": lambda: "mine"}, needs=("name", "work"), reserved=("taken",))


def test_which_names_are_seen(things: Registry[object]) -> None:
    """Ours stay ours; reserved names, and what is no word, are nobody's."""
    assert things.names() == ("ours", "gone", "half", "whole")
    assert things["ours"] == "mine"
    assert things.origins()["whole"] == "things_plugin:WHOLE 2.1"
    with pytest.raises(InputError, match=r"--thing = 'hole': is none of .* Did you mean whole\?"):
        things.find("hole", "--thing")


def test_ours_are_found_without_looking_for_plugins(
    things: Registry[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every installed package is looked through for one, and a deployment asks for ours all the time."""
    monkeypatch.setattr(metadata, "entry_points", None)  # to call it would fail
    assert things.find("ours", "--thing") == "mine"


@pytest.mark.parametrize(
    ("name", "why"), [("half", "lacks name, work"), ("gone", "does not load .AttributeError")]
)
def test_what_cannot_work_is_named(things: Registry[object], name: str, why: str) -> None:
    """With the remedy."""
    with pytest.raises(InputError, match=why) as caught:
        things.find(name, "--thing")
    assert caught.value.remedy == "Update or remove it"


def test_whose_fault_it_is(things: Registry[object]) -> None:
    """An error inside of a plug-in is the plug-in's, one of ours stays what it is."""
    error = ZeroDivisionError("division by zero")
    assert things.failed("ours", error) is error
    assert things.failed("not one", error) is error
    refusal = InputError("a refusal in its own words")
    assert things.failed("whole", refusal) is refusal
    found = things.failed("whole", error)
    assert isinstance(found, InputError)
    assert "things_plugin:WHOLE 2.1 failed (ZeroDivisionError: division by zero)" in str(found)
