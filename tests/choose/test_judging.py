"""A search and its race on the samples of one judge."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import tiny
from topovlm.checkpoint.live import load
from topovlm.choose.judge import Judge
from topovlm.choose.judging import Finals, judge_proposals, parted


def test_the_search_reports_what_a_judge_of_all_its_samples_says(tiny_clip_llama: Path) -> None:
    """Though it only glances at most sets, on a part of them."""
    live, samples = load(tiny_clip_llama), tiny.samples(96)
    record = judge_proposals(
        lambda some: Judge(live, some, max_new_tokens=2),
        live.layers,
        samples,
        {"first": (1,), "last": (4,)},
        (0,),
        start="first",
        budget=4,
        finalists=2,
        finals=lambda _: Finals(lambda some: Judge(live, some, max_new_tokens=2).of, repaired=False),
    )
    searched, raced = parted(samples, 0)
    assert record.samples == len(searched) == 48
    judge = Judge(live, searched, max_new_tokens=2)
    assert record.search.kl == pytest.approx(judge.kl(record.search.dropped), rel=1e-5)
    assert {one.dropped: pytest.approx(one.kl, rel=1e-5) for one in record.search.best} == {
        one.dropped: judge.kl(one.dropped) for one in record.search.best
    }
    assert record.search.judged < record.search.evaluations
    assert record.finalists[0].samples <= len(raced)
