"""Figures as people read them: three significant digits, a unit, an interval."""

from __future__ import annotations

import re
from typing import Literal

from topovlm.report.document import Figure, Phase, Report, Workload, plan_row
from topovlm.units import format_bytes

PHASE_NAMES: dict[str, str] = {
    "vision": "vision encoding",
    "embed": "embedding",
    "prefill": "prefill",
    "token": "per token",
    "ttft": "time to first token",
    "end_to_end": "end to end",
}
ABSENT = "–"


def phase_name(phase: Phase | str) -> str:
    """The phase in words."""
    return PHASE_NAMES.get(phase, phase)


def _three_digits(value: float) -> str:
    """Three significant digits, trailing zeros kept, no exponent for what people measure."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:#.3g}"


def milliseconds(value: float) -> str:
    """A time in ms as µs, ms or s, whichever reads best."""
    if abs(value) >= 10_000:
        return f"{_three_digits(value / 1e3)} s"
    if value == 0 or abs(value) >= 0.01:
        return f"{_three_digits(value)} ms"
    return f"{_three_digits(1e3 * value)} µs"


def number(value: float, unit: str) -> str:
    """One value with its unit: shares as percentages, ratios as factors, times and sizes in fitting units."""
    if unit == "share":
        return f"{100 * value:.1f}\u00a0%"
    if unit == "ratio":
        return f"{value:.3f}×"
    if unit == "ms":
        return milliseconds(value)
    if unit == "bytes":
        return format_bytes(value)
    return f"{value:.3g} {unit}".strip()


def points(value: float) -> str:
    """A difference of shares in signed percentage points."""
    return f"{100 * value:+.1f} points".replace("-", "−")


def interval(figure: Figure, *, as_points: bool = False) -> str:
    """`low to high`, or an empty string for a figure without interval."""
    if figure.low is None or figure.high is None:
        return ""
    if as_points:
        return f"{100 * figure.low:+.1f} to {100 * figure.high:+.1f}".replace("-", "−")
    low, high = number(figure.low, figure.unit), number(figure.high, figure.unit)
    unit = re.search(r"[\u00a0 ]\S+$", high)
    # The unit once is enough where both ends share it.
    return f"{low.removesuffix(unit[0])} to {high}" if unit else f"{low} to {high}"


def figure_text(figure: Figure | None, *, as_points: bool = False) -> str:
    """Value with interval: `7.10 ms (6.98 to 7.21 ms)`; a dash for no figure."""
    if figure is None:
        return ABSENT
    value = points(figure.value) if as_points else number(figure.value, figure.unit)
    spread = interval(figure, as_points=as_points)
    return f"{value} ({spread})" if spread else value


def p_value(p: float | None) -> str:
    """Two significant digits, floored at 0.001."""
    if p is None:
        return ABSENT
    return "<\u00a00.001" if p < 0.001 else f"{p:.2g}"


def count(value: int | None) -> str:
    """Thousands separated."""
    return ABSENT if value is None else f"{value:,}"


def layer_list(layers: tuple[int, ...]) -> str:
    """`3, 6–9, 12`; `none` for no layer."""
    runs: list[list[int]] = []
    for layer in sorted(layers):
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    parts = [f"{run[0]}–{run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs]
    return ", ".join(parts) or "none"


def workload_text(workload: Workload) -> str:
    """What a latency figure is for, in one line."""
    images = f"{workload.images} image{'s' if workload.images != 1 else ''}"
    if workload.video_frames:
        images = f"{workload.video_frames} frame{'s' if workload.video_frames != 1 else ''}"
    tokens = f"{workload.prompt_tokens} prompt tokens ({workload.visual_tokens} visual)"
    new = f"{workload.new_tokens} new token{'s' if workload.new_tokens != 1 else ''}"
    size = f"{workload.image_width}×{workload.image_height}"
    return f"{images} of {size} px, {tokens}, {new}, batch {workload.batch}, {workload.dtype}"


def predicted_phases(report: Report) -> tuple[str, ...]:
    """The phases that the plan predicts; the whole answer where it has more than its first token."""
    phases = ("vision", "prefill", "token", "ttft")
    return (*phases, "end_to_end") if report.workload.new_tokens > 1 else phases


def predicted(report: Report, model: Literal["dense", "slim"], phase: str) -> Figure | None:
    """The plan's figure for a phase, where it predicts that phase."""
    row = plan_row(report, model)
    if row is None or phase not in predicted_phases(report):
        return None
    figure: Figure = row.total if phase == "end_to_end" else getattr(row, phase)
    return figure
