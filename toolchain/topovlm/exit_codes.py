"""What the command line says with its exit status, and nothing else does."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """The exit status of `topovlm` and `topovlm-deploy`; the words are those of the help."""

    DONE = 0
    INTERNAL = 1
    USAGE = 2
    INFEASIBLE = 3
    REGRESSION = 4
    MISSING = 5
    UNVERIFIED = 6
    HANGUP = 129
    INTERRUPTED = 130
    PIPE = 141
    TERMINATED = 143

    @property
    def words(self) -> str:
        return _WORDS[self]


_WORDS = {
    ExitCode.DONE: "done",
    ExitCode.INTERNAL: "internal error",
    ExitCode.USAGE: "usage or bad input",
    ExitCode.INFEASIBLE: "budget infeasible",
    ExitCode.REGRESSION: "regression found",
    ExitCode.MISSING: "missing tool or device",
    ExitCode.UNVERIFIED: "verification failed",
    ExitCode.HANGUP: "terminal closed",
    ExitCode.INTERRUPTED: "interrupted",
    ExitCode.PIPE: "output closed",
    ExitCode.TERMINATED: "terminated",
}


# Of errors, by the name of their kind.
OF_KIND = {
    "InputError": ExitCode.USAGE,
    "BudgetError": ExitCode.INFEASIBLE,
    "MissingToolError": ExitCode.MISSING,
    "VerificationError": ExitCode.UNVERIFIED,
    "InternalError": ExitCode.INTERNAL,
}


def help_text() -> str:
    """`exit codes: 0 done, 1 internal error, ...`."""
    return "exit codes: " + ", ".join(f"{code.value} {code.words}" for code in ExitCode)
