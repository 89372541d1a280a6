"""Visual tokens are counted once, in the family's description: plan and deployment say the same."""

from __future__ import annotations

import json
from typing import Any

import pytest

from topovlm import cli
from topovlm.families.known_models import list_known_models

KNOWN = [model.id for model in list_known_models()]


def planned(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    """The JSON of `topovlm plan` on a board of the data sheets."""
    assert cli.main(["plan", "--target", "jetson-orin", "--json", *words]) == 0
    return dict(json.loads(capsys.readouterr().out))


@pytest.mark.parametrize("name", KNOWN)
def test_every_known_model_is_planned_by_name(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a picture size the tower's own counts, also where the configuration states a pair."""
    assert planned(capsys, "--model", name)["workload"]["visual_tokens"] > 0
    given = planned(capsys, "--model", name, "--visual-tokens", "300")
    assert given["workload"]["visual_tokens"] == 300
