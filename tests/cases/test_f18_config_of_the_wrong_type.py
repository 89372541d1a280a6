"""Fields that transformers' strict configurations refuse: exit 2 with the field, never an internal error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.cases.command import edit, reference_copy, topovlm

_CHANGES: dict[str, tuple[str, Any]] = {
    "vision_feature_select_strategy": ("", "patch"),
    "image_seq_length": ("", None),
    "bos_token_id": ("text_config", [1]),
    "rms_norm_eps": ("text_config", "x"),
    "num_attention_heads": ("vision_config", None),
}


@pytest.mark.parametrize("field", list(_CHANGES))
@pytest.mark.parametrize(
    "words", [("score", "--samples", 8), ("prune", "--drop", 5, "-o", "o"), ("export", "-o", "x")]
)
def test_the_field_is_named(tmp_path: Path, field: str, words: tuple[Any, ...]) -> None:
    """The same refusal from every command that loads the model, with nothing left behind."""
    part, value = _CHANGES[field]
    folder = reference_copy(tmp_path / "m")
    edit(folder / "config.json", lambda whole: (whole[part] if part else whole).update({field: value}))
    done = topovlm(*words, "--model", folder, cwd=tmp_path)
    assert done.refused, done.err
    assert field in done.last
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m"]
