"""What a chat template is told of the date: the moment of the request, or one that stands still."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from datetime import datetime

_STANDING: ContextVar[datetime | None] = ContextVar("standing_clock", default=None)


def now() -> datetime:
    """Local time, as transformers gives it to templates."""
    return _STANDING.get() or datetime.now()


@contextlib.contextmanager
def standing_clock(moment: datetime | None = None) -> Iterator[None]:
    """Within the block every template is rendered at `moment`, by default that of the first line.

    Comparisons of prompts need it: two renderings may lie on both sides of midnight.
    """
    held = _STANDING.set(moment or now())
    try:
        yield
    finally:
        _STANDING.reset(held)
