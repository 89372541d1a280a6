"""Folders as a harness asks them: exported or checkpoint, the same answers, never past the context."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import tiny
from topovlm.errors import InputError
from topovlm.exporters import EXPORTERS, MEASURED
from topovlm.exporters.protocol import ExportRequest
from topovlm.harness.answering import Answering, open_answering
from topovlm.samples import Sample

LONGEST = 96  # tokens
NEW_TOKENS = 8


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "tiny"
    return tiny.build(folder, layers=3, text={"max_position_embeddings": LONGEST})


@pytest.fixture(scope="module")
def exported(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "onnx"
    EXPORTERS[MEASURED].export(ExportRequest(model_dir=checkpoint, dtype="fp32"), folder, lambda *_: None)
    return folder


@pytest.fixture(scope="module", params=["checkpoint", "exported"])
def model(request: pytest.FixtureRequest) -> Answering:
    return open_answering(request.getfixturevalue(request.param), threads=1)


def asked(prompt: str, pictures: int = 1) -> Sample:
    return Sample(id="one", images=tuple(tiny.picture(n, 48) for n in range(pictures)), prompt=prompt)


def test_both_kinds_of_folder_say_the_same(checkpoint: Path, exported: Path) -> None:
    """Prompts of several lengths, with one picture, two and none, in their order."""
    samples = [asked(words, n % 3) for n, words in enumerate(tiny.PROMPTS)]
    said = [open_answering(f, threads=1).answers(samples, NEW_TOKENS) for f in (checkpoint, exported)]
    assert said[0] == said[1]
    assert len(set(said[0])) > 1
    assert not any("<|" in text for text in said[0])


def test_an_answer_has_the_room_that_the_prompt_leaves(model: Answering) -> None:
    """A task may ask for more tokens than there is context: then there are as many as fit."""
    short = asked("Count: 1 2 3")
    assert model.room(short, 16) == 16
    room = model.room(short, 10_000)
    assert LONGEST - 60 < room < LONGEST
    assert model.room(asked("Count: 1 2 3 4 5"), 10_000) < room
    assert model.answers([short], room)[0].startswith(model.answers([short], 4)[0])


@pytest.mark.parametrize(
    ("prompt", "words"), [("squares " * 600, "pass the model's context of 96"), ("a <image> b", "<image>")]
)
def test_what_cannot_be_asked_is_refused(model: Answering, prompt: str, words: str) -> None:
    """Before anything is computed, whatever the length of the answer."""
    with pytest.raises(InputError, match=words):
        model.room(asked(prompt), 16)


def test_other_folders_are_refused(tmp_path: Path) -> None:
    """Neither a checkpoint nor an export, or nothing at all."""
    with pytest.raises(InputError, match=r"pretrained = .*is not a folder.*topovlm export"):
        open_answering(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"config\.json"):
        open_answering(tmp_path)
