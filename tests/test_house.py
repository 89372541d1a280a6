"""The structure that the package promises: rooms on floors, no import that climbs, no circles."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests import house

MODULES = house.modules()
# Rooms that must work where torch is not: on a board's runtime, in `plan` and `check`.
WITHOUT_TORCH = ("runtime", "travel", "machine", "predict", "planner", "topology", "stats", "report")


def test_every_room_has_a_floor() -> None:
    """A new package or module has its place among the floors before it is imported anywhere."""
    assert {house.room_of(module) for module in MODULES} == set(house.FLOOR)


def test_imports_never_climb() -> None:
    """Also not for types alone, not inside functions, and not by a name in a string."""
    assert ("families.sizes", "families.projectors") in house.modules_by_name()
    assert house.climbs() == []


def test_relative_imports_stay_in_what_travels() -> None:
    """A board gets `travel` without the package around it; everywhere else an import says whose it is."""
    assert {(house.room_of(module), level) for module, level in house.relative_imports()} == {("travel", 1)}


def test_code_of_a_model_is_never_trusted() -> None:
    """Whatever loads from a folder says so itself: transformers would ask on standard input otherwise."""
    benchmarks = house.ROOT.parents[1] / "benchmarks"
    assert house.loads_that_trust() == []
    assert house.loads_that_trust(benchmarks) == []
    assert "from_pretrained" in (house.ROOT / "checkpoint" / "processors.py").read_text(encoding="utf-8")


def test_no_modules_import_each_other() -> None:
    """Directly or through others, for types or at run time."""
    assert house.circles() == []


def test_no_room_is_an_eighth_of_the_house() -> None:
    """At most 12 % of all lines: a larger one holds more than one idea."""
    assert max(house.shares().values()) <= 0.12


@pytest.mark.parametrize("room", WITHOUT_TORCH)
def test_rooms_without_torch(room: str) -> None:
    """Importing all of such a room loads neither torch nor transformers."""
    names = [f"topovlm.{module}" for module in MODULES if house.room_of(module) == room]
    # What travels finds its parts on the board, TensorRT among them.
    names = [name for name in names if name != "topovlm.travel.trt_engine"]
    code = (
        "import importlib, sys\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        "print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize(
    ("pattern", "home"),
    [
        (r"(?i)llava", ("families", "towers", "native", "reference", "runtime.pictures", "videos.rules")),
        (r'"tensorrt"', ("exporters", "predict.runtimes")),  # there it is what a plan speaks for
        (r'startswith\("zigzag', ("choose",)),
    ],
)
def test_names_are_known_in_one_room(pattern: str, home: tuple[str, ...]) -> None:
    """A family, an exporter, a scorer is named where it is described; everything else asks a registry."""
    found = [
        name
        for name, path in MODULES.items()
        if not name.startswith(home) and re.search(pattern, path.read_text(encoding="utf-8"))
    ]
    assert found == []


def test_text_of_others_is_parsed_in_one_place() -> None:
    """What bounds depth, digits and size is never gone round; what travels reads what we wrote."""
    found = {name: {house.room_of(module) for module in held} for name, held in house.parsers().items()}
    assert found["json.loads"] == {"json_text", "travel"}
    assert found["json.load"] == {"travel"}
    assert found["tomllib.loads"] == {"toml"}
    # Besides `records` only what has just been written here is decoded (a report, a stage's value), and a few
    # typed parts of a tokenizer's file, past its vocabulary.
    assert found["msgspec.json.decode"] == {"records", "report", "pipeline", "runtime"}


def test_errors_for_the_user_are_explained() -> None:
    """Field, value, rule and remedy; only what argparse itself refuses is a sentence alone."""
    assert [place.partition(":")[0] for place in house.unexplained()] == ["cli"]


def test_nothing_reaches_into_another_modules_private_names() -> None:
    """Neither by import nor through the module."""
    assert house.private_reaches() == []


def test_the_page_about_the_architecture_names_every_room() -> None:
    """docs/architecture.md has a row for each, and no row for what is gone."""
    page = (house.ROOT.parents[1] / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = page.partition("## Rooms")[2].partition("\n## ")[0]
    named = re.findall(r"`(\w+)`", "".join(row.split("|")[1] for row in table.splitlines() if "`" in row))
    assert set(named) == set(house.FLOOR) - {"", "__main__"}
