"""A public benchmark as a task (`evaluation.task.Task`): under the rules of lmms-eval, or under our own."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from topovlm.errors import InputError, explain
from topovlm.evaluation.evaluate import Outcome
from topovlm.evaluation.task import Scored
from topovlm.plain_files import Stored
from topovlm.samples import Sample, by_group, with_pixels
from topovlm.tasks.public.dataset import Dataset, read
from topovlm.tasks.public.prompts import PROMPTS
from topovlm.tasks.public.reading import Reading
from topovlm.tasks.public.record import Benchmark
from topovlm.tasks.public.rules import RULES
from topovlm.tasks.public.strict import strict
from topovlm.tasks.public.table import LMMS_EVAL, MOST_NEW_TOKENS, STRICT
from topovlm.tasks.public.videos import Clips
from topovlm.videos.clip import Clip

_CHOOSING = 4  # one cluster in so many chooses layers and measures nothing


class PublicTask:
    """`NAME` scores as lmms-eval 0.7.3, `NAME-strict` by our reader; both ask the same, but for clips that
    lmms-eval does not read (`record.Uncut`).

    Splits: `calibration` (a quarter of the clusters, by their hashes), `test` (the rest), `all`. Answers are
    read without the white space around them.
    """

    def __init__(self, record: Benchmark, protocol: str, data: Path | None) -> None:
        self.record, self.protocol, self._folder = record, protocol, data
        self.name = record.name if protocol == LMMS_EVAL else f"{record.name}-{protocol}"
        self.answer_tokens = min(record.new_tokens, MOST_NEW_TOKENS)
        self._own = protocol == STRICT
        self._broken: dict[str, str] = {}
        self._parts: set[str] = set()  # questions about a part of their clip
        self._drawn = lru_cache(maxsize=4)(self._draw)

    @cached_property
    def dataset(self) -> Dataset:
        """Read once. Raises `InputError`, `MissingToolError` without pyarrow."""
        return read(self.record, self._folder, uncut=self._own)

    @cached_property
    def _items(self) -> dict[str, int]:
        return {item.id: place for place, item in enumerate(self.dataset.items)}

    @property
    def source(self) -> str:
        data = self.dataset
        unread = [*data.unreadable, *self._broken.values()]
        left_out = f"; {len(unread)} rows left out, the first: {unread[0]}" if unread else ""
        there = f"{len(data.items):,} of {self.record.count:,} published questions"
        frames = f", frames {self.record.videos.frames}" if self.record.videos else ""
        if self._parts:
            frames += f" (of {len(self._parts):,} whole clips, those between the row's start and end)"
        return (
            f"{self.record.title} {self.record.split}, {there}, from {data.place.what}{frames}, "
            f"protocol {self.protocol}{left_out}"
        )

    @property
    def licence(self) -> str:
        return self.record.licence

    def samples(self, split: str, count: int, seed: int) -> list[Sample]:
        """Whole clusters, drawn by the seed until `count` is reached, in the order of the data.

        Every picture and clip is decoded once here: one that is missing or broken leaves its questions out,
        not the run halfway.
        """
        if split not in ("calibration", "test", "all"):
            raise InputError(explain("split", split, "is none of calibration, test, all"))
        return list(self._drawn(split, count, seed))

    def _draw(self, split: str, count: int, seed: int) -> tuple[Sample, ...]:
        members = [sample for sample in self._asked() if _is_in(split, sample.group)]
        drawn = whole_clusters(members, count, seed)
        digests: dict[Path | Stored | Clip, str] = {}
        known = {sample.id: self._looked_at(sample, digests) for sample in drawn}
        if self.record.circular:  # without one pass there is no question
            lost = {sample.group for sample in drawn if known[sample.id] is None}
            drawn = [sample for sample in drawn if sample.group not in lost]
        found = tuple(sample for one in drawn if (sample := known[one.id]) is not None)
        if drawn and not found:
            first = next(iter(self._broken.values()))
            raise InputError(
                explain("--task", self.name, f"none of its pictures or clips can be read: {first}")
            )
        return found

    def _asked(self) -> list[Sample]:
        ask = PROMPTS[self.record.prompt]
        return [
            Sample(
                id=item.id,
                images=item.pictures,
                prompt=ask(item),
                answer=item.answer,
                category=item.category,
                metric=self.protocol,
                chance=item.chance,
                group=item.cluster,
            )
            for item in self.dataset.items
        ]

    @cached_property
    def _clips(self) -> Clips | None:
        return Clips(self.record, self.dataset.place.root, uncut=self._own) if self.record.videos else None

    def _looked_at(self, sample: Sample, digests: dict[Path | Stored | Clip, str]) -> Sample | None:
        try:
            if self._clips is None:
                return with_pixels(sample, digests)
            clip = self._clips.find(self.dataset.items[self._items[sample.id]])
            seen = with_pixels(replace(sample, videos=(clip,)), digests)
        except InputError as error:
            self._broken[sample.id] = str(error)
            return None
        if clip.span is not None:
            self._parts.add(sample.id)
        return seen

    def prompt(self, sample: Sample) -> str:
        return sample.prompt

    def read(self, sample: Sample, text: str) -> Reading:
        """What is taken for the answer, and whether it is right."""
        item = self.dataset.items[self._items[sample.id]]
        rule = strict if self._own else RULES[self.record.rule]
        return rule(item, text.strip())

    def score(self, sample: Sample, text: str) -> Scored:
        return self.read(sample, text).scored

    def fold(self, outcomes: Sequence[Outcome]) -> list[Outcome]:
        """Outcomes of questions: the passes of a circular one are one, right if all are."""
        if not self.record.circular:
            return list(outcomes)
        groups: dict[str, list[Outcome]] = {}
        for outcome in outcomes:
            groups.setdefault(outcome.group, []).append(outcome)
        return [_folded(self.record.name, passes) for passes in groups.values()]


def _folded(name: str, passes: Sequence[Outcome]) -> Outcome:
    first = passes[0]
    return replace(
        first,
        id=f"{name}-{first.group}",
        chance=math.prod(one.chance for one in passes),
        answer=" | ".join(one.answer for one in passes),
        text=" | ".join(one.text for one in passes),
        score=min(one.score for one in passes),
        parse="parsed" if all(one.parse == "parsed" for one in passes) else "unparsed",
    )


def _is_in(split: str, cluster: str) -> bool:
    chooses = hashlib.sha256(cluster.encode("utf-8", "replace")).digest()[0] % _CHOOSING == 0
    return split == "all" or chooses == (split == "calibration")


def whole_clusters(samples: Sequence[Sample], count: int, seed: int) -> list[Sample]:
    """Clusters in an order drawn by the seed, until the next would pass `count`; one at least."""
    if count >= len(samples):
        return list(samples)
    groups = list(by_group(samples).values())
    kept: set[str] = set()
    for place in np.random.default_rng([seed, 113]).permutation(len(groups)):
        group = groups[int(place)]
        if kept and len(kept) + len(group) > count:
            break
        kept.update(sample.id for sample in group)
    return [sample for sample in samples if sample.id in kept]
