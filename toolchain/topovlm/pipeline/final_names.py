"""What fails in a folder with a temporary name is told by the name that it was to have: the other is gone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from topovlm.errors import TopovlmError, explain


@contextlib.contextmanager
def called(temporary: Path, final: Path) -> Iterator[None]:
    """Errors of ours in the block name `final` where they name `temporary`."""

    def renamed(text: str) -> str:
        return text.replace(str(temporary), str(final))

    try:
        yield
    except TopovlmError as error:
        value = renamed(error.value) if isinstance(error.value, str) else error.value
        message = explain(renamed(error.field), value, renamed(error.rule), renamed(error.remedy))
        raise type(error)(message if error.field else renamed(str(error))) from error
