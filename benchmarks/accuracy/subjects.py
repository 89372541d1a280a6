"""The models that are compared on, by name; each is made or found when it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from benchmarks.accuracy.lvlm import Lvlm
from benchmarks.accuracy.smollm2_text import SmolLm2Text
from benchmarks.accuracy.subject import Subject


def _smollm2_text(room: Path) -> Subject:
    from benchmarks.smollm2 import write_checkpoint

    folder = room / "checkpoint"
    if not (folder / "config.json").is_file():
        write_checkpoint(folder)
    return SmolLm2Text(folder)


def _reference(_room: Path) -> Subject:
    from topovlm.config import REFERENCE_MODEL
    from topovlm.pipeline.sources import find_model
    from topovlm.tasks import open_task

    return Lvlm("reference", find_model(REFERENCE_MODEL).checkpoint.folder, open_task(None, None))


def _smollm2_lvlm(room: Path) -> Subject:
    from benchmarks.smol.checkpoint import build
    from benchmarks.smol.data import samples
    from topovlm.reference.task import DrawnTask

    folder = room / "checkpoint"
    if not (folder / "config.json").is_file():
        build(folder)
    task = DrawnTask("smol", "the questions of SmolLM2-LVLM (benchmarks/smol)", samples, test_seed=0)
    return Lvlm("SmolLM2-LVLM", folder, task)


def _plain(room: Path) -> Subject:
    from benchmarks.plain.release import build
    from topovlm.tasks import open_task

    folder = room / "checkpoint"
    if not (folder / "config.json").is_file():
        build(folder)
    return Lvlm("Idefics3, trained plainly", folder, open_task(None, None))


SUBJECTS: dict[str, Callable[[Path], Subject]] = {
    "reference": _reference,
    "smollm2-text": _smollm2_text,
    "smollm2-lvlm": _smollm2_lvlm,
    "plain": _plain,
}
