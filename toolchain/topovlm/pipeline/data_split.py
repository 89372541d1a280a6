"""The samples of --data, split so that what measures never chose: by picture, into four parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from topovlm import artifacts
from topovlm.errors import InputError, explain
from topovlm.samples import Sample

# With fewer samples than this to choose on, the judge would have too few of its own.
_LEAST_FOR_FOUR_PARTS = 32
_LEAST_SCORED = 8


@dataclass(frozen=True)
class UserSplit:
    """Parts of one data set that share no picture, except that a small one judges on what it scored.

    `confirm` is empty when nothing is left that could say whether a repair helps.
    """

    score: tuple[Sample, ...]
    judge: tuple[Sample, ...]
    confirm: tuple[Sample, ...]
    held_out: tuple[Sample, ...]

    @property
    def shared(self) -> bool:
        """Whether the samples that judge have scored too."""
        return not self.confirm


def split_user_samples(samples: Sequence[Sample], scored: int, judged: int, seed: int) -> UserSplit:
    """Half (at most `scored` + twice `judged` samples) chooses layers and repair, the rest is held out.

    Samples that share a picture or a group stay together. Held-out samples have answers; without any answer
    in the data all of it chooses. Raises `InputError` when too few samples are left to score on.
    """
    bundles = _bundles(samples)
    order = np.random.default_rng([seed, 61]).permutation(len(bundles))
    shuffled = [bundles[index] for index in order]
    answered = any(sample.answer is not None for sample in samples)
    choosing = min((len(samples) + 1) // 2, scored + 2 * judged) if answered else len(samples)
    chosen, rest = _share(shuffled, [choosing, len(samples) - choosing])
    count = sum(map(len, chosen))
    if count < _LEAST_SCORED:
        rule = f"leaves {count} samples to choose layers on; at least {_LEAST_SCORED} are needed"
        remedy = "Half of the samples is held out: give at least 16 samples of several pictures"
        raise InputError(explain("--data", f"{len(samples)} samples", rule, remedy))
    held_out = tuple(sample for bundle in rest for sample in bundle if sample.answer is not None)
    if count >= _LEAST_FOR_FOUR_PARTS:
        quarter = min(judged, count // 4)
        parts = _share(chosen, [min(scored, count - 2 * quarter), quarter, quarter])
        score, judge, confirm = (tuple(s for bundle in part for s in bundle) for part in parts)
        # A repair is fitted and tuned on different pictures of the scoring part.
        if len(parts[0]) >= 4 and len(score) >= _LEAST_SCORED and len(parts[1]) >= 2 and confirm:
            return UserSplit(score[:scored], judge, confirm, held_out)
    together = tuple(sample for bundle in chosen for sample in bundle)[:scored]
    return UserSplit(together, together[:judged], (), held_out)


def held_out_digest(samples: Sequence[Sample], pictures: Callable[[Sample], list[str]]) -> str:
    """Digest of everything that an evaluation on these samples depends on; `pictures` gives their digests."""
    rows = [[s.id, s.prompt, s.answer, s.category, s.metric, s.chance, s.group, pictures(s)] for s in samples]
    return artifacts.digest_of(rows)


def _bundles(samples: Sequence[Sample]) -> list[list[Sample]]:
    """Samples that share a group or a picture, directly or through others, in the order of the data."""
    parent: dict[str, str] = {}

    def root(key: str) -> str:
        parent.setdefault(key, key)
        while parent[key] != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    for sample in samples:
        for link in [f"group {sample.group}" if sample.group else "", *map(str, sample.images)]:
            if link:
                parent[root(link)] = root(f"id {sample.id}")
    bundles: dict[str, list[Sample]] = {}
    for sample in samples:
        bundles.setdefault(root(f"id {sample.id}"), []).append(sample)
    return list(bundles.values())


def _share(bundles: Sequence[list[Sample]], targets: Sequence[int]) -> list[list[list[Sample]]]:
    """Give each bundle to the part that is emptiest for its target; parts without a target get none."""
    parts: list[list[list[Sample]]] = [[] for _ in targets]
    filled = [0] * len(targets)
    for bundle in bundles:
        place = min(
            (number for number, target in enumerate(targets) if target),
            key=lambda number: (filled[number] / targets[number], number),
        )
        parts[place].append(bundle)
        filled[place] += len(bundle)
    return parts
