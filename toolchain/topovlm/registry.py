"""Named things that users add to: one registry per kind, filled by us in one file and by plug-ins.

A plug-in is an installed package with an entry point of the registry's group:

    [project.entry-points."topovlm.scorers"]
    my-scorer = "my_package:SCORER"

Nothing is imported before a name is asked for. A plug-in may not take a name that is ours.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from typing import Generic, TypeVar

from topovlm.errors import InputError, explain

T = TypeVar("T")


def nearest(text: str, known: tuple[str, ...] | list[str]) -> str:
    """`Did you mean x?`, or nothing when nothing is near."""
    close = difflib.get_close_matches(text, list(known), n=1)
    return f"Did you mean {close[0]}?" if close else ""


class Registry(Mapping[str, T], Generic[T]):
    """Name -> thing. `group` is the entry-point group; `own` maps our names to functions that make them."""

    def __init__(self, group: str, own: Mapping[str, Callable[[], T]]) -> None:
        self.group = group
        self._own = dict(own)
        self._made: dict[str, T] = {}

    def names(self) -> tuple[str, ...]:
        """Ours in our order, then those of plug-ins by name."""
        others = {point.name for point in self._points()} - self._own.keys()
        return (*self._own, *sorted(others))

    def origins(self) -> dict[str, str]:
        """Name -> the package and version it comes from, "" for ours: what a cached result depends on."""
        found = dict.fromkeys(self._own, "")
        for point in self._points():
            package = f"{point.dist.name} {point.dist.version}" if point.dist else point.value
            found.setdefault(point.name, package)
        return found

    def find(self, name: str, field: str) -> T:
        """The thing of that name. Raises `InputError` naming `field`, with the nearest known name."""
        if name not in self.names():
            rule = f"is none of {', '.join(self.names())}"
            raise InputError(explain(field, name, rule, nearest(name, list(self.names()))))
        return self[name]

    def origin(self, name: str) -> str:
        """Which code answers to the name: `topovlm`, or a plug-in's object with its package's version."""
        if name in self._own:
            return "topovlm"
        for point in self._points():
            if point.name == name:
                return f"{point.value} {point.dist.version if point.dist else ''}".strip()
        raise KeyError(name)

    def __getitem__(self, name: str) -> T:
        if name not in self._made:
            self._made[name] = self._own[name]() if name in self._own else self._load(name)
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __len__(self) -> int:
        return len(self.names())

    def _points(self) -> metadata.EntryPoints:
        return metadata.entry_points(group=self.group)

    def _load(self, name: str) -> T:
        for point in self._points():
            if point.name == name:
                try:
                    thing: T = point.load()
                except Exception as error:  # a plug-in may raise what it likes
                    rule = f"the plug-in {point.value} does not load ({type(error).__name__}: {error})"
                    raise InputError(explain(self.group, name, rule, "Update or remove it")) from error
                return thing
        raise KeyError(name)
