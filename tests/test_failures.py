"""What a user is told of an error, whatever its kind."""

from __future__ import annotations

import errno

import pytest

from topovlm.errors import BudgetError, InputError, MissingToolError, VerificationError, explain
from topovlm.exit_codes import OF_KIND
from topovlm.failures import INTERNAL, failure


class _DeviceError(MissingToolError):
    """A kind of a kind."""


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (InputError(explain("--k", 0, "must be at least 1")), "InputError", "--k = 0: must be at least 1"),
        (BudgetError("no"), "BudgetError", "no"),
        (_DeviceError("no board"), "MissingToolError", "no board"),
        (VerificationError("differs"), "VerificationError", "differs"),
        (InputError("can't allocate memory for it"), "InputError", "can't allocate memory for it"),
        (MemoryError(), "InputError", "memory = 'MemoryError': ran out in the middle of the work"),
        (RuntimeError("can't allocate memory: 9 bytes"), "InputError", "ran out in the middle of the work"),
        (OSError(errno.ENOSPC, "full", "/x"), "InputError", "path = '/x': the disk is full"),
        (OSError(errno.EIO, "broken"), INTERNAL, "internal error: OSError: [Errno 5] broken"),
        (ZeroDivisionError("by\nzero"), INTERNAL, "internal error: ZeroDivisionError: by zero"),
    ],
)
def test_each_error_has_a_kind_and_a_sentence(error: Exception, kind: str, said: str) -> None:
    """Of the four kinds, or an internal one; memory and the disk are the user's."""
    found = failure(error)
    assert found.kind == kind
    assert said in found.message
    assert kind in OF_KIND
