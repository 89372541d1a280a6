"""Samples split so that what measures never chose: by picture, into parts that score, judge and confirm.

A file of questions is one set, half of which is held out; a task has a split of its own for that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from topovlm import artifacts
from topovlm.errors import InputError, explain
from topovlm.linked import components
from topovlm.plain_files import Stored
from topovlm.samples import Sample
from topovlm.videos.clip import Clip

# With fewer samples than this to choose on, the judge would have too few of its own.
_LEAST_FOR_FOUR_PARTS = 32
_LEAST_SCORED = 8


@dataclass(frozen=True)
class Parts:
    """Samples that choose. They share no picture, except that a small set judges on what it scored.

    `confirm` is empty when nothing is left that could say whether a repair helps.
    """

    score: tuple[Sample, ...]
    judge: tuple[Sample, ...]
    confirm: tuple[Sample, ...]

    @property
    def shared(self) -> bool:
        """Whether the samples that judge have scored too."""
        return not self.confirm


def hold_out(
    samples: Sequence[Sample], scored: int, judged: int, seed: int
) -> tuple[list[Sample], list[Sample]]:
    """(samples that choose, samples held out) of one set, shuffled by picture.

    Half (at most `scored` + twice `judged` samples) chooses layers and repair, the rest is held out. Samples
    that share a picture or a group stay together. Held-out samples have answers; without any answer in the
    data all of it chooses.
    """
    bundles = _bundles(samples)
    order = np.random.default_rng([seed, 61]).permutation(len(bundles))
    answered = any(sample.answer is not None for sample in samples)
    choosing = min((len(samples) + 1) // 2, scored + 2 * judged) if answered else len(samples)
    chosen, rest = _share([bundles[index] for index in order], [choosing, len(samples) - choosing])
    return _flat(chosen), [sample for sample in _flat(rest) if sample.answer is not None]


def choosing_parts(samples: Sequence[Sample], scored: int, judged: int, *, in_order: bool = False) -> Parts:
    """At most `scored` samples to score with, at most `judged` each to judge and to confirm.

    `in_order`: the first ones score, the next ones judge. Otherwise parts grow together.
    Raises `InputError` when too few samples are left to score on.
    """
    count = len(samples)
    if count < _LEAST_SCORED:
        rule = f"are left to choose layers on; at least {_LEAST_SCORED} are needed"
        remedy = "Half of a --data file is held out: give at least 16 samples of several pictures"
        raise InputError(explain("samples", count, rule, remedy))
    if count >= _LEAST_FOR_FOUR_PARTS:
        quarter = judged if count >= scored + 2 * judged else min(judged, count // 4)
        targets = [min(scored, count - 2 * quarter), quarter, quarter]
        parts = (_fill if in_order else _share)(_bundles(samples), targets)
        score, judge, confirm = map(_flat, parts)
        # A repair is fitted and tuned on different pictures of the scoring part.
        if len(parts[0]) >= 4 and len(score) >= _LEAST_SCORED and len(parts[1]) >= 2 and confirm:
            return Parts(tuple(score[:scored]), tuple(judge), tuple(confirm))
    together = tuple(samples[:scored])
    return Parts(together, together[:judged], ())


def samples_digest(samples: Sequence[Sample]) -> str:
    """Digest of everything that depends on these samples, whose picture files were looked at."""
    rows = [[s.id, s.prompt, s.answer, s.category, s.metric, s.chance, s.group, s.pixels] for s in samples]
    return artifacts.digest_of(rows)


def shared_links(one: Sequence[Sample], other: Sequence[Sample]) -> list[str]:
    """What samples of both have in common: ids, groups, pictures."""
    links = [{link for sample in side for link in _links(sample)} for side in (one, other)]
    ids = [{f"id {sample.id}" for sample in side} for side in (one, other)]
    return sorted((links[0] & links[1]) | (ids[0] & ids[1]))


def _links(sample: Sample) -> list[str]:
    """What ties a sample to others: its group, pictures that are files (those in memory are its own), clips.

    Pictures by their pixels where they were looked at, else by path; clips by path, whichever frames of them.
    """
    files = sample.pixels or [str(image) for image in sample.images if isinstance(image, (Path, Stored))]
    clips = [f"clip {video}" for video in sample.videos if isinstance(video, Clip)]
    groups = [f"group {sample.group}"] if sample.group else []
    return [*groups, *clips, *(f"picture {one}" for one in files)]


def _bundles(samples: Sequence[Sample]) -> list[list[Sample]]:
    """Samples that share a group or a picture, directly or through others, in the order of the data."""
    bundles: dict[int, list[Sample]] = {}
    for first, sample in zip(components([_links(sample) for sample in samples]), samples, strict=True):
        bundles.setdefault(first, []).append(sample)
    return list(bundles.values())


def _flat(bundles: Sequence[list[Sample]]) -> list[Sample]:
    return [sample for bundle in bundles for sample in bundle]


def _fill(bundles: Sequence[list[Sample]], targets: Sequence[int]) -> list[list[list[Sample]]]:
    """Fill one part after the other, each with bundles until it has its target."""
    parts: list[list[list[Sample]]] = [[] for _ in targets]
    place = filled = 0
    for bundle in bundles:
        if filled >= targets[place] and place + 1 < len(parts):
            place, filled = place + 1, 0
        parts[place].append(bundle)
        filled += len(bundle)
    return parts


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
