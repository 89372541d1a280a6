"""What hangs together: items that share a link, directly or through others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def components(links: Sequence[Iterable[str]]) -> list[int]:
    """Item -> the first item of its component: two items with a link in common are in one, and so on."""
    first: dict[str, int] = {}
    parent = list(range(len(links)))

    def root(item: int) -> int:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    for item, held in enumerate(links):
        for link in held:
            one, other = sorted((root(first.setdefault(link, item)), root(item)))
            parent[other] = one
    return [root(item) for item in range(len(links))]
