"""Every family through the chain, on tiny checkpoints with real processors; docs/models.md shows them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmarks import families, models_page
from benchmarks.family_checks import CHECKS, Family, build

from tests.families.test_further import FURTHER
from tests.tiny_families import NAMES

_STEPS = tuple(name for name in CHECKS if name not in FURTHER)
# Their graphs are made, compared and run by tests/exporters, tests/native and test_vipllava, or by a family
# here with the same decoder inside; the benchmark does all.
_EXPORTED_ELSEWHERE = (
    "llava-clip-llama",
    "llava-siglip-qwen2",
    "llava-siglip-qwen3",
    "videollama2-clip-mistral",
    "videollama2-siglip-qwen2",
    "vipllava",
    "qwen2",
    "mistral",
    "gemma",
)


_CELLS = [
    (name, check)
    for name in NAMES
    for check in _STEPS
    if not (check in ("export", "run", "videos") and name in _EXPORTED_ELSEWHERE)
]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one check writes, the next one reads."""
    return tmp_path_factory.mktemp("families")


@pytest.fixture
def family(request: pytest.FixtureRequest, work: Path) -> Family:
    """A tiny checkpoint, made by the first check that asks."""
    return build(request.param, work / request.param)


@pytest.mark.parametrize(("family", "check"), _CELLS, indirect=["family"])
def test_it_goes_through(family: Family, check: str) -> None:
    """See the check itself."""
    assert CHECKS[check](family)


def test_the_page_is_made_of_the_stored_results() -> None:
    """docs/models.md says what benchmarks/data/families.json holds, and every family is in it."""
    content = json.loads(families.STORED.read_text(encoding="utf-8"))
    assert families.PAGE.read_text(encoding="utf-8") == models_page.page(content)
    assert set(content["families"]) == set(NAMES)
