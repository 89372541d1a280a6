"""What has ended a piece of work, in words: errors for the user as they are, the system's as one of them."""

from __future__ import annotations

from dataclasses import dataclass

from topovlm.artifacts import disk_error
from topovlm.errors import (
    BudgetError,
    InputError,
    MissingToolError,
    TopovlmError,
    VerificationError,
    explain,
)

INTERNAL = "InternalError"
_KINDS: tuple[type[TopovlmError], ...] = (InputError, BudgetError, MissingToolError, VerificationError)


@dataclass(frozen=True)
class Failure:
    """`kind`: one of the four of `errors`, by name, or `INTERNAL`; `message`: one sentence for people."""

    kind: str
    message: str


def failure(error: Exception) -> Failure:
    """What to say of it. Memory that ran out and the disk's refusals are for the user, too."""
    for kind in _KINDS:
        if isinstance(error, kind):
            return Failure(kind.__name__, str(error))
    if _memory_spent(error):
        rule = "ran out in the middle of the work"
        remedy = "Say with --memory how much may be taken here, or use a machine (a GPU) with more"
        return Failure(InputError.__name__, explain("memory", _short(error), rule, remedy))
    known = disk_error(error, error.filename or "") if isinstance(error, OSError) else None
    if known is not None:
        return Failure(InputError.__name__, str(known))
    return Failure(INTERNAL, f"internal error: {type(error).__name__}: {_short(error)}")


def _memory_spent(error: Exception) -> bool:
    """Python's own error, and torch's: on a GPU, and on the processor, where it has no kind of its own."""
    gpu = type(error).__name__ == "OutOfMemoryError"
    return isinstance(error, MemoryError) or gpu or "can't allocate memory" in str(error)


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
