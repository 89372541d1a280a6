"""The account of the selection in the report: true sentences, figures on samples that chose nothing."""

from __future__ import annotations

import msgspec

from topovlm.choose.record import (
    Certainty,
    Finalist,
    JudgeRecord,
    Proposal,
    ScoreResult,
    SearchResult,
    Selection,
    Step,
)
from topovlm.pipeline import selected

SEARCH = SearchResult(
    dropped=(3, 5),
    kl=0.2,
    proposal=(4, 5),
    proposal_kl=0.5,
    start="theirs",
    repaired=True,
    steps=(Step(out=4, into=3, kl=0.2),),
    proposals={},
    best=(Proposal(dropped=(3, 5), kl=0.2), Proposal(dropped=(2, 5), kl=0.25)),
    evaluations=9,
    judged=9,
    budget=120,
)
JUDGE = JudgeRecord(
    dropped=(3, 5),
    search=SEARCH,
    samples=48,
    finalists=(),
    certainty=None,
    patched=True,
    shares_samples=False,
)


def _scored(name: str) -> ScoreResult:
    return ScoreResult(scorer=name, paper="", why=f"because of {name}", scores=(), order=())


def test_a_dropped_layer_has_the_reason_of_the_scorer_that_proposed_it() -> None:
    """Whatever its name; layers that the judge swapped have another reason."""
    chosen = Selection(
        scorer="mine",
        dropped=(3, 5),
        kept=(0, 1, 2, 4),
        protected=(0,),
        proposals={},
        scorers={name: _scored(name) for name in ("mine", "theirs")},
        judge=JUDGE,
    )
    reasons = [selected.reason(layer, chosen, 0.5, 1).why for layer in (5, 3, 4, 0)]
    assert reasons[0] == "because of theirs"
    assert "judge put it" in reasons[1]
    assert "judge missed it" in reasons[2]
    alone = msgspec.structs.replace(chosen, judge=None)
    assert selected.reason(5, alone, 0.5, 1).why == "because of mine"


def test_the_judge_says_what_its_finals_have_found() -> None:
    """The search's figures, then those of the race on other samples, and how sure the choice is."""
    alone = selected.judge_part(msgspec.structs.replace(JUDGE, shares_samples=True))
    assert (alone.proposal, alone.final, alone.samples) == (0.5, 0.2, 48)
    assert alone.swaps == ("4 stays, 3 goes",)
    assert "scored the layers too" in alone.text
    winner = Finalist(dropped=(2, 5), repaired=True, samples=96, kl=0.11, reverse=0.12, same=0.925)
    other = Finalist(dropped=(3, 5), repaired=True, samples=48, kl=0.15, reverse=0.16, same=0.9)
    sure = Certainty(resamplings=200, chosen_again=180, as_good=190, as_good_points=0.5)
    raced = msgspec.structs.replace(JUDGE, dropped=(2, 5), finalists=(other, winner), certainty=sure)
    part = selected.judge_part(raced)
    assert (part.final, part.swaps) == (0.25, ())  # the swaps do not lead to what was chosen
    assert "repaired at their cuts and judged again on up to 96 other samples" in part.text
    assert "0.11 nats and 92.5 %" in part.text
    assert "180 of 200 resamplings of these samples choose it again, 190 that or one within" in part.text
