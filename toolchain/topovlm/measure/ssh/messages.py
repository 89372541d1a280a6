"""What goes over the connection, typed: the agent's answers, the timer's lines, the request of a run.

The other side is Python 3.8 with plain dicts (`travel.agent`, `travel.timer`). What it says is not trusted:
a message that is malformed, or has a time that is negative or no number, is no message.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from topovlm.machine.host import Host
from topovlm.machine.tools import Answer
from topovlm.measure.settings import TimingRules
from topovlm.records import Part
from topovlm.travel import timer

LONGEST_BYTES = 1 << 24  # of one message
_SHOWN = 160  # characters of a bad message that an error repeats

Ms = Annotated[float, Meta(gt=0, le=1e9)]  # nobody waits eleven days
MsOrZero = Annotated[float, Meta(ge=0, le=1e9)]
Count = Annotated[int, Meta(ge=1, le=1 << 20)]
Bytes = Annotated[int, Meta(ge=0, le=1 << 53)]


class Malformed(ValueError):
    """A message that cannot be what it says it is."""


# -- the agent ----------------------------------------------------------------------------------------
class Hello(Host, frozen=True, kw_only=True, tag_field="kind", tag="hello"):
    """The agent's first word."""

    id: int = 0


class Done(Part, frozen=True, kw_only=True, tag_field="kind", tag="done"):
    """A request was carried out."""

    id: int


class Refused(Part, frozen=True, kw_only=True, tag_field="kind", tag="refused"):
    """It was not: `error` for the program, `text` for people. `places`: folder, bytes free, what is wrong."""

    id: int
    error: str
    text: str
    places: tuple[tuple[str, int, str], ...] = ()


class Received(Part, frozen=True, kw_only=True, tag_field="kind", tag="received"):
    """Bytes of a file that have arrived."""

    id: int
    received: Bytes


class Looked(Part, frozen=True, kw_only=True, tag_field="kind", tag="looked"):
    """Texts of files by path, and answers of tools."""

    id: int
    files: dict[str, str]
    answers: dict[str, Answer]


class OutputLine(Part, frozen=True, kw_only=True, tag_field="kind", tag="line"):
    """A line of a running program's standard output."""

    id: int
    line: str


class Ended(Part, frozen=True, kw_only=True, tag_field="kind", tag="ended"):
    """A program ended, by itself or at its limit (`late`)."""

    id: int
    status: int
    late: bool
    errors: tuple[str, ...]


Message = Hello | Done | Refused | Received | Looked | OutputLine | Ended


# -- the timer ----------------------------------------------------------------------------------------
class Runtimes(Part, frozen=True, kw_only=True, tag_field="kind", tag="runtimes"):
    """What a board's Python can import: versions, and why not."""

    python: str
    versions: dict[str, str]
    lacking: dict[str, str]
    providers: tuple[str, ...]
    trtexec: str | None = None


class Loaded(Part, frozen=True, kw_only=True, tag_field="kind", tag="loaded"):
    """An engine is open; `providers` by part."""

    name: str
    load_ms: MsOrZero
    threads: Count
    providers: dict[str, list[str]]
    dtype: str


class GenerationTimes(Part, frozen=True, kw_only=True):
    """One generation, in ms; `token_ms`: one entry per token after the first."""

    vision_ms: MsOrZero
    embed_ms: Ms
    prefill_ms: Ms
    token_ms: list[Ms]


class Round(Part, frozen=True, kw_only=True, tag_field="kind", tag="round"):
    """Every case once, in this order."""

    spent_s: MsOrZero
    order: tuple[str, ...]
    runs: dict[str, GenerationTimes]


class Stopped(Part, frozen=True, kw_only=True, tag_field="kind", tag="done"):
    """Why the rounds ended."""

    stopped: str


class EngineMemory(Part, frozen=True, kw_only=True, tag_field="kind", tag="footprint"):
    """Resident memory of one engine, alone in its process."""

    name: str
    libraries_bytes: Bytes
    peak_bytes: Bytes
    load_ms: MsOrZero


class Failed(Part, frozen=True, kw_only=True, tag_field="kind", tag="failure"):
    """Why the timer gave up."""

    reason: str
    text: str


TimerLine = Runtimes | Loaded | Round | Stopped | EngineMemory | Failed


# -- the request --------------------------------------------------------------------------------------
class Case(Part, frozen=True, kw_only=True):
    """One thing to time once per round: an engine with its prompts (indices), taken in turn."""

    name: str
    engine: str
    prompts: tuple[int, ...]


class EngineFiles(Part, frozen=True, kw_only=True, omit_defaults=True):
    """Paths of a model's graphs in the board's folder; `profiles`: shapes by part, for building there."""

    vision: str | None = None
    embed: str
    decoder: str
    profiles: object = None


class Request(Part, frozen=True, kw_only=True):
    """request.json of a timing run."""

    engines: dict[str, EngineFiles]
    new_tokens: int
    module: str
    package: str
    needs: str
    cases: tuple[Case, ...]
    footprint_prompt: int
    threads: int
    providers: tuple[str, ...]
    rules: TimingRules


_MESSAGES: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)
_LINES: msgspec.json.Decoder[TimerLine] = msgspec.json.Decoder(TimerLine)


def read_message(data: bytes) -> Message:
    """An answer of the agent. Raises `Malformed`."""
    try:
        return _MESSAGES.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"{error}: {data[:_SHOWN].decode('utf-8', 'replace').strip()}") from None


def read_line(text: str) -> TimerLine | None:
    """A line of the timer; None for what a library prints. Raises `Malformed`."""
    if not text.startswith(timer.MARK):
        return None
    try:
        return _LINES.decode(text.removeprefix(timer.MARK))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"{error}: {text[:_SHOWN]}") from None
