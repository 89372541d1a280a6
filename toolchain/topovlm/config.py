"""One table of options: each is a flag of the command line and a key of topovlm.toml, checked the same way.

Precedence: flag > file > default. The file's keys are the flags without dashes (`max-latency = "60%"`);
they may stand at the top or in a `[deploy]` table. Unknown keys are refused, with the nearest known one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from topovlm import exporters
from topovlm.choose.choices import AUTO, CLOUDS, K_RULES, TOKENS
from topovlm.errors import InputError, explain
from topovlm.exporters.protocol import DTYPES as WRITTEN
from topovlm.exporters.protocol import Dtype
from topovlm.predict.weight_formats import FORMATS as WEIGHT_FORMATS
from topovlm.predict.weight_formats import PLANNED_AS
from topovlm.registry import nearest
from topovlm.toml import read_toml
from topovlm.units import (
    LatencyBudget,
    parse_bytes,
    parse_duration_ms,
    parse_fraction,
    parse_size,
    spell_bytes,
    spell_ms,
    spell_share,
    spell_size,
    wrong_type,
)
from topovlm.workers.address import parse_workers
from topovlm.workload import MOST_FRAMES

DTYPES = ("auto", *dict.fromkeys((*WEIGHT_FORMATS, *WRITTEN)))  # what can be planned for or written
EXPORTED: tuple[Dtype, ...] = ("fp32", "fp16")  # what a deployment writes and measures its graphs in
REFERENCE_MODEL = "reference"
LAST = "report"
UNTIL = ("plan", "score", "select", "prune", "export", LAST)  # where a deployment may stop


@dataclass(frozen=True)
class Config:
    """Everything that a deployment depends on, resolved; `None` means: not asked for, or found out later."""

    target: str | None
    mode: str | None
    model: str
    task: str | None
    data: Path | None
    max_latency: LatencyBudget | None
    max_token_latency_ms: float | None
    max_memory_bytes: int | None
    memory_bytes: int | None
    max_drop: float | None
    sparsity: float | None
    drop: tuple[int, ...] | None
    scorer: str
    repair: str
    heal_ms: float | None
    k: int | str
    cloud: str
    token: str
    samples: int
    judge_samples: int
    judgements: int
    finalists: int | None
    eval_samples: int
    bench: tuple[str, ...] | None
    bench_data: Path | None
    limit: int | None
    prompt_tokens: int | None
    new_tokens: int
    images: int
    frames: int
    image_size: tuple[int, int] | None  # height, width
    dtype: str
    format: tuple[str, ...]
    seed: int
    threads: int | None
    measure_time_ms: float
    until: str
    output: Path
    device: str
    workers: str | None

    @property
    def threads_here(self) -> int:
        """CPU threads of what runs on this machine, wherever latency is measured."""
        from topovlm.machine.host import usable_cores

        return self.threads or usable_cores()

    def words(self) -> list[str]:
        """The flags that give this configuration again, whatever the defaults are then."""
        found: list[str] = []
        for option in OPTIONS:
            value = getattr(self, option.field)
            if value is not None:
                found += [option.flag, option.spell(value)]
        return found


@dataclass(frozen=True)
class Option:
    """One flag: how its text is read, what it is without it, and what the help says.

    `spell` writes a value the way `parse` reads it; `unit` ends the name of its field in `Config`.
    """

    name: str  # with underscores; the flag has dashes
    parse: Callable[[str, str], Any]  # (text, field) -> value, or InputError
    default: Any
    help: str
    metavar: str
    short: str | None = None
    spell: Callable[[Any], str] = str
    unit: str = ""
    names: Callable[[], Iterable[str]] | None = None  # the choices, where plug-ins add to them

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def field(self) -> str:
        """Name of the option's value in `Config`."""
        return f"{self.name}_{self.unit}" if self.unit else self.name

    def read(self, value: object, field: str) -> Any:
        """A value as typed on the command line, or as Python holds it, checked the same way.

        A bare number of what has a unit is refused here too.
        """
        if isinstance(value, str):
            return self.parse(value, field)
        bare = isinstance(value, (int, float)) and (self.unit or self.name == "max_latency")
        try:
            text = str(value) if bare else self.spell(value)
        except (TypeError, AttributeError):
            remedy = f"Give {self.help.replace('%%', '%')}"
            raise InputError(explain(field, value, wrong_type(value), remedy)) from None
        return self.parse(text, field)

    def typed(self, holder: object) -> str:
        """The value that a `Config` (or a record with the same fields) holds, as one would type it."""
        return self.spell(getattr(holder, self.field))


