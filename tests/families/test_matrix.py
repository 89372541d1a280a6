"""Every family through the chain, on tiny checkpoints with real processors; docs/models.md shows them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmarks import families, models_page
from benchmarks.family_checks import CHECKS, Family, build

from tests.tiny_families import NAMES

# From the command line to the report takes longer than all else: one of each kind here, all in the benchmark.
_DEPLOYED = ("smollm3", "llava_next", "qwen3_vl", "smolvlm", "gemma3")
_STEPS = tuple(name for name in CHECKS if name not in ("half", "deploy"))


@pytest.fixture(scope="module", params=NAMES)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Family:
    """A tiny checkpoint; what one check writes, the next one reads."""
    return build(request.param, tmp_path_factory.mktemp(request.param))


@pytest.mark.parametrize("check", _STEPS)
def test_it_goes_through(family: Family, check: str) -> None:
    """See the check itself."""
    assert CHECKS[check](family)


@pytest.mark.parametrize("name", _DEPLOYED)
@pytest.mark.parametrize("check", ["half", "deploy"])
def test_one_of_each_kind_goes_further(name: str, check: str, tmp_path: Path) -> None:
    """In half precision, and `topovlm deploy --sparsity 25%` to a report."""
    assert CHECKS[check](build(name, tmp_path))


def test_the_page_is_made_of_the_stored_results() -> None:
    """docs/models.md says what benchmarks/data/families.json holds, and every family is in it."""
    content = json.loads(families.STORED.read_text(encoding="utf-8"))
    assert families.PAGE.read_text(encoding="utf-8") == models_page.page(content)
    assert set(content["families"]) == set(NAMES)
