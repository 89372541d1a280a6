"""`python -m benchmarks.tasks rows`: a model of pictures in all ten forms, resumable; clips as frames."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from benchmarks.tasks.frames import SHOWN, FramesTask
from benchmarks.tasks.model_rows import Sizes, figures, page, stored
from benchmarks.tasks.small import build

from tests.report import factory
from tests.runtime.toy_export import Toy
from topovlm.errors import InputError
from topovlm.report.store import write_report
from topovlm.runtime.engine import Engine
from topovlm.tasks.public.table import BENCHMARKS, LMMS_EVAL, VIDEO_BENCHMARKS


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    build(folder, 6)
    return folder


@pytest.mark.parametrize("record", VIDEO_BENCHMARKS, ids=lambda record: record.name)
def test_clips_are_shown_as_frames_in_order(record: Any, small: Path) -> None:
    """The small benchmark's pictures move to the right: no two frames are alike, and the source says so."""
    task = FramesTask(record, LMMS_EVAL, small)
    samples = task.samples("all", 99, 0)
    assert len(samples) == 6
    for sample in samples:
        pixels = [image.tobytes() for image in sample.load_images()]
        assert (len(pixels), len(set(pixels))) == (SHOWN, SHOWN)
        assert task.score(sample, sample.answer or "").score == 1
    assert task.source.endswith(f"of each clip {SHOWN} frames as pictures")
    assert len(task.samples("all", 2, 0)) < 6


def test_clips_that_cannot_be_shown_leave_their_questions_out(small: Path, tmp_path: Path) -> None:
    """Missing or no video: counted in the source; where none is left, refused."""
    shutil.copytree(small / "mvbench", tmp_path / "mvbench")
    clips = sorted((tmp_path / "mvbench").rglob("*.mp4"))
    clips[0].unlink()
    clips[1].write_bytes(b"no video at all")
    task = FramesTask(BENCHMARKS["mvbench"], LMMS_EVAL, tmp_path)
    assert len(task.samples("all", 99, 0)) == 4
    assert "2 rows left out" in task.source
    for clip in clips[2:]:
        clip.unlink()
    with pytest.raises(InputError, match="none of its pictures or clips can be read"):
        FramesTask(BENCHMARKS["mvbench"], LMMS_EVAL, tmp_path).samples("all", 99, 0)


def test_all_forms_are_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row for each form and protocol, dense and slim; what was answered is not asked again."""
    run, sizes = tmp_path / "run", Sizes(questions=4, limit=2)
    for name, seed in (("baseline", 0), ("onnx", 1)):
        Toy(seed=seed).write(run / name)
    write_report(factory.standard(), run)
    found = figures(run, tmp_path, sizes)
    names = {row["name"] for row in found["rows"]} | set(found["not_asked"])
    assert names >= set(BENCHMARKS)
    assert len(found["rows"]) == 2 * (10 - len(found["not_asked"]))
    assert len(found["rows"]) >= 14
    assert found["layers"][1] == found["layers"][0] - len(found["dropped"])
    lines = page(
        {"one": {"title": "A tiny model", "deployment": ["--sparsity", "25%"], **found}}
    ).splitlines()
    assert sum(line.startswith("| ") for line in lines) == 2 + len(found["rows"])
    assert all(f"{name} cannot be asked: " in "\n".join(lines) for name in found["not_asked"])

    def asked(*_: Any, **__: Any) -> Any:
        raise AssertionError("asked again")

    monkeypatch.setattr(Engine, "generate_batch", asked)
    assert figures(run, tmp_path, sizes) == found


def test_the_page_shows_what_was_measured() -> None:
    """docs/benchmarks.md holds the tables that `page` prints from the data."""
    text = (Path(__file__).parents[2] / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert stored()
    assert page(stored()) in text
