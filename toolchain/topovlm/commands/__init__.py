"""Subcommands, one module each: the docstring is the help, `add_arguments` the flags, `run` the work."""

from topovlm.commands import (
    bench,
    check,
    deploy,
    doctor,
    eval,
    export,
    plan,
    profile,
    prune,
    report,
    run,
    score,
    sweep,
    targets,
)

COMMANDS = {
    "deploy": deploy,
    "sweep": sweep,
    "plan": plan,
    "profile": profile,
    "score": score,
    "prune": prune,
    "export": export,
    "bench": bench,
    "eval": eval,
    "report": report,
    "check": check,
    "run": run,
    "targets": targets,
    "doctor": doctor,
}
