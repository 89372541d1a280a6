"""Profiles as files: read back the same, or refused by file and field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.predict.profiles import make_profile
from topovlm.errors import InputError, VerificationError
from topovlm.machine.telemetry import Doubt
from topovlm.predict.profile import load_profile, save_profile
from topovlm.records import plain


def test_a_profile_is_read_back_the_same(tmp_path: Path) -> None:
    """The file is named by target, runtime and precision."""
    profile = make_profile(doubts=(Doubt("clocks", "CPU clocks are not locked"),))
    path = save_profile(profile, tmp_path / "profiles")
    assert path.name == "local--onnxruntime-cpu--fp32.json"
    assert load_profile(path) == profile


def test_figures_of_a_restless_machine_are_not_filed(tmp_path: Path) -> None:
    """A grave doubt is said, and nothing is written unless one insists."""
    profile = make_profile(doubts=(Doubt("throttling", "throttled: cpu0", grave=True),))
    with pytest.raises(VerificationError, match=r"throttled: cpu0.*measure again"):
        save_profile(profile, tmp_path)
    assert not list(tmp_path.iterdir())
    assert load_profile(save_profile(profile, tmp_path, force=True)) == profile


def without(facts: dict[str, Any], name: str) -> dict[str, Any]:
    """The document less a field, named by its path."""
    outer, _, inner = name.rpartition(".")
    copy: dict[str, Any] = json.loads(json.dumps(facts))
    del (copy[outer] if outer else copy)[inner]
    return copy


@pytest.mark.parametrize(
    "field", ["lengths", "noise", "workload", "affine", "affine.prefill", "surfaces.token", "noise.prefill"]
)
def test_broken_profiles_are_refused(field: str, tmp_path: Path) -> None:
    """File and missing part are named, with the remedy."""
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(without(plain(make_profile()), field)))
    part = field.rpartition(".")[2]
    with pytest.raises(InputError, match=rf"profile.json.*{part}.*Measure again"):
        load_profile(path)


@pytest.mark.parametrize("value", [-1.0, 1e300, float("nan"), float("inf"), "1", None])
@pytest.mark.parametrize(
    "path",
    [
        ("surfaces", "prefill", "coefficients", "fixed_ms"),
        ("surfaces", "token", "residual"),
        ("affine", "vision_ms"),
        ("spread", "decode"),
        ("noise", "token"),
        ("workload", "images"),
    ],
)
def test_times_that_cannot_be_are_refused(path: tuple[str, ...], value: object, tmp_path: Path) -> None:
    """Negative, endless, no number: by file and field, before anything is planned with them."""
    facts = plain(make_profile())
    place = facts
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    file = tmp_path / "profile.json"
    file.write_text(json.dumps(facts))
    with pytest.raises(InputError, match=r"profile\.json.*Measure again"):
        load_profile(file)


def test_a_profile_of_another_schema_is_refused(tmp_path: Path) -> None:
    """It is not misread: both versions are named."""
    path = tmp_path / "profile.json"
    path.write_text(json.dumps({**plain(make_profile()), "schema": 1}))
    with pytest.raises(InputError, match="has schema 1, this topovlm reads 2"):
        load_profile(path)
