"""Small tools that know what no file tells, and what their answers mean: here and on a board alike."""

from __future__ import annotations

import re
from collections.abc import Sequence

from topovlm.records import Part
from topovlm.travel import agent

Gpu = dict[str, str]  # a GPU by the driver's own field names; what it does not support is left out

_GPU_FIELDS = (
    "name",
    "driver_version",
    "memory.total",
    "clocks.sm",
    "clocks.max.sm",
    "temperature.gpu",
    "power.draw",
    "persistence_mode",
)
# Why the driver holds clocks down: under its present name, then the one before; else do without.
_REASONS = ("clocks_event_reasons.active", "clocks_throttle_reasons.active")
_REASON_BITS = {
    0x04: "power cap",
    0x08: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
}
_QUERY, _GPU_TOOL, _MODE_TOOL = "--query-gpu=", "nvidia-smi", "nvpmodel"
_ABSENT = ("[N/A]", "[Not Supported]", "N/A", "[Unknown Error]")

Questions = dict[str, tuple[tuple[str, ...], ...]]
# Tool -> command lines, the richest first: one unknown field makes nvidia-smi refuse the whole question.
QUESTIONS: Questions = {
    _MODE_TOOL: ((_MODE_TOOL, "-q"),),
    _GPU_TOOL: tuple(
        (_GPU_TOOL, _QUERY + ",".join(_GPU_FIELDS + reasons), "--format=csv,noheader")
        for reasons in ((_REASONS[0],), (_REASONS[1],), ())
    ),
}


class Answer(Part, frozen=True, array_like=True):
    """What a tool printed, and the command line that it printed it for."""

    asked: tuple[str, ...]
    text: str


Answers = dict[str, Answer]  # by tool; one that is absent, fails or hangs is left out


def ask_here(questions: Questions = QUESTIONS) -> Answers:
    """Ask the tools of this machine, as a board's agent asks those of the board."""
    found = agent.ask_all(questions)
    return {tool: Answer(asked=tuple(asked), text=text) for tool, (asked, text) in found.items()}


def gpus(answers: Answers) -> tuple[Gpu, ...]:
    """What the NVIDIA driver tells about its GPUs; empty without a driver."""
    answer = answers.get(_GPU_TOOL)
    if answer is None:
        return ()
    fields = next((word.removeprefix(_QUERY) for word in answer.asked if word.startswith(_QUERY)), "")
    if not fields:
        return ()
    return parse_gpus(answer.text, fields.split(","))


def parse_gpus(text: str, fields: Sequence[str]) -> tuple[Gpu, ...]:
    """Rows of the driver's CSV by field; what it does not support on this GPU is left out."""
    rows = (line.split(", ") for line in text.splitlines() if line.strip())
    facts = (dict(zip(fields, (cell.strip() for cell in row), strict=False)) for row in rows)
    return tuple({name: value for name, value in fact.items() if value not in _ABSENT} for fact in facts)


def throttle_reasons(gpu: Gpu) -> list[str]:
    """Why a GPU runs below its clocks against its will, from the driver's mask; idle is no reason."""
    for field in _REASONS:
        text = gpu.get(field, "")
        if re.fullmatch(r"0x[0-9a-fA-F]+", text):
            return [reason for bit, reason in _REASON_BITS.items() if int(text, 16) & bit]
    return []


def power_mode(answers: Answers) -> str | None:
    """Jetson's power mode by name, from the tool's own words; older releases write MODE_15W for 15W."""
    answer = answers.get(_MODE_TOOL)
    match = re.search(r"Power Mode\s*:\s*(?:MODE_)?(\S+)", answer.text) if answer else None
    return match[1] if match else None
