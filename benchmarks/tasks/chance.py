"""What guessing and saying nothing score, on the questions of a dataset and under both protocols."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from topovlm.stats.paired import share_interval
from topovlm.tasks.public.dataset import Dataset
from topovlm.tasks.public.items import Item
from topovlm.tasks.public.reading import Reading
from topovlm.tasks.public.rules import RULES
from topovlm.tasks.public.strict import strict

Rule = Callable[[Item, str], Reading]


@dataclass(frozen=True)
class Chance:
    """Shares of right answers. `stated`: mean of the items' own chance; `measured` with its 95 % interval."""

    stated: float
    measured: float
    low: float
    high: float
    empty: float


def rules_of(data: Dataset) -> dict[str, Rule]:
    return {"lmms-eval-0.7.3": RULES[data.record.rule], "strict": strict}


def chance_of(data: Dataset, rule: Rule, guesses: int, seed: int = 0) -> Chance:
    """A letter drawn at random for every item (of an open question another item's answer), `guesses` times.

    Passes of a circular benchmark are guessed apart and count together.
    """
    rng = np.random.default_rng([seed, 29])
    opens = [item.answer for item in data.items if not item.options] or [""]
    scores: list[float] = []
    groups: list[str] = []
    for turn in range(guesses):
        right = [rule(item, _guess(rng, item, opens)).right for item in data.items]
        found = _by_question(data, right)
        scores += found.values()
        groups += [f"{turn} {name}" for name in found]
    interval = share_interval(scores, groups, 0.95)
    empty = _by_question(data, [rule(item, "").right for item in data.items])
    return Chance(
        stated=float(np.mean(_stated(data))),
        measured=interval.value,
        low=interval.low,
        high=interval.high,
        empty=float(np.mean(list(empty.values()))),
    )


def _guess(rng: np.random.Generator, item: Item, opens: list[str]) -> str:
    texts = item.letters or [answer for answer in opens if answer != item.answer] or ["nothing"]
    return str(texts[int(rng.integers(len(texts)))])


def _question(data: Dataset, item: Item) -> str:
    return item.cluster if data.record.circular else item.id


def _by_question(data: Dataset, right: list[bool]) -> dict[str, float]:
    """Question -> 1.0 if all its passes are right."""
    found: dict[str, float] = {}
    for item, one in zip(data.items, right, strict=True):
        name = _question(data, item)
        found[name] = min(found.get(name, 1.0), float(one))
    return found


def _stated(data: Dataset) -> list[float]:
    found: dict[str, float] = {}
    for item in data.items:
        name = _question(data, item)
        found[name] = found.get(name, 1.0) * item.chance
    return list(found.values())
