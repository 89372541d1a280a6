"""A LLaVA folder in the older layout: what its processor counts by stands in config.json alone."""

from __future__ import annotations

from pathlib import Path

from tests.cases.command import reference_copy, topovlm


def test_it_is_pruned(tmp_path: Path) -> None:
    """Patch size and strategy come from config.json: it works, and is verified with pictures."""
    folder = reference_copy(tmp_path / "m")
    (folder / "processor_config.json").unlink()
    done = topovlm("prune", "--model", folder, "--drop", 5, "-o", "slim", cwd=tmp_path)
    assert done.code == 0, done.err
    assert (tmp_path / "slim" / "model.safetensors").is_file()
