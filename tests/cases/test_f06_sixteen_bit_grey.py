"""One grey picture saved with 8 and with 16 bits a pixel is one picture: the same pixels, the same answer."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cases.command import topovlm
from tests.runtime.toy_export import Toy
from topovlm.samples import read_jsonl

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (48, 48)).astype(np.uint8)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Toy().write(tmp_path_factory.mktemp("toy"))


@pytest.mark.parametrize("name", ["sixteen.png", "sixteen.tif", "sixteen.pgm", "eight.tif"])
def test_the_same_answer(exported: Path, tmp_path: Path, name: str) -> None:
    """Industrial, depth and X-ray cameras; values above 255 are not white."""
    Image.fromarray(GREY).save(tmp_path / "eight.png")
    wide = name.startswith("sixteen")
    Image.fromarray(GREY.astype(np.uint16) * 257 if wide else GREY).save(tmp_path / name)
    answers = []
    for picture in ("eight.png", name):
        words = ("--image", picture, "--prompt", "what colour is the ball", "--max-new-tokens", 8, "--json")
        done = topovlm("run", exported, *words, cwd=tmp_path)
        assert done.code == 0, done.err
        answers.append(json.loads(done.out)["token_ids"])
    assert answers[0] == answers[1]


def test_the_same_pixels_where_layers_are_chosen(tmp_path: Path) -> None:
    """Calibration and evaluation open pictures as the runtime does."""
    Image.fromarray(GREY).save(tmp_path / "a.png")
    Image.fromarray(GREY.astype(np.uint16) * 257).save(tmp_path / "b.png")
    (tmp_path / "d.jsonl").write_text('{"image": ["a.png", "b.png"], "prompt": "?"}')
    [sample] = read_jsonl(tmp_path / "d.jsonl")
    one, other = map(np.asarray, sample.load_images())
    assert (one == other).all()
    assert len(set(sample.pixels)) == 1


@pytest.mark.parametrize("mode", ["I", "F"])
def test_a_range_that_nobody_knows_is_refused(exported: Path, tmp_path: Path, mode: str) -> None:
    """32-bit integers and floats: said, not clipped."""
    Image.fromarray(GREY).convert(mode).save(tmp_path / "a.tif")
    done = topovlm("run", exported, "--image", "a.tif", "--prompt", "what", cwd=tmp_path)
    assert done.refused
    assert "8 or 16 bits" in done.last
