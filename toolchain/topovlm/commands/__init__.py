"""Subcommands, one module each: the docstring is the help, `add_arguments` the flags, `run` the work."""

from topovlm.commands import check, deploy, doctor, run, targets

COMMANDS = {
    "deploy": deploy,
    "check": check,
    "run": run,
    "targets": targets,
    "doctor": doctor,
}
