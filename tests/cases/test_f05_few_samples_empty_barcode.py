"""Few calibration samples leave no loops at the usual number of neighbours."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cases.command import topovlm


@pytest.mark.parametrize("words", [(), ("--k", "15")])
@pytest.mark.parametrize("samples", [16, 64])
def test_layers_are_ranked_or_the_user_is_told(tmp_path: Path, samples: int, words: tuple[str, ...]) -> None:
    """The order is never that of the layers' own numbers, and a stand-in is named."""
    done = topovlm("score", "--samples", samples, *words, "--json", cwd=tmp_path)
    assert done.code == 0, done.err
    found = json.loads(done.out)["scorers"]["zigzag"]
    assert found["order"] != sorted(found["order"])
    assert len(set(found["scores"])) > 8
    told = "stands in" in done.err
    assert told == ("stand_in" in found["extra"])
    assert told or found["extra"]["loops_per_layer"] >= 5
    assert told == (samples == 16 or bool(words))
