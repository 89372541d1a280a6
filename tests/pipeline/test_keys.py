"""Keys of stages are derived from what they declare, and they declare all that they read."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from benchmarks.tasks import small

from tests.pipeline import deploying
from tests.pipeline.conftest import FIELDS
from tests.pipeline.test_data import context, data_file
from topovlm.config import resolve
from topovlm.pipeline import stage as declared
from topovlm.pipeline.constants import CONSTANTS, IRRELEVANT, Constants
from topovlm.pipeline.context import Context
from topovlm.pipeline.stage import Stage
from topovlm.pipeline.stages import PLAN, all_stages, rejected
from topovlm.pipeline.target import DeviceIdentity
from topovlm.predict.target import data_dir, load_target
from topovlm.units import LatencyBudget

STAGES: tuple[Stage[Any], ...] = (*all_stages(), rejected(5))


@pytest.fixture
def here(model: Path, tmp_path: Path) -> Context:
    return context(model, tmp_path / "out")


def keys(of: Context) -> dict[str, dict[str, Any]]:
    """What every stage depends on by itself, earlier stages aside."""
    return {stage.name: stage.key(of) for stage in STAGES}


def with_other(here: Context, field: str, tmp_path: Path) -> Context:
    """The same run with another value of one field of the configuration, and what follows from it."""
    if field == "model":
        from topovlm.pipeline.sources import find_model

        other = deploying.build_model(tmp_path / "other", seed=1)
        return replace(here, config=replace(here.config, model=str(other)), source=find_model(str(other)))
    if field in ("target", "mode"):
        name = {"target": "jetson-orin-nano-8gb", "mode": "jetson-orin@MAXN"}[field]
        changed: dict[str, Any] = {field: name}
        return replace(here, config=replace(here.config, **changed), target=load_target(name))
    if field == "device":
        facts: dict[str, Any] = {"target": None, "model": "Box", "cpu": "x", "cores": 2, "versions": {}}
        identity = DeviceIdentity(**facts, memory_total_bytes=None, power_mode=None)
        return replace(here, config=replace(here.config, device="ssh://box"), identity=identity)
    values: dict[str, Any] = {
        "task": "reference",
        "data": data_file(tmp_path, 40) if field == "data" else None,
        "max_latency": LatencyBudget(absolute_ms=200.4),
        "max_token_latency_ms": 30.0,
        "max_memory_bytes": 1 << 30,
        "max_drop": 0.02,
        "sparsity": 0.25,
        "drop": (3,),
        "scorer": "angular",
        "prompt_tokens": 40,
        "image_size": (40, 64),
        "repair": "off",
        "heal_ms": 600_000.0,
        "k": 7,
        "cloud": "normalised",
        "token": "multi",
        "memory_bytes": 8 << 30,
        "dtype": "fp16",
        "format": ("onnx", "tensorrt"),
        "output": Path("elsewhere"),
        "finalists": 3,
        "until": "plan",
        "workers": "ray:local",
        "bench": ("ai2d", "chartqa"),
        "bench_data": tmp_path / "other",
        "limit": 3,
    }
    value = values[field] if field in values else getattr(here.config, field) + 1
    return replace(here, config=replace(here.config, **{field: value}))


@pytest.mark.parametrize("field", FIELDS)
def test_every_field_changes_a_key_or_is_declared_irrelevant(
    here: Context, field: str, tmp_path: Path
) -> None:
    """And where it changes one, the stage has declared the field, or a fact that stands for it."""
    if field.startswith("bench") or field == "limit":
        for seed, name in enumerate(("small", "other")):
            small.build(tmp_path / name, 6, seed)
        asked = replace(here.config, bench=("ai2d",), bench_data=tmp_path / "small")
        here = replace(here, config=asked)
    before, after = keys(here), keys(with_other(here, field, tmp_path))
    changed = {name for name in before if before[name] != after[name]}
    if field in declared.IRRELEVANT:
        assert changed == set()
        return
    assert changed
    assert changed <= {stage.name for stage in STAGES if field in stage.fields}


@pytest.mark.parametrize("name", [field.name for field in fields(Constants)])
def test_every_constant_changes_a_key_or_is_declared_irrelevant(here: Context, name: str) -> None:
    """Numbers in the code that decide results are inputs like any other."""
    changed = replace(here, constants=replace(CONSTANTS, **{name: getattr(CONSTANTS, name) + 1}))
    assert (keys(here) != keys(changed)) is (name not in IRRELEVANT)


def test_a_latency_budget_is_a_number_in_the_key(here: Context) -> None:
    """200ms and 200.4ms print alike, and are different plans."""
    found = []
    for text in ("200ms", "200.4ms"):
        config = resolve({"target": "jetson-orin", "model": here.config.model, "max_latency": text})
        found.append(PLAN.key(replace(here, config=config))["max_latency"])
    assert found == [
        {"absolute_ms": 200.0, "share_of_dense": None},
        {"absolute_ms": 200.4, "share_of_dense": None},
    ]


def test_a_changed_target_file_is_another_target(here: Context, tmp_path: Path) -> None:
    """The key of the target is the same, its facts are not."""
    shipped = (data_dir("targets") / "jetson-orin-nano-8gb.toml").read_text()
    mine = tmp_path / "mine.toml"
    seen = []
    for text in (shipped, shipped.replace("total_gib = ", "total_gib = 1")):
        mine.write_text(text)
        target = load_target(str(mine))
        seen.append((target.key, replace(here, target=target).fact("target")))
    assert seen[0][0] == seen[1][0]
    assert seen[0][1] != seen[1][1]


def test_timings_belong_to_a_machine_its_packages_and_its_time(here: Context) -> None:
    """A run directory carried to another machine, or another --measure-time, measures again."""
    machine, packages = here.fact("machine"), here.fact("packages")
    assert isinstance(machine, dict)
    assert isinstance(packages, dict)
    assert {"cpu", "cores", "threads", "measure_time_ms"} <= set(machine)
    assert {"topovlm", "onnxruntime", "tokenizers", "torch"} <= set(packages)