def parse_text(text: str, field: str) -> str:
    if not text.strip():
        raise InputError(explain(field, text, "is empty"))
    return text


def parse_path(text: str, field: str) -> Path:
    path = parse_text(text, field)
    if "\0" in path:
        raise InputError(explain(field, path, "is no path: it holds a NUL character"))
    return Path(os.path.expanduser(path))


def parse_device(text: str, field: str) -> str:
    """`local`, or the address of a board, which is not connected yet."""
    from topovlm.measure.devices import open_device

    open_device(text)
    return text


def integer(low: int, high: int | None = None) -> Callable[[str, str], int]:
    """A parser of whole numbers within bounds (inclusive)."""

    def parse(text: str, field: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise InputError(explain(field, text, "must be a whole number")) from None
        if value < low or (high is not None and value > high):
            bounds = f"at least {low}" if high is None else f"from {low} to {high}"
            raise InputError(explain(field, value, f"must be {bounds}"))
        return value

    return parse


def one_of(*choices: str) -> Callable[[str, str], str]:
    """A parser that takes one of `choices` and suggests the nearest when it is none."""

    def parse(text: str, field: str) -> str:
        if text not in choices:
            raise InputError(explain(field, text, f"is none of {', '.join(choices)}", nearest(text, choices)))
        return text

    return parse


def parse_neighbours(text: str, field: str) -> int | str:
    """A number of neighbours, or the name of a rule that finds one."""
    if text.strip().lstrip("+-").isdigit():
        return integer(1)(text, field)
    if text not in K_RULES:
        remedy = nearest(text, K_RULES) or "Give a number from 1 up, or one of these"
        raise InputError(explain(field, text, f"is no number and none of {', '.join(K_RULES)}", remedy))
    return text


def parse_token(text: str, field: str) -> str:
    """Also by the name that the method's paper gives the last token."""
    return one_of(AUTO, *TOKENS)("last" if text == "ret" else text, field)


def parse_formats(text: str, field: str) -> tuple[str, ...]:
    return exporters.choose([part.strip() for part in text.split(",") if part.strip()], field)


def parse_benchmarks(text: str, field: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    known = tuple(_benchmarks())
    for name in names:
        if name not in known:
            raise InputError(explain(field, name, f"is none of {', '.join(known)}", nearest(name, known)))
    if not names:
        raise InputError(explain(field, text, "names no benchmark", f"Known are {', '.join(known)}"))
    return names


def _layers(text: str, field: str) -> tuple[int, ...]:
    from topovlm.checkpoint.surgery import parse_layers

    return tuple(parse_layers(text, field))


def parse_sparsity(text: str, field: str) -> float:
    share = parse_fraction(text, field)
    if share >= 1:
        raise InputError(explain(field, text, "must be below 100%: some layers must stay"))
    return share


def _spell_list(parts: Iterable[object]) -> str:
    return ",".join(map(str, parts))


def _scorers() -> Iterable[str]:
    from topovlm.choose.scorers import SCORERS

    return SCORERS.names()


def _benchmarks() -> Iterable[str]:
    from topovlm.tasks.public.table import names

    return names()


def _tasks() -> Iterable[str]:
    from topovlm.tasks import TASKS

    return TASKS.names()


OPTIONS: tuple[Option, ...] = (
    Option("target", parse_text, None, "board to deploy to, or `local` for this machine", "NAME"),
    Option("mode", parse_text, None, "power mode of the board (default: the board's own)", "NAME"),
    Option("model", parse_text, REFERENCE_MODEL, "model folder (default: the shipped reference LVLM)", "DIR"),
    Option(
        "task",
        parse_text,
        None,
        "set of questions that chooses layers and measures (default: --data, else the shipped benchmark)",
        "NAME",
        names=_tasks,
    ),
    Option(
        "data",
        parse_path,
        None,
        "calibration samples: JSONL of image, prompt, answer; of a public benchmark its folder or table",
        "FILE",
    ),
    Option(
        "max_latency",
        LatencyBudget.parse,
        None,
        "time to first token: 200ms, 0.2s, or 60%% of dense",
        "TIME",
        spell=LatencyBudget.spelled,
    ),
    Option(
        "max_token_latency",
        parse_duration_ms,
        None,
        "time per generated token, e.g. 30ms",
        "TIME",
        spell=spell_ms,
        unit="ms",
    ),
    Option(
        "max_memory",
        parse_bytes,
        None,
        "memory of weights, cache and activations, e.g. 6GiB",
        "SIZE",
        spell=spell_bytes,
        unit="bytes",
    ),
    Option(
        "memory",
        parse_bytes,
        None,
        "memory that this command may take here, e.g. 8GiB (default: what is free)",
        "SIZE",
        spell=spell_bytes,
        unit="bytes",
    ),
    Option(
        "max_drop",
        parse_fraction,
        None,
        "most accuracy that may be lost on the held-out questions, e.g. 2%% (points; else exit code 3)",
        "SHARE",
        spell=spell_share,
    ),
    Option(
        "sparsity",
        parse_sparsity,
        None,
        "share of decoder layers to remove, e.g. 25%%",
        "SHARE",
        spell=spell_share,
    ),
    Option(
        "drop",
        _layers,
        None,
        "decoder layers to remove, 0-based, e.g. 12,13,20-24",
        "LAYERS",
        spell=_spell_list,
    ),
    Option("scorer", parse_text, "zigzag", "how layers are ranked", "NAME", names=_scorers),
    Option(
        "repair",
        one_of("auto", "cuts", "all", "off"),
        "auto",
        "closed-form repair, kept if it helps: at the cuts, of all layers from the first cut on, or auto "
        "(default: all, but cuts of a model of more than a billion parameters)",
        "HOW",
    ),
    Option(
        "heal",
        parse_duration_ms,
        None,
        "train what lies beside the cuts for so long, e.g. 10min; kept if it helps (default: not at all)",
        "TIME",
        spell=spell_ms,
        unit="ms",
    ),
    Option(
        "k",
        parse_neighbours,
        "auto",
        "nearest neighbours of the layer graphs: a number, plateau (where the order of layers depends least "
        "on it), or auto (default: where there are most loops)",
        "N",
    ),
    Option(
        "cloud",
        one_of(*CLOUDS),
        "residual",
        f"stream of the layers' point clouds: {' or '.join(CLOUDS)}, as the next norm sees it "
        "(default: residual)",
        "NAME",
    ),
    Option(
        "token",
        parse_token,
        AUTO,
        f"tokens of the layers' point clouds: {', '.join(TOKENS)}, a point of each (default: text-mean)",
        "NAME",
    ),
    Option("samples", integer(8), 512, "calibration samples, fewer where the data has fewer", "N"),
    Option("judge_samples", integer(2), 256, "samples that judge sets of layers: search and finals", "N"),
    Option("judgements", integer(1), 60, "sets of layers that the judge may try", "N"),
    Option(
        "finalists",
        integer(1),
        None,
        "best sets that are repaired and judged again (default: 8; 2 beyond a billion parameters)",
        "N",
    ),
    Option("eval_samples", integer(1), 600, "held-out questions to answer, dense and slim", "N"),
    Option(
        "bench",
        parse_benchmarks,
        None,
        "public benchmarks to answer whole; NAME-strict reads answers our way",
        "LIST",
        spell=_spell_list,
        names=_benchmarks,
    ),
    Option(
        "bench_data",
        parse_path,
        None,
        "folder that holds them (default: the Hugging Face caches; nothing is downloaded)",
        "DIR",
    ),
    Option("limit", integer(1), None, "questions of each benchmark, drawn by --seed (default: all)", "N"),
    Option(
        "prompt_tokens",
        integer(1),
        None,
        "text tokens of the workload, pictures not counted (default: 32, or what the template takes)",
        "N",
    ),
    Option("new_tokens", integer(1), 1, "generated tokens; above 1 the latency is end to end", "N"),
    Option("images", integer(0), 1, "pictures per prompt of the workload", "N"),
    Option("frames", integer(0, MOST_FRAMES), 0, "frames of a video in place of the pictures", "N"),
    Option(
        "image_size",
        parse_size,
        None,
        "size of the workload's pictures or frames in px, e.g. 448x640 (default: the model's own)",
        "HxW",
        spell=spell_size,
    ),
    Option("dtype", one_of(*DTYPES), "auto", f"weights: {', '.join(DTYPES)}", "NAME"),
    Option(
        "format",
        parse_formats,
        (exporters.MEASURED,),
        "what to export, one or more",
        "LIST",
        spell=_spell_list,
        names=exporters.EXPORTERS.names,
    ),
    Option("seed", integer(0, 2**32 - 1), 0, "seed of every random choice", "N"),
    Option("threads", integer(1), None, "CPU threads (default: all cores that are there)", "N"),
    Option(
        "measure_time",
        parse_duration_ms,
        20_000.0,
        "longest latency measurement (default: 20s)",
        "TIME",
        spell=spell_ms,
        unit="ms",
    ),
    Option(
        "until",
        one_of(*UNTIL),
        LAST,
        f"where this run stops: {', '.join(UNTIL)}; the next one goes on from there",
        "STAGE",
    ),
    Option("output", parse_path, Path("topovlm-out"), "run directory (default: topovlm-out)", "DIR", "-o"),
    Option("device", parse_device, "local", "where to measure: local, or ssh://user@host[:port]", "WHERE"),
    Option(
        "workers",
        parse_workers,
        None,
        "share the work: ray:local, or ray://host:port of a Ray cluster (default: this process)",
        "WHERE",
    ),
)
BY_NAME = {option.name: option for option in OPTIONS}


def read_file(path: Path) -> dict[str, str]:
    """The texts that topovlm.toml gives, by option name. Raises `InputError` naming file and key."""
    document = read_toml(path, field="--config")
    table = document.pop("deploy", {})
    if not isinstance(table, dict):
        raise InputError(explain("deploy", table, "deploy must be a table").at(str(path)))
    texts = {}
    for key, value in {**document, **table}.items():
        name = key.replace("-", "_")
        if name not in BY_NAME:
            near = nearest(name, list(BY_NAME)).replace("_", "-")
            raise InputError(explain("key", key, "is not known", near).at(str(path)))
        texts[name] = _as_text(value, key, path)
    return texts


def _as_text(value: object, key: str, path: Path) -> str:
    """A TOML value as the flag would spell it, so that one parser serves both."""
    if isinstance(value, (list, tuple)):
        return ",".join(str(part) for part in value)
    if isinstance(value, (str, int, float)) and not isinstance(value, bool):
        return str(value)
    raise InputError(explain(key, value, "must be a string, a number or a list").at(str(path)))


def resolve(given: Mapping[str, object], file: Path | None = None) -> Config:
    """Flags over file over defaults, parsed and checked.

    `given`: by option name, each a text as typed on the command line or a value as Python holds it.
    """
    from_file = read_file(file) if file else {}
    values: dict[str, Any] = {}
    for option in OPTIONS:
        if given.get(option.name) is not None:
            value = option.read(given[option.name], option.flag)
        elif option.name in from_file:
            value = option.parse(from_file[option.name], f"{file}: {option.flag[2:]}")
        else:
            value = option.default
        values[option.field] = value
    if values["threads"] is None and values["device"] == "local":  # a board has cores of its own
        from topovlm.machine.host import usable_cores

        values["threads"] = usable_cores()
    if values["sparsity"] is not None and values["drop"] is not None:
        rule = "--sparsity and --drop both say how many layers go"
        raise InputError(explain("--sparsity", spell_share(values["sparsity"]), rule, "Give one of them"))
    if values["max_drop"] is not None and values["until"] != LAST:
        rule = f"no accuracy is measured with --until {values['until']}"
        raise InputError(
            explain("--max-drop", spell_share(values["max_drop"]), rule, "Leave one of them out")
        )
    return Config(**values)


def exported_dtype(config: Config, otherwise: Dtype, written: Sequence[Dtype] = EXPORTED) -> Dtype:
    """Precision of graphs to write, `otherwise` for auto. Raises `InputError` for one not `written`."""
    if config.dtype == "auto":
        return otherwise
    for dtype in written:
        if config.dtype == dtype:
            return dtype
    graphs = f"graphs are written in {' or '.join(written)}"
    if config.dtype in WRITTEN:
        rule = f"a deployment's {graphs}"
        planned = PLANNED_AS.get(config.dtype, config.dtype)
        remedy = (
            f"`topovlm export --dtype {config.dtype}` writes it, without a deployment around it; "
            f"`topovlm plan --dtype {planned}` plans for it"
        )
    else:
        rule = f"can be planned for; {graphs}"
        remedy = "`topovlm plan` takes it; quantise the exported model with the board's own tools"
    raise InputError(explain("--dtype", config.dtype, rule, remedy))
