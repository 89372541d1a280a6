"""Texts that every Python carries: its handbook's topics, its library's docstrings, its library's code.

Nothing is downloaded; another Python has slightly other texts, so results keep their digest.
"""

from __future__ import annotations

import ast
import sysconfig
import tokenize
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np


def handbook() -> Iterator[str]:
    """Prose: chapters of the language's reference."""
    from pydoc_data import topics

    for name in sorted(topics.topics):
        yield topics.topics[name]


def docstrings() -> Iterator[str]:
    """Prose about code: docstrings of the standard library, those of a module in a row."""
    for file in _library():
        tree = _parsed(file)
        if tree is not None:
            nodes = (ast.Module, ast.ClassDef, ast.FunctionDef)
            found = [ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, nodes)]
            yield "\n\n".join(text for text in found if text)


def code() -> Iterator[str]:
    """The standard library's files."""
    for file in _library():
        if _parsed(file) is not None:
            with tokenize.open(file) as source:
                yield source.read()


KINDS: dict[str, Callable[[], Iterator[str]]] = {
    "handbook": handbook,
    "docstrings": docstrings,
    "code": code,
}


def _library() -> list[Path]:
    root = Path(sysconfig.get_path("stdlib"))
    return sorted(root.glob("*.py")) + sorted(root.glob("[a-z]*/[a-z]*.py"))[:400]


def _parsed(file: Path) -> ast.Module | None:
    if "site-packages" in file.parts or "test" in file.parts:
        return None
    try:
        return ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return None


def pieces(kind: str, characters: int) -> list[str]:
    """All pieces of so many characters, that begin at a word, of texts of a kind; each once."""
    found: dict[str, None] = {}
    for text in KINDS[kind]():
        start = 0
        while start + characters <= len(text):
            piece = text[start : start + characters]
            found[piece.partition(" ")[2] if start else piece] = None
            start += characters
    return list(found)


def drawn(kind: str, characters: int, seed: int) -> list[str]:
    """The same in an order that the seed gives."""
    found = pieces(kind, characters)
    return [found[index] for index in np.random.default_rng([seed, 7]).permutation(len(found))]
