"""The account of the selection in the report: true sentences, figures on samples that chose nothing."""

from __future__ import annotations

from typing import Any

from topovlm.choose.scorers import SCORERS
from topovlm.pipeline import selected

JUDGE: dict[str, Any] = {
    "dropped": [3, 5],
    "kl": 0.2,
    "proposal": [4, 5],
    "proposal_kl": 0.5,
    "start": "angular",
    "confirm_kl": 0.3,
    "confirm_proposal_kl": 0.6,
    "steps": [{"out": 4, "into": 3, "kl": 0.2}],
    "evaluations": 9,
    "samples": 48,
    "confirm_samples": 47,
    "shares_samples": False,
}


def test_every_scorer_has_its_own_reason() -> None:
    """No sentence speaks of structure for a scorer that looks at none."""
    assert set(selected._WHY) == set(SCORERS)
    assert len(set(selected._WHY.values())) == len(SCORERS)
    chosen = {"judge": JUDGE, "dropped": [3, 5], "protected": [0], "scorer": "zigzag"}
    reasons = [selected._reason(layer, chosen, 0.5, 1).why for layer in (5, 3, 4, 0)]
    assert "turns least" in reasons[0]
    assert "judge put it" in reasons[1]
    assert "judge missed it" in reasons[2]


def test_the_judge_is_reported_on_the_samples_that_chose_no_swap() -> None:
    """Figures and count are those of the confirming half; the other half is in the text."""
    part = selected._judge_part(JUDGE)
    assert (part.proposal, part.final, part.samples) == (0.6, 0.3, 47)
    assert "48 other samples (0.5 before, 0.2 after)" in part.text
    alone = selected._judge_part({**JUDGE, "confirm_kl": None, "shares_samples": True})
    assert (alone.proposal, alone.final, alone.samples) == (0.5, 0.2, 48)
    assert "scored the layers too" in alone.text
