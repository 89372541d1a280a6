"""A set of layers that was judged: scorers propose, output on held-out samples decides."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from topovlm.checkpoint.live import Live
from topovlm.choose.judge import Judge
from topovlm.choose.record import JudgeRecord
from topovlm.choose.search import search, split_samples
from topovlm.console import Progress
from topovlm.samples import Sample


def judge_proposals(
    live: Live,
    samples: Sequence[Sample],
    proposals: Mapping[str, Sequence[int]],
    protected: Collection[int],
    *,
    start: str,
    budget: int,
    seed: int = 0,
    shares_samples: bool = False,
    progress: Progress | None = None,
) -> JudgeRecord:
    """KL to the dense model's own answers; swaps that help on one half, confirmed on the other.

    `start` names the scorer whose proposal is repaired, `budget` bounds the sets tried; `shares_samples` is
    noted: the samples scored the layers too. A single picture cannot be halved: then nothing is confirmed.
    """
    choose, confirm = split_samples(samples, seed)
    if not confirm:
        choose, confirm = list(samples), []
    found = search(
        Judge(live, choose),
        proposals,
        live.layers,
        protected,
        start=start,
        budget=budget,
        confirm=Judge(live, confirm) if confirm else None,
        progress=progress,
    )
    return JudgeRecord(
        search=found,
        samples=len(choose),
        confirm_samples=len(confirm),
        shares_samples=shares_samples,
    )
