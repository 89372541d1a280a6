"""What a slim checkpoint carries along, and what its card calls the model that it came from."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cases.command import edit, mini
from topovlm.checkpoint.files import content_hash
from topovlm.checkpoint.surgery import prune_checkpoint


@pytest.mark.parametrize(
    "name",
    [
        "accuracy.json",
        "recipe.json",
        "trainer_state.json",
        "all_results.json",
        "eval_results.json",
        "training_args.json",
    ],
)
def test_results_of_the_dense_model_stay_behind(tmp_path: Path, name: str) -> None:
    """They are about another model; nor do they decide what the model computes."""
    folder = mini(tmp_path / "m")
    before = content_hash(folder)
    (folder / name).write_text("{}", encoding="utf-8")
    prune_checkpoint(folder, tmp_path / "o", [1])
    assert not (tmp_path / "o" / name).exists()
    assert content_hash(folder) == before


def test_configuration_and_licence_come_along(tmp_path: Path) -> None:
    """Byte for byte, whatever a configuration is called."""
    folder = mini(tmp_path / "m")
    for name in ("merges.txt", "special_tokens_map.json", "LICENSE", "spm.model", "vocab.json"):
        (folder / name).write_bytes(b"{}")
    prune_checkpoint(folder, tmp_path / "o", [1])
    for path in folder.iterdir():
        if path.name not in ("config.json", "model.safetensors", "README.md"):
            assert (tmp_path / "o" / path.name).read_bytes() == path.read_bytes()


def test_the_card_names_the_hub_id(tmp_path: Path) -> None:
    """As the user gave it, through the command, from the local cache."""
    revision = "0" * 40
    base = tmp_path / "cache" / "models--owner--name"
    (base / "refs").mkdir(parents=True)
    (base / "refs" / "main").write_text(revision)
    (base / "snapshots").mkdir()
    mini(base / "snapshots" / revision)
    words = ["prune", "--no-verify", "--model", "owner/name", "--drop", "1", "-o", "o"]
    environment = {**os.environ, "HF_HUB_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}
    subprocess.run([sys.executable, "-m", "topovlm", *words], check=True, cwd=tmp_path, env=environment)
    card = (tmp_path / "o" / "README.md").read_text(encoding="utf-8")
    assert "base_model: owner/name\n" in card
    assert "# owner/name, 3 of 4 decoder layers" in card
    assert revision not in card


def test_names_of_python_files_are_not_carried(tmp_path: Path) -> None:
    """PaddleOCR-VL's published files name code that transformers does not need, and that stays behind."""
    from topovlm.checkpoint.own_code import named_code, without_own_code

    file = tmp_path / "x.json"
    file.write_text('{"a": [{"\\u0061uto_map": {"A": "b.C"}, "size": 3}], "auto_map": {}}', encoding="utf-8")
    assert [path for path, _ in named_code(file)] == ["a[0].auto_map"]
    edit(file, lambda whole: whole.update(without_own_code(whole)))
    assert named_code(file) == []
    file.write_text('{"vocab": {"auto_map": 17}}', encoding="utf-8")
    assert named_code(file) == []
