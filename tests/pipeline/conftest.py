"""Deployments of a tiny model that several tests look at, each made once per session."""

from __future__ import annotations

import contextlib
import functools
import gc
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import pytest
from benchmarks.tasks.small import build

from tests.pipeline import deploying
from topovlm.config import Config, resolve
from topovlm.console import Display, Progress
from topovlm.pipeline.constants import CONSTANTS, Constants

FIELDS = [part.name for part in fields(Config)]
CONSTANT_NAMES = [part.name for part in fields(Constants)]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return deploying.build_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="session")
def finished(model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A finished run; tests that change it work on copies."""
    out = tmp_path_factory.mktemp("run") / "out"
    code, outcome = deploying.deploy(model, out)
    assert code == 0
    return out, outcome


@dataclass
class Observed:
    """What was seen during one deployment.

    `reads`: (stage, field of the configuration); `constants`: (stage, constant); `loads`: ("model" or
    "processor", folder) of everything that transformers was asked for; `alive`: torch models of ours in
    memory while the graphs were timed.
    """

    model: Path
    stages: set[str] = field(default_factory=set)
    reads: set[tuple[str, str]] = field(default_factory=set)
    constants: set[tuple[str, str]] = field(default_factory=set)
    loads: list[tuple[str, str]] = field(default_factory=list)
    alive: list[int] = field(default_factory=list)


@pytest.fixture(scope="session")
def observed(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Observed:
    """A deployment with all formats, watched from the outside."""
    from topovlm.checkpoint import live, loading, processors
    from topovlm.pipeline import deploy as deploying_module
    from topovlm.pipeline import measuring
    from topovlm.pipeline.context import Context

    seen = Observed(model)
    now: list[str | None] = [None]

    class Watching(Display):
        """Knows which stage runs now."""

        @contextlib.contextmanager
        def stage(self, name: str) -> Iterator[Progress]:
            now[0] = name
            seen.stages.add(name)
            with super().stage(name) as progress:
                yield progress
            now[0] = None

    class Recorded(Config):
        """A configuration that tells who reads what."""

        def __getattribute__(self, name: str) -> Any:
            if now[0] is not None and name in FIELDS:
                seen.reads.add((now[0], name))
            return super().__getattribute__(name)

    class RecordedConstants(Constants):
        """The same of the constants."""

        def __getattribute__(self, name: str) -> Any:
            if now[0] is not None and name in CONSTANT_NAMES:
                seen.constants.add((now[0], name))
            return super().__getattribute__(name)

    load_model, load_processor = loading.load_model, processors.load_processor
    time_folders = measuring.time_folders

    def watched_model(source: Any, **settings: Any) -> Any:
        seen.loads.append(("model", str(getattr(source, "folder", source))))
        return load_model(source, **settings)

    def watched_processor(folder: Path) -> Any:
        seen.loads.append(("processor", str(folder)))
        return load_processor(folder)

    def watched_timing(*words: Any, **settings: Any) -> Any:
        seen.alive.append(sum(type(thing) is live.Live for thing in gc.get_objects()))
        return time_folders(*words, **settings)

    words = {"target": "jetson-orin-nano-8gb@7W", "max_latency": "70%", "samples": "16", "threads": "1"}
    words |= {"eval_samples": "12", "measure_time": "0.2s", "model": str(model), "format": "onnx,tensorrt"}
    small = tmp_path_factory.mktemp("small")
    build(small, 4)
    words |= {"bench": "ai2d", "bench_data": str(small), "limit": "2"}
    plain = resolve({**words, "output": str(tmp_path_factory.mktemp("observed") / "out")})
    config = Recorded(**{name: getattr(plain, name) for name in FIELDS})
    with pytest.MonkeyPatch.context() as patch:
        for module in (loading, live):
            patch.setattr(module, "load_model", watched_model)
        for module in (processors, live):
            patch.setattr(module, "load_processor", watched_processor)
        patch.setattr(measuring, "time_folders", watched_timing)
        constants = RecordedConstants(**asdict(CONSTANTS))
        patch.setattr(deploying_module, "Context", functools.partial(Context, constants=constants))
        gc.collect()
        before = sum(type(thing) is live.Live for thing in gc.get_objects())
        deploying_module.deploy(config, ["topovlm"], Watching(quiet=True))
    seen.alive = [count - before for count in seen.alive]
    return seen
