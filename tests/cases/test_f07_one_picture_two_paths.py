"""One picture under several names: all questions about it stay on one side of the split, in one cluster."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from topovlm.config import BY_NAME
from topovlm.pipeline.data_split import choosing_parts, hold_out
from topovlm.samples import Sample, read_jsonl

COUNT = 40


def copied(picture: Path, name: str) -> str:
    shutil.copyfile(picture, picture.with_name(name))
    return f"p/{name}"


def linked(picture: Path, how: Callable[[Path, Path], None]) -> str:
    how(picture, picture.with_name(f"link-{picture.name}"))
    return f"p/link-{picture.name}"


def stored_again(picture: Path, suffix: str) -> str:
    with Image.open(picture) as image:
        image.save(picture.with_suffix(suffix), lossless=True)
    return f"p/{picture.stem}{suffix}"


OTHER_NAMES: dict[str, Callable[[Path], str]] = {
    "absolute": str,
    "upwards": lambda picture: f"p/../p/{picture.name}",
    "two slashes": lambda picture: f"p//{picture.name}",
    "a dot": lambda picture: f"./p/{picture.name}",
    "a copy": lambda picture: copied(picture, f"copy-{picture.name}"),
    "a symbolic link": lambda picture: linked(picture, lambda one, other: other.symlink_to(one)),
    "a hard link": lambda picture: linked(picture, os.link),
    "stored as BMP": lambda picture: stored_again(picture, ".bmp"),
    "stored as WebP": lambda picture: stored_again(picture, ".webp"),
    "beside another": lambda picture: f"p/{picture.name}|p/other-{picture.name}",
}


def data(folder: Path, other: Callable[[Path], str], **second: str) -> list[Sample]:
    """Two questions on each picture, the second under another name of it."""
    (folder / "p").mkdir()
    rng, rows = np.random.default_rng(3), []
    for number in range(COUNT):
        for name in (f"{number}.png", f"other-{number}.png"):
            Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(folder / "p" / name)
        named = other(folder / "p" / f"{number}.png")
        rows.append({"image": f"p/{number}.png", "prompt": "one", "answer": "a"})
        rows.append({"image": named.split("|"), "prompt": "two", "answer": "b", **second})
    (folder / "d.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return read_jsonl(folder / "d.jsonl")


@pytest.mark.parametrize("name", OTHER_NAMES)
def test_no_picture_is_on_two_sides(tmp_path: Path, name: str) -> None:
    """What chose layers is not among what measures; nor do two samples of a picture count as two groups."""
    samples = data(tmp_path, OTHER_NAMES[name])
    assert len({sample.group for sample in samples}) == COUNT
    assert all(one.group == two.group for one, two in zip(samples[::2], samples[1::2], strict=True))
    chosen, held_out = hold_out(samples, BY_NAME["samples"].default, BY_NAME["judge_samples"].default, 0)
    parts = choosing_parts(chosen, BY_NAME["samples"].default, BY_NAME["judge_samples"].default)
    sides = [set(), set(), set(), set()]
    for side, part in zip(sides, (parts.score, parts.judge, parts.confirm, held_out), strict=True):
        side.update(digest for sample in part for digest in sample.pixels)
    assert all(sides)
    assert sum(map(len, sides)) == len(set.union(*sides))


def test_a_stated_group_is_joined_by_what_shares_its_pictures(tmp_path: Path) -> None:
    """Both ties count, through each other: all in one group, called as it was stated."""
    samples = data(tmp_path, OTHER_NAMES["a copy"], group="kitchen")
    assert {sample.group for sample in samples} == {"kitchen"}


def test_a_group_that_is_called_as_another_picture_is_another_group(tmp_path: Path) -> None:
    """Names of groups are not paths."""
    samples = data(tmp_path, OTHER_NAMES["a copy"])
    rows = [json.loads(line) for line in (tmp_path / "d.jsonl").read_text().splitlines()]
    rows[2]["group"] = "p/0.png"
    (tmp_path / "d.jsonl").write_text("\n".join(map(json.dumps, rows)))
    again = read_jsonl(tmp_path / "d.jsonl")
    assert again[0].group != again[2].group
    assert len({sample.group for sample in again}) == len({sample.group for sample in samples})


def test_a_question_without_picture_is_one_question(tmp_path: Path) -> None:
    """Asked twice it stays on one side; others are alone."""
    rows = [{"prompt": "Why?", "answer": "a"}, {"prompt": "Why?", "answer": "b"}, {"prompt": "How?"}]
    (tmp_path / "d.jsonl").write_text("\n".join(map(json.dumps, rows)))
    one, two, three = read_jsonl(tmp_path / "d.jsonl")
    assert one.group == two.group != ""
    assert three.group == ""
