"""A tokenizer that was saved in the middle of a training run: prompts are whole all the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.cases.command import edit, reference_copy, topovlm
from topovlm.checkpoint.processors import load_processor, processed
from topovlm.families.catalogue import FAMILIES
from topovlm.reference import model_dir

_WORDS = "What colour is the circle at the top left of the picture, and is it above or below the square?"
_CUT = {"direction": "Right", "max_length": 50, "strategy": "LongestFirst", "stride": 0}
_FILL = {
    "strategy": {"Fixed": 200},
    "direction": "Left",
    "pad_to_multiple_of": None,
    "pad_id": 0,
    "pad_type_id": 0,
    "pad_token": "<|pad|>",
}


def _ids(folder: Path) -> list[int]:
    values = processed(load_processor(folder), FAMILIES["llava"], [Image.new("RGB", (48, 48))], _WORDS)
    return list(map(int, values["input_ids"][0]))


@pytest.mark.parametrize(
    ("file", "fields"),
    [
        ("tokenizer.json", {"truncation": _CUT}),
        ("tokenizer.json", {"truncation": {**_CUT, "max_length": 16}}),
        ("tokenizer.json", {"padding": _FILL}),
        ("tokenizer_config.json", {"truncation": True, "max_length": 50}),
        ("tokenizer_config.json", {"padding": "max_length", "max_length": 200}),
        ("tokenizer_config.json", {"model_max_length": 50, "truncation_side": "left"}),
    ],
)
def test_prompts_are_those_of_the_model(tmp_path: Path, file: str, fields: dict[str, Any]) -> None:
    """Token by token, wherever the length was kept."""
    folder = reference_copy(tmp_path / "m")
    edit(folder / file, lambda whole: whole.update(fields))
    assert _ids(folder) == _ids(Path(model_dir()))


def test_scores_do_not_notice(tmp_path: Path) -> None:
    """A limit below the tokens of a picture used to be an internal error."""
    folder = reference_copy(tmp_path / "m")
    edit(folder / "tokenizer.json", lambda whole: whole.update(truncation={**_CUT, "max_length": 16}))
    done = topovlm("score", "--model", folder, "--samples", 8, cwd=tmp_path)
    assert done.code == 0, done.err
