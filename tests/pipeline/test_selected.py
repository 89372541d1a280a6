"""The account of the selection in the report: true sentences, figures on samples that chose nothing."""

from __future__ import annotations

import msgspec

from topovlm.choose.record import JudgeRecord, ScoreResult, SearchResult, Selection, Step
from topovlm.pipeline import selected

SEARCH = SearchResult(
    dropped=(3, 5),
    kl=0.2,
    proposal=(4, 5),
    proposal_kl=0.5,
    start="theirs",
    repaired=True,
    confirm_kl=0.3,
    confirm_proposal_kl=0.6,
    steps=(Step(out=4, into=3, kl=0.2),),
    proposals={},
    evaluations=9,
    budget=120,
)
JUDGE = JudgeRecord(search=SEARCH, samples=48, confirm_samples=47, shares_samples=False)


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


def test_the_judge_is_reported_on_the_samples_that_chose_no_swap() -> None:
    """Figures and count are those of the confirming half; the other half is in the text."""
    part = selected.judge_part(JUDGE)
    assert (part.proposal, part.final, part.samples) == (0.6, 0.3, 47)
    assert "48 other samples (0.5 before, 0.2 after)" in part.text
    unconfirmed = msgspec.structs.replace(SEARCH, confirm_kl=None, confirm_proposal_kl=None)
    alone = selected.judge_part(msgspec.structs.replace(JUDGE, search=unconfirmed, shares_samples=True))
    assert (alone.proposal, alone.final, alone.samples) == (0.5, 0.2, 48)
    assert "scored the layers too" in alone.text
