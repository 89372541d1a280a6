"""What a rule makes of a text."""

from __future__ import annotations

from dataclasses import dataclass

from topovlm.evaluation.task import UNPARSED, Scored


@dataclass(frozen=True)
class Reading:
    """`read`: the letter or text that the rule took for the answer; None: it found none, which is wrong."""

    right: bool
    read: str | None

    @property
    def scored(self) -> Scored:
        return UNPARSED if self.read is None else Scored(float(self.right))


UNREAD = Reading(False, None)


def chosen(letter: str | None, answer: str) -> Reading:
    """A letter, or None, against the right one."""
    return UNREAD if letter is None else Reading(letter == answer, letter)
