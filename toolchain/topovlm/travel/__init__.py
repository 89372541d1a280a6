"""Boards over ssh: what travels there (`board_*.py`, as source text) and what talks to it from here."""

from pathlib import Path


def traveller(name: str) -> Path:
    """A file that travels. There they are top-level modules that find each other: not to be imported here."""
    return Path(__file__).with_name(name)
