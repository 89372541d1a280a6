"""What a link in a model's folder points at elsewhere is never published with the next model."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cases.command import Done, mini, topovlm


def _prune(folder: Path) -> Done:
    return topovlm(
        "prune", "--no-verify", "--drop", 1, "-o", "o", "--model", folder, cwd=folder.parent, limit_s=30
    )


@pytest.mark.parametrize(
    "name", ["notes.txt", "LICENSE", "extra.json", "generation_config.json", "config.json"]
)
def test_a_link_out_of_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    """By name, and nothing is written."""
    folder = mini(tmp_path / "m")
    (tmp_path / "secret").write_text("{}", encoding="utf-8")
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(tmp_path / "secret")
    done = _prune(folder)
    assert done.refused, done.err
    assert name in done.last
    assert not (tmp_path / "o").exists()


def test_weights_too(tmp_path: Path) -> None:
    """And a link that leads nowhere, or in a circle."""
    folder = mini(tmp_path / "m")
    (folder / "model.safetensors").rename(tmp_path / "w.safetensors")
    (folder / "model.safetensors").symlink_to(tmp_path / "w.safetensors")
    assert "model.safetensors" in _prune(folder).last
    (folder / "model.safetensors").unlink()
    (tmp_path / "w.safetensors").rename(folder / "model.safetensors")
    (folder / "a.txt").symlink_to("b.txt")
    (folder / "b.txt").symlink_to("a.txt")
    done = _prune(folder)
    assert done.refused, done.err
    assert "a.txt" in done.last


def test_links_that_stay_inside_go_on(tmp_path: Path) -> None:
    """Within the folder, and a folder that is a link itself."""
    folder = mini(tmp_path / "m")
    (folder / "words.txt").write_text("x", encoding="utf-8")
    (folder / "LICENSE").symlink_to("words.txt")
    (tmp_path / "link").symlink_to(folder)
    assert _prune(tmp_path / "link").code == 0
    assert (tmp_path / "o" / "LICENSE").read_text(encoding="utf-8") == "x"
    assert not (tmp_path / "o" / "LICENSE").is_symlink()


def test_the_hubs_cache_goes_on(tmp_path: Path) -> None:
    """A snapshot is links into the blobs of its repository; a blob that leads on to a secret is none."""
    repository = tmp_path / "models--owner--name"
    snapshot, blobs = repository / "snapshots" / ("0" * 40), repository / "blobs"
    blobs.mkdir(parents=True)
    snapshot.parent.mkdir()
    mini(snapshot)
    for number, path in enumerate(sorted(snapshot.iterdir())):
        path.rename(blobs / str(number))
        path.symlink_to(os.path.relpath(blobs / str(number), snapshot))
    assert (
        topovlm("prune", "--no-verify", "--drop", 1, "-o", "o", "--model", snapshot, cwd=tmp_path).code == 0
    )
    assert not any(path.is_symlink() for path in (tmp_path / "o").iterdir())
    (tmp_path / "secret").write_text("{}", encoding="utf-8")
    (blobs / "evil").symlink_to(tmp_path / "secret")
    (snapshot / "extra.json").symlink_to("../../blobs/evil")
    done = topovlm("prune", "--no-verify", "--drop", 1, "-o", "p", "--model", snapshot, cwd=tmp_path)
    assert done.refused, done.err
    assert "extra.json" in done.last


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer_config.json", "notes.txt"])
def test_a_pipe_is_no_file(tmp_path: Path, name: str) -> None:
    """Nobody waits for its other end."""
    folder = mini(tmp_path / "m")
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    done = _prune(folder)
    assert done.refused, done.err
    assert name in done.last
