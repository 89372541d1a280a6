"""What a sweep deploys: one configuration for every combination of what its options list.

Options are those of a deployment; some of them may list several values, with commas between them (or as a
list, in a file or from Python). Everything else is read and checked as for one deployment.
"""

from __future__ import annotations

import itertools
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from topovlm.artifacts import digest_of
from topovlm.config import BY_NAME, Config, read_file, resolve
from topovlm.errors import InputError, explain

BUDGETS = ("max_latency", "max_token_latency", "max_memory", "sparsity")
LISTED = ("model", "target", *BUDGETS)
# What a run directory's name says of a budget, behind its value.
_SAID = {"max_token_latency": "-per-token", "max_memory": "", "max_latency": "", "sparsity": "-fewer-layers"}


@dataclass(frozen=True)
class Combination:
    """One deployment. `name`: of its run directory, `config.output`."""

    name: str
    config: Config

    @property
    def budget(self) -> dict[str, str]:
        """Budgets by option, as one would type them."""
        return budget_of(self.config)


def combinations(given: Mapping[str, object], file: Path | None = None) -> tuple[Combination, ...]:
    """In the order of the lists, the last one fastest; run directories below --output.

    `given`: by option name, as `config.resolve` takes it. Raises `InputError`.
    """
    texts = {**(read_file(file) if file else {}), **{k: v for k, v in given.items() if v is not None}}
    lists = {name: _values(name, texts[name]) for name in LISTED if name in texts}
    configs = [
        resolve({**given, **dict(zip(lists, values, strict=True))}, file)
        for values in itertools.product(*lists.values())
    ]
    return tuple(
        Combination(name, replace(config, output=config.output / name))
        for name, config in zip(_names(configs), configs, strict=True)
    )


def budget_of(config: Config) -> dict[str, str]:
    """The budgets that are asked for, by option, as one would type them."""
    options = [BY_NAME[name] for name in BUDGETS]
    return {
        option.name: option.typed(config) for option in options if getattr(config, option.field) is not None
    }


def _values(name: str, value: object) -> Sequence[object]:
    """What an option lists. Raises `InputError` for nothing, and for what is there twice."""
    flag = BY_NAME[name].flag
    if isinstance(value, str):
        found: Sequence[object] = _models(value) if name == "model" else _parts(value)
    else:
        listed = value if isinstance(value, (list, tuple)) else [value]
        found = [str(one) if isinstance(one, os.PathLike) else one for one in listed]
    if not found:
        raise InputError(explain(flag, value, "is empty"))
    read = [BY_NAME[name].read(one, flag) for one in found]
    for one, count in Counter(read).items():
        if count > 1:
            raise InputError(explain(flag, value, f"has {one} twice", "Leave one out"))
    return found


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")]


def _models(text: str) -> list[str]:
    """A path that is there is taken as typed, with the commas that it holds."""
    parts, found = text.split(","), []
    while parts:
        lengths = range(len(parts), 0, -1)
        length = next((n for n in lengths if _is_there(",".join(parts[:n]))), 1)
        found.append(",".join(parts[:length]).strip())
        del parts[:length]
    return found


def _is_there(path: str) -> bool:
    return bool(path.strip()) and os.path.exists(os.path.expanduser(path))


def _names(configs: Sequence[Config]) -> list[str]:
    """One each. Where two would be the same (models of one name, in two folders), a digest is added."""
    plain = [_name(config) for config in configs]
    count = Counter(name.casefold() for name in plain)
    return [
        name if count[name.casefold()] == 1 else f"{name}_{digest_of([config.model, config.target])[:8]}"
        for name, config in zip(plain, configs, strict=True)
    ]


def _name(config: Config) -> str:
    """`my-model_jetson-orin_150ms`."""
    model = os.path.basename(os.path.abspath(os.path.expanduser(config.model)))
    target = os.path.basename(config.target or "device").replace(".toml", "")
    mode = f"@{config.mode}" if config.mode else ""
    budgets = [f"{text}{_SAID[name]}" for name, text in budget_of(config).items()]
    return "_".join(map(_word, (model, f"{target}{mode}", *budgets)))


def _word(text: str) -> str:
    """Plain letters: the same on every file system, and in a link."""
    return re.sub(r"[^A-Za-z0-9.@+_-]+", "-", text.replace("%", "percent")).strip("-.") or "x"
