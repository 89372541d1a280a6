"""Code that comes with a model is never run, whatever standard input says and whichever file names it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.cases.command import edit, reference_copy, topovlm

_MAPS = {
    "config.json": {"AutoConfig": "evil.Evil", "AutoModelForImageTextToText": "evil.Evil"},
    "processor_config.json": {"AutoProcessor": "evil.Evil"},
    "preprocessor_config.json": {"AutoImageProcessor": "evil.Evil"},
    "tokenizer_config.json": {"AutoTokenizer": ["evil.Evil", "evil.Evil"]},
    "video_preprocessor_config.json": {"AutoVideoProcessor": "evil.Evil"},
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = reference_copy(tmp_path / "m")
    (folder / "evil.py").write_text(
        f"open({str(tmp_path / 'PWNED')!r}, 'w').write('ran')\n", encoding="utf-8"
    )
    return folder


@pytest.mark.parametrize("file", sorted(_MAPS))
def test_code_is_refused_in_every_file(model: Path, tmp_path: Path, file: str) -> None:
    """At the top of each file that transformers looks into: exit 2, file and field in the sentence."""
    path = model / file
    if not path.exists():
        path.write_text("{}", encoding="utf-8")
    edit(path, lambda whole: whole.update(auto_map=_MAPS[file]))
    done = topovlm("plan", "--target", "jetson-orin", "--max-latency", "60%", "--model", model, cwd=tmp_path)
    assert done.refused, done.err
    assert file in done.last
    assert "auto_map" in done.last


@pytest.mark.parametrize(
    "words",
    [
        ("score", "--samples", 8),
        ("prune", "--drop", 5, "-o", "o"),
        ("export", "-o", "x"),
        ("plan", "--target", "jetson-orin", "--max-latency", "60%"),
        ("deploy", "--target", "jetson-orin", "--max-latency", "60%", "-o", "d"),
    ],
    ids=lambda words: words[0],
)
def test_no_command_runs_it(model: Path, tmp_path: Path, words: tuple[Any, ...]) -> None:
    """An image processor of the model's own, nested and flat, with a standard input that agrees to all."""
    for name, key in (("preprocessor_config.json", None), ("processor_config.json", "image_processor")):

        def own(whole: dict[str, Any], key: str | None = key) -> None:
            held = whole if key is None else whole[key]
            held["image_processor_type"] = "EvilImageProcessor"
            held["auto_map"] = {"AutoImageProcessor": "evil.EvilImageProcessor"}

        edit(model / name, own)
    done = topovlm(*words, "--model", model, cwd=tmp_path, stdin=b"y\n" * 99)
    assert done.refused, done.err
    assert not (tmp_path / "PWNED").exists()
