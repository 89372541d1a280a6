"""Subcommands, one module each: the docstring is the help, `add_arguments` the flags, `run` the work."""

from topovlm.commands import deploy, run

COMMANDS = {
    "deploy": deploy,
    "run": run,
}
