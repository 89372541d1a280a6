"""The dense model of a run is read once, and given back before memory is measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.pipeline import deploying
from topovlm.checkpoint import live, loading
from topovlm.pipeline import measuring


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """(kind, folder) of everything that transformers is asked to load."""
    seen: list[tuple[str, str]] = []
    model, processor = loading.load_model, live.load_processor

    def load_model(source: Any, **settings: Any) -> Any:
        seen.append(("model", str(getattr(source, "folder", source))))
        return model(source, **settings)

    def load_processor(folder: Path) -> Any:
        seen.append(("processor", str(folder)))
        return processor(folder)

    for module in (loading, live):
        monkeypatch.setattr(module, "load_model", load_model)
    monkeypatch.setattr(live, "load_processor", load_processor)
    return seen


def test_a_deployment_reads_the_dense_model_once(tmp_path: Path, loads: list[tuple[str, str]]) -> None:
    """Export, score, select, prune and repair share it; template, calibration and judge the processor."""
    source = deploying.build_model(tmp_path / "model")
    code, _ = deploying.deploy(source, tmp_path / "out")
    assert code == 0
    dense = [kind for kind, folder in loads if folder == str(source)]
    assert sorted(dense) == ["model", "processor"]


def test_it_is_gone_when_memory_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Timings and peaks are of the exported graphs, not of a torch model that happens to be there."""
    import gc

    from topovlm.checkpoint.live import Live

    held: list[int] = []
    time_folders = measuring.time_folders

    def watch(*words: Any, **settings: Any) -> Any:
        held.append(sum(isinstance(thing, Live) for thing in gc.get_objects()))
        return time_folders(*words, **settings)

    monkeypatch.setattr(measuring, "time_folders", watch)
    source = deploying.build_model(tmp_path / "model")
    before = sum(isinstance(thing, Live) for thing in gc.get_objects())
    code, _ = deploying.deploy(source, tmp_path / "out")
    assert code == 0
    assert held == [before]
