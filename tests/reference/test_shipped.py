"""The shipped weights: small, stock, and as good as their card says."""

from __future__ import annotations

import json

import pytest

from topovlm.reference import model_dir
from topovlm.reference.data import TEST_SEED, samples
from topovlm.reference.makers import CATEGORIES
from topovlm.reference.release import accuracy_table, answers, as_markdown


@pytest.fixture(scope="module")
def stated() -> dict:
    return json.loads((model_dir() / "accuracy.json").read_text())


def test_it_is_small_enough_to_ship():
    """The whole folder stays under 30 MB."""
    assert sum(path.stat().st_size for path in model_dir().iterdir()) < 30e6


def test_the_card_prints_the_measured_table(stated):
    """README.md shows accuracy.json, over at least 2,000 questions of all categories."""
    assert as_markdown(stated) in (model_dir() / "README.md").read_text()
    assert set(stated) == {*CATEGORIES, "overall"}
    assert stated["overall"]["n"] >= 2000


def test_it_knows_what_it_was_trained_for(stated):
    """At least 85 % overall on held-out pictures, and no category within five points of chance."""
    assert stated["overall"]["accuracy"] >= 0.85
    assert all(row["accuracy"] > row["chance"] + 0.05 for row in stated.values())


def test_stock_transformers_reach_the_stated_accuracy(stated):
    """The first questions of the held-out split are answered as well as stated, give or take their spread."""
    asked = samples("test", 8 * len(CATEGORIES), TEST_SEED)
    row = accuracy_table(asked, answers(model_dir(), asked))["overall"]
    spread = (stated["overall"]["accuracy"] * (1 - stated["overall"]["accuracy"]) / row["n"]) ** 0.5
    assert abs(row["accuracy"] - stated["overall"]["accuracy"]) < 3.5 * spread
