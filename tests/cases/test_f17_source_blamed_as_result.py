"""What the source lacks is said of the source, before its weights are copied."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cases.command import edit, reference_copy, topovlm


@pytest.mark.parametrize("missing", ["chat_template.jinja", "tokenizer.json", "the template's own file"])
def test_the_source_is_named(tmp_path: Path, missing: str) -> None:
    """No template, no fast tokenizer, a template that the processor does not read."""
    folder = reference_copy(tmp_path / "m")
    template = folder / "chat_template.jinja"
    if missing == "the template's own file":
        held = template.read_text(encoding="utf-8")
        edit(folder / "tokenizer_config.json", lambda whole: whole.update(chat_template=held))
        template.unlink()
    else:
        (folder / missing).unlink()
    done = topovlm("prune", "--model", folder, "--drop", 5, "-o", "slim", cwd=tmp_path)
    assert done.refused, done.err
    assert str(folder) in done.last
    assert ".tmp" not in done.err
    assert "written checkpoint" not in done.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m"]
