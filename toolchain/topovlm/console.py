"""What a person sees while a command runs: on stderr, with bars on a terminal, plain lines elsewhere.

Standard output belongs to `--json`. `NO_COLOR` and `CI` are respected; rich is loaded only when needed, and
takes what it shows as text: no markup, no emoji. Whatever is said passes through `text.for_terminal`.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from topovlm.process import deliver
from topovlm.text import for_json, for_terminal

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

Progress = Callable[[int, int], None]  # (done, total)

# A bar that redraws itself would disturb what these stages time: theirs moves between rounds only.
_TIMING = {"profile", "measure", "bench"}
_FILE_WIDTH = 160


def lively() -> bool:
    """Whether bars and colours make sense: stderr is a terminal and no CI runs us."""
    return sys.stderr.isatty() and not os.environ.get("CI")


def say(text: str = "") -> None:
    """One line to the person."""
    print(for_terminal(text), file=sys.stderr, flush=True)


def print_json(document: Any) -> None:
    """The one JSON document of `--json`, in what standard output can write."""
    narrow = (sys.stdout.encoding or "").lower().replace("_", "-") not in ("utf-8", "utf8")
    deliver(for_json(json.dumps(document, indent=1, ensure_ascii=narrow, allow_nan=False)))


def screen() -> Console:
    """Standard error for tables; a file or a pipe has no width, so that lines stay whole there."""
    from rich.console import Console

    width = None if sys.stderr.isatty() else _FILE_WIDTH
    return Console(stderr=True, width=width, markup=False, emoji=False, highlight=False)


def shown(text: str, style: str = "") -> Text:
    """A cell or a line of a screen: what it says is text, whatever it looks like."""
    from rich.text import Text

    return Text(for_terminal(text), style)


def line(console: Console, text: str, *, label: str = "", style: str = "bold") -> None:
    """A line of a screen behind a label that stands out; elsewhere than on a terminal it is not broken."""
    from rich.text import Text

    whole = Text.assemble(shown(label, style), shown(f"  {text}")) if label else shown(text)
    console.print(whole, soft_wrap=not console.is_terminal)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A table to the person; columns are padded, numbers come as ready text."""
    texts = [[for_terminal(str(cell)) for cell in row] for row in rows]
    header = [for_terminal(column) for column in columns]
    widths = [max(len(row[i]) for row in [header, *texts]) for i in range(len(header))]
    say(title)
    for row in [header, *texts]:
        say("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


class Display:
    """Shows stages as they run. `stage` yields a callback that a stage may feed with (done, total)."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet

    def note(self, text: str) -> None:
        """A line worth reading now: a decision, a skipped stage, what changed since the last run."""
        if not self.quiet:
            say(f"  {text}")

    def reused(self, name: str) -> None:
        """A stage whose inputs did not change."""
        if not self.quiet:
            say(f"  {name:<16} reused")

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[Progress]:
        """A bar (on a terminal) or one line at the end (elsewhere)."""
        began = time.perf_counter()
        if self.quiet:
            yield _ignore
            return
        if lively():
            with _bar(name) as progress:
                yield progress
        else:
            yield _ignore if name in _TIMING else Pace(name).tell
        say(f"  {name:<16} {time.perf_counter() - began:.1f} s")


class Pace:
    """How far a stage is, at what rate, and how long it may still take: a line now and then, for logs."""

    EVERY_S = 60.0

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._name, self._clock = name, clock
        self._began = self._told = clock()
        self._first = 0

    def tell(self, done: int, total: int) -> None:
        """Says a line when the last one is a minute old. What the first call counts may have been kept, and
        makes no rate."""
        now = self._clock()
        if not self._first:
            self._first, self._began = done, now
        if now - self._told >= self.EVERY_S and done < total:
            self._told = now
            say(f"  {self._name:<16} {pace(done, total, done - self._first, now - self._began)}")


def pace(done: int, total: int, counted: int, seconds: float) -> str:
    """`320 of 3088, 4.1 a second, 11 min left`; `counted`: of those done, in so many seconds."""
    text = f"{done} of {total}"
    if counted <= 0 or seconds <= 0:
        return text
    rate, left = counted / seconds, (total - done) * seconds / counted
    shown = f"{rate:.1f} a second" if rate >= 1 else f"{60 * rate:.1f} a minute"
    remaining = f"{left / 60:.0f} min" if left >= 90 else f"{left:.0f} s"
    return f"{text}, {shown}, {remaining} left"


def _ignore(done: int, total: int) -> None:
    """Progress that nobody watches."""


@contextlib.contextmanager
def _bar(name: str) -> Iterator[Progress]:
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as RichProgress

    began, first = time.monotonic(), 0

    named = TextColumn("{task.description:<16}", markup=False)
    paced = TextColumn("{task.fields[pace]}", markup=False)
    columns = (SpinnerColumn(), named, BarColumn(), TimeElapsedColumn(), paced)
    # Own stdout and stderr: libraries' chatter goes to the log, not through the bar.
    with RichProgress(
        *columns,
        console=screen(),
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
        auto_refresh=name not in _TIMING,
    ) as shown:
        task = shown.add_task(for_terminal(name), total=None, pace="")

        def advance(done: int, total: int) -> None:
            nonlocal began, first
            if not first:
                began, first = time.monotonic(), done
            text = "" if name in _TIMING else pace(done, total, done - first, time.monotonic() - began)
            shown.update(task, completed=done, total=total, pace=text, refresh=name in _TIMING)

        yield advance


@contextlib.contextmanager
def library_chatter(log: Path) -> Iterator[None]:
    """Send what libraries print on standard output to a log: that stream belongs to `--json`.

    What transformers says of its own future is for its developers, and left out.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    with (
        warnings.catch_warnings(),
        log.open("a", encoding="utf-8", errors="backslashreplace") as file,
        contextlib.redirect_stdout(file),
    ):
        warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
        saved = os.dup(1)
        try:
            os.dup2(file.fileno(), 1)
            yield
        finally:
            os.dup2(saved, 1)
            os.close(saved)
