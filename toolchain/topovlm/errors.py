"""What can go wrong, by kind.

Each class subclasses a builtin, so a library user can catch `ValueError` without knowing us.
A message names the field, the value, the rule and the remedy; build it with `explain`.
The exit code of each kind is the command line's business (`topovlm.cli`), not ours.
"""

from __future__ import annotations


def explain(field: str, value: object, rule: str, remedy: str = "") -> str:
    """One sentence a user can act on: `field=value: rule; remedy`."""
    text = f"{field} = {value!r}: {rule}"
    return f"{text}. {remedy}" if remedy else text


class InputError(ValueError):
    """The user gave something that cannot be used: a flag, a file, a folder, a sample."""


class BudgetError(ValueError):
    """No number of layers meets the budget; the message names the floor that binds."""


class MissingToolError(RuntimeError):
    """A tool, an extra or a device that this step needs is not there; says how to get it."""


class VerificationError(RuntimeError):
    """An artefact would be wrong (parity, reload, cache): nothing is written as a result."""
