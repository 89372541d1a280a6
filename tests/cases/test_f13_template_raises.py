"""Chat templates that refuse two pictures, or none, or that cannot be read: exit code 2, and why."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from tests.cases.command import reference_copy, topovlm

COUNTED = (
    "{% for m in messages %}<|user|>"
    "{% set c = m['content'] | selectattr('type','equalto','image') | list %}"
    "{% if c | length OPERATOR 1 %}{{ raise_exception('one picture only') }}{% endif %}"
    "{% for p in c %}<image>{% endfor %}"
    "{% for p in m['content'] if p['type']=='text' %}{{ p['text'] }}{% endfor %}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
TEMPLATES = {
    "two pictures": (COUNTED.replace("OPERATOR", ">"), "one picture only"),
    "none": (COUNTED.replace("OPERATOR", "<"), "one picture only"),
    "syntax": ("{% for m in messages %}<|user|>{{ m['content'] ", "end of template"),
}


def model(folder: Path, template: str) -> Path:
    (reference_copy(folder) / "chat_template.jinja").write_text(template)
    return folder


@pytest.mark.parametrize("name", TEMPLATES)
def test_an_export_is_refused_in_the_words_of_the_template(tmp_path: Path, name: str) -> None:
    """Never as an internal error, and nothing is written."""
    template, words = TEMPLATES[name]
    folder = model(tmp_path / "m", template)
    done = topovlm("export", "--model", folder, "-o", tmp_path / "onnx", cwd=tmp_path)
    assert done.refused, (done.code, done.last)
    assert words in done.last
    assert not (tmp_path / "onnx").exists()


def test_two_pictures_are_refused_by_line(tmp_path: Path) -> None:
    """One question of a data set shows two; the template takes one."""
    rows = []
    for number in range(24):
        Image.new("RGB", (32, 32), (number, 0, 90)).save(tmp_path / f"{number}.png")
        shown: object = f"{number}.png" if number != 17 else ["17.png", "16.png"]
        rows.append({"image": shown, "prompt": f"What {number}?", "answer": "red"})
    (tmp_path / "d.jsonl").write_text("\n".join(map(json.dumps, rows)))
    folder = model(tmp_path / "m", TEMPLATES["two pictures"][0])
    done = topovlm("score", "--model", folder, "--data", "d.jsonl", cwd=tmp_path)
    assert done.refused, (done.code, done.last)
    assert "d.jsonl:18" in done.last
    assert "one picture only" in done.last
