"""What `python -m benchmarks.fit_predictor` prints: constants, errors by phase and family, baselines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.predictor_fit.folds import Judged, figures
from benchmarks.predictor_fit.memory import peak_bytes
from benchmarks.predictor_fit.rows import MemoryRow, PhaseRow
from topovlm.predict.efficiencies import Coefficients, HeldOut
from topovlm.predict.knowledge import Knowledge
from topovlm.predict.levels import setting_of, unlinked
from topovlm.predict.memory import MemoryModel
from topovlm.predict.phases import CONSTANTS, PHASES
from topovlm.predict.target import list_boards

FLAT_MFU = 0.4
_DTYPES = {"16": "fp16", "8": "int8", "4": "w4a16", "fp4": "nvfp4"}
_KIND_NAMES = {"board": "new board", "model": "new model", "version": "new version", "rows": "these rows"}


def flat_mfu_s(row: PhaseRow) -> float:
    """Baseline 1: every operation at 40 % of the dense peak (decode: two operations per weight)."""
    peak = FLAT_MFU * row.machine.arithmetic_flop_per_s
    if row.phase == "decode":
        return float(row.work.read_bytes / peak)
    return float((row.work.linear_flop + row.work.attention_flop) / peak)


def pure_bandwidth_s(row: PhaseRow) -> float:
    """Baseline 2: every byte once, at peak bandwidth."""
    bytes_read = (
        row.work.weight_bytes + row.work.head_bytes if row.phase == "prefill" else row.work.read_bytes
    )
    return float(bytes_read / row.machine.bandwidth_bytes_per_s)


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _baseline(rows: Sequence[PhaseRow], form: Callable[[PhaseRow], float]) -> str:
    return _percent(float(np.median([abs(form(row) / row.seconds - 1) for row in rows])))


def print_constants(console: Console, found: Coefficients) -> None:
    """Constants of every board and runtime that has rows, in the format that most do."""
    table = Table(title="Constants (fitted), for what rows were published of", title_justify="left")
    for column in ("phase", "board", "runtime", "format", "rows", "constants"):
        table.add_column(column)
    knowledge, boards = Knowledge.published(found), {board.id: board for board in list_boards()}
    for fit in found.phases:
        for each in fit.support:
            dtype = _DTYPES.get(each.width, each.width)
            setting = setting_of(boards[each.board], each.runtime, each.version, dtype)
            values = knowledge.known(fit.phase, setting).values
            shown = ", ".join(f"{name} {unlinked(name, values[name]):.3g}" for name in CONSTANTS[fit.phase])
            runtime = f"{each.runtime} {each.version}"
            table.add_row(fit.phase, each.board, runtime, dtype, str(each.rows), shown)
    console.print(table)


def print_errors(console: Console, title: str, judged: Sequence[Judged], hits: Sequence[bool]) -> None:
    """One line per phase, and per phase, family and runtime, beside the baselines on the same rows."""
    table = Table(title=title, title_justify="left")
    for column in ("phase", "family / runtime", "rows", "median", "90th percentile", "interval covers"):
        table.add_column(column)
    table.add_column("MFU 0.4")
    table.add_column("bandwidth")
    for phase in PHASES:
        of_phase = [(each, hit) for each, hit in zip(judged, hits, strict=True) if each.row.phase == phase]
        keys = sorted({_key(each) for each, _ in of_phase})
        for name, some in (
            ("all", of_phase),
            *((key, [e for e in of_phase if _key(e[0]) == key]) for key in keys),
        ):
            if not some:
                continue
            found = figures([each for each, _ in some], [hit for _, hit in some])
            rows = [each.row for each, _ in some]
            table.add_row(
                *(phase, name, str(found.rows), _percent(found.median), _percent(found.p90)),
                *(
                    _percent(found.covered or 0.0),
                    _baseline(rows, flat_mfu_s),
                    _baseline(rows, pure_bandwidth_s),
                ),
                style="bold" if name == "all" else "",
            )
    console.print(table)


def _key(each: Judged) -> str:
    return f"{each.row.setting.family} / {each.row.setting.runtime}"


def summarise(
    judged: Mapping[str, Sequence[Judged]], hits: Mapping[str, Sequence[bool]]
) -> dict[str, HeldOut]:
    """The figures that the aims are stated in: by phase, of all rows, families and Orin's main runtime."""
    summary = {}
    for kind, some in judged.items():
        both = list(zip(some, hits[kind], strict=True))
        families = sorted({each.row.setting.family for each in some})
        for phase in PHASES:
            of_phase = [pair for pair in both if pair[0].row.phase == phase]
            orin = [pair for pair in of_phase if _key(pair[0]) == "jetson-orin / edge-llm"]
            groups = {
                "all": of_phase,
                **{f: [pair for pair in of_phase if pair[0].row.setting.family == f] for f in families},
                "jetson-orin with edge-llm": orin,
            }
            for name, pairs in groups.items():
                if pairs:
                    found = figures([each for each, _ in pairs], [hit for _, hit in pairs])
                    summary[f"{phase}, {name}, {_KIND_NAMES[kind]}"] = found
    everything = [each.row for each in next(iter(judged.values()))]
    for label, form in (("flat MFU 0.4", flat_mfu_s), ("pure bandwidth", pure_bandwidth_s)):
        for phase in PHASES:
            errors = [abs(form(row) / row.seconds - 1) for row in everything if row.phase == phase]
            if errors:
                median, p90 = (round(float(np.quantile(errors, at)), 4) for at in (0.5, 0.9))
                summary[f"{phase}, baseline {label}"] = HeldOut(rows=len(errors), median=median, p90=p90)
    return summary


def memory_errors(rows: Sequence[MemoryRow], model: MemoryModel) -> HeldOut | None:
    """Errors of the stored memory form on peaks of any version; None without rows."""
    if not rows:
        return None
    values = np.array([model.fixed_bytes, model.share_of_weights, model.bytes_per_image_token])
    errors = [abs(peak_bytes(row, values) / row.peak_bytes - 1) for row in rows]
    held = [error <= model.spread for error in errors]
    median, p90 = (round(float(np.quantile(errors, at)), 4) for at in (0.5, 0.9))
    return HeldOut(rows=len(rows), median=median, p90=p90, covered=round(sum(held) / len(held), 3))


def print_summary(console: Console, summary: Mapping[str, HeldOut]) -> None:
    """The aims and what was reached."""
    table = Table(title="Summary", title_justify="left")
    for column in ("what", "rows", "median error", "90th percentile", "interval covers"):
        table.add_column(column)
    for name, found in summary.items():
        cover = "-" if found.covered is None else _percent(found.covered)
        table.add_row(name, str(found.rows), _percent(found.median), _percent(found.p90), cover)
    console.print(table)
