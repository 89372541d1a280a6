"""Named things that users add to: one registry per kind, filled by us in one file and by plug-ins.

A plug-in is an installed package with an entry point of the registry's group:

    [project.entry-points."topovlm.scorers"]
    my-scorer = "my_package:SCORER"

Nothing is imported before a name is asked for. A plug-in that takes a name of ours, or one that is no plain
word, is not seen.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from importlib import metadata
from typing import Generic, TypeVar

from topovlm.errors import InputError, TopovlmError, explain

T = TypeVar("T")
OURS = "topovlm"  # the origin of what is no plug-in's
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def nearest(text: str, known: tuple[str, ...] | list[str]) -> str:
    """`Did you mean x?`, or nothing when nothing is near."""
    close = difflib.get_close_matches(text, list(known), n=1)
    return f"Did you mean {close[0]}?" if close else ""


class Registry(Mapping[str, T], Generic[T]):
    """Name -> thing. `group` is the entry-point group; `own` maps our names to functions that make them.

    `needs`: attributes that a plug-in's thing must have; `reserved`: names that no plug-in may take.
    """

    def __init__(
        self,
        group: str,
        own: Mapping[str, Callable[[], T]],
        *,
        needs: Sequence[str] = (),
        reserved: Collection[str] = (),
    ) -> None:
        self.group = group
        self.reserved = frozenset(reserved)
        self._needs = tuple(needs)
        self._own = dict(own)
        self._made: dict[str, T] = {}

    def names(self) -> tuple[str, ...]:
        """Ours in our order, then those of plug-ins by name."""
        others = {point.name for point in self._points()} - self._own.keys() - self.reserved
        return (*self._own, *sorted(name for name in others if _WORD.fullmatch(name)))

    def origins(self) -> dict[str, str]:
        """Which code answers to each name: what a cached result depends on."""
        return {name: self.origin(name) for name in self.names()}

    def find(self, name: str, field: str) -> T:
        """The thing of that name. Raises `InputError` naming `field`, with the nearest known name."""
        if name not in self._own and name not in self.names():  # plug-ins are listed from disk each time
            rule = f"is none of {', '.join(self.names())}"
            raise InputError(explain(field, name, rule, nearest(name, list(self.names()))))
        return self[name]

    def origin(self, name: str) -> str:
        """Which code answers to the name: `topovlm`, or a plug-in's object with its package's version."""
        if name in self._own:
            return OURS
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
                lacking = [need for need in self._needs if not hasattr(thing, need)]
                if lacking:
                    rule = f"the plug-in {point.value} lacks {', '.join(lacking)}"
                    raise InputError(explain(self.group, name, rule, "Update or remove it"))
                return thing
        raise KeyError(name)

    def failed(self, name: str, error: Exception) -> Exception:
        """What to raise when the thing of that name has raised: of a plug-in, an `InputError`."""
        if name in self._own or name not in self.names() or isinstance(error, TopovlmError):
            return error
        rule = f"the plug-in {self.origin(name)} failed ({type(error).__name__}: {error})"
        return InputError(explain(self.group, name, rule, "Update or remove it"))
