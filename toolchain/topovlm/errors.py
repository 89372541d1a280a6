"""What can go wrong, by kind.

Each class subclasses a builtin, so a library user can catch `ValueError` without knowing us.
A message names the field, the value, the rule and the remedy; build it with `explain`, and the error carries
the four as attributes. Value, rule and place may come from a file or a board: in the message all are plain
text on one line (`text.for_terminal`), as attributes they stay what they were. The exit code of each kind is
the command line's business (`exit_codes`), not ours.
"""

from __future__ import annotations

from topovlm.text import for_terminal, one_line, quoted, shortened


class Explained(str):
    """A message that still knows its parts."""

    field: str
    value: object
    rule: str
    remedy: str

    def at(self, place: str) -> Explained:
        """The same, with the file, line or sample that it is about in front."""
        return _explained(f"{_plain(place)}: {self}", self.field, self.value, self.rule, self.remedy)


def _explained(text: str, field: str, value: object, rule: str, remedy: str) -> Explained:
    message = Explained(text)
    message.field, message.value, message.rule, message.remedy = field, value, rule, remedy
    return message


def explain(field: str, value: object, rule: str, remedy: str = "") -> Explained:
    """One sentence a user can act on: `field=value: rule; remedy`."""
    text = f"{_plain(field)} = {quoted(value)}: {_plain(rule)}"
    return _explained(f"{text}. {_plain(remedy)}" if remedy else text, field, value, rule, remedy)


def _plain(text: str) -> str:
    return for_terminal(one_line(shortened(text)))


def located(error: TopovlmError, place: str) -> Explained:
    """The message of an error with the file, line or sample that it is about in front; its parts stay."""
    return _explained(
        f"{_plain(place)}: {_plain(str(error))}", error.field, error.value, error.rule, error.remedy
    )


class TopovlmError(Exception):
    """Base of all errors that are for the user. `field`, `value`, `rule`, `remedy`: empty where not known.

    Catch one of the four kinds, or this for all of them.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(message)
        explained = message if isinstance(message, Explained) else None
        self.field: str = explained.field if explained else ""
        self.value: object = explained.value if explained else None
        self.rule: str = explained.rule if explained else str(message)
        self.remedy: str = explained.remedy if explained else ""


class InputError(TopovlmError, ValueError):
    """The user gave something that cannot be used: a flag, a file, a folder, a sample."""


class BudgetError(TopovlmError, ValueError):
    """No number of layers meets the budget; the message names the floor that binds."""


class MissingToolError(TopovlmError, RuntimeError):
    """A tool, an extra or a device that this step needs is not there; says how to get it."""


class VerificationError(TopovlmError, RuntimeError):
    """An artefact would be wrong (parity, reload, cache): nothing is written as a result."""
