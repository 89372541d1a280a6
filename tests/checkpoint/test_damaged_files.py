"""Any field of any side file with any value: a checkpoint opens, or is refused in a sentence."""

from __future__ import annotations

import contextlib
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.cases.command import mini
from topovlm.checkpoint.files import open_checkpoint, read_facts
from topovlm.errors import InputError

_FILES = ("config.json", "preprocessor_config.json", "processor_config.json")
_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([-1, 0, 1, 3, 10**5, 10**9, 2**63, -(10**40), 0.5, 1e308, math.nan, math.inf]),
    st.sampled_from(["", "x", [], [1], ["x"], [[1]], [10**9], {}, {"a": 1}, {"0": 1}, {"height": "x"}]),
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mini(tmp_path_factory.mktemp("damaged") / "m")


def _parts(content: dict[str, Any]) -> list[dict[str, Any]]:
    return [content, *(part for part in content.values() if isinstance(part, dict))]


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_damaged_field_is_no_traceback(model: Path, data: st.DataObject) -> None:
    """At the top of a file or in one of its parts."""
    file = model / data.draw(st.sampled_from(_FILES))
    before = file.read_text(encoding="utf-8")
    content = json.loads(before)
    part = data.draw(st.sampled_from(_parts(content)))
    part[data.draw(st.sampled_from([*part, "size", "crop_size", "max_patches", "head_dim"]))] = data.draw(
        _VALUES
    )
    file.write_text(json.dumps(content), encoding="utf-8")
    try:
        for ask in (lambda: read_facts(model).shape, lambda: open_checkpoint(model).facts.shape):
            with contextlib.suppress(InputError):
                ask()
    finally:
        file.write_text(before, encoding="utf-8")
