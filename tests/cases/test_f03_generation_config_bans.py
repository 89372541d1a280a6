"""Sound weights beside settings that only constrain sampling: pruned and verified."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cases.command import edit, reference_copy, topovlm

SETTINGS = {
    "no_repeat_ngram_size": 2,
    "bad_words_ids": [[356], [3]],
    "forced_eos_token_id": 3,
    "guidance_scale": 2.0,
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_sound_checkpoint_is_pruned(tmp_path: Path, name: str) -> None:
    """Exit code 0, verified; the settings go along for whoever generates."""
    model = reference_copy(tmp_path / "m")
    edit(model / "generation_config.json", lambda held: held.update({name: SETTINGS[name]}))
    done = topovlm("prune", "--model", model, "--drop", 5, "-o", tmp_path / "slim", cwd=tmp_path)
    assert done.code == 0, done.last
    assert name in (tmp_path / "slim" / "generation_config.json").read_text()
