"""Prompts of awkward words: the runtime's ids are those of transformers' own templates and processors."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests import tiny, tiny_families
from topovlm.checkpoint.processors import load_processor, processed, tokenizer_of
from topovlm.errors import VerificationError
from topovlm.exporters.onnx import layouts
from topovlm.exporters.onnx.awkward import WORDS, check_words
from topovlm.families.catalogue import family_of
from topovlm.families.family import Family
from topovlm.runtime import clock
from topovlm.runtime.prompt import Prompter, prompter_of
from topovlm.runtime.runtime_file import DecoderSizes

NAMES = ("qwen2", "llama", "gemma3_text", "llava-clip-llama", "llava_onevision", "qwen2_5_vl", "idefics3")
NAMES += ("internvl", "gemma3", "paligemma", "mistral3", "ovis2")
SIZES = DecoderSizes(layers=2, hidden=64, kv_heads=2, head_dim=16, vocab=10_000)


@dataclass(frozen=True)
class Texts:
    """A model, and its exported folder without graphs: all that prompts are made from."""

    folder: Path
    family: Family
    processor: Any
    prompter: Prompter
    specials: tuple[str, ...]

    def theirs(self, words: str, pictures: list[Image.Image]) -> list[int] | None:
        """As a user of transformers would write it; None where that raises."""
        images = [{"type": "image", "image": picture} for picture in pictures]
        content: Any = [*images, {"type": "text", "text": words}] if self.family.tokens else words
        try:
            if self.family.prompt == "plain":
                text = self.processor.image_token * len(pictures) + words
                found = self.processor(images=pictures or None, text=text, return_tensors="pt")
            else:
                found = self.processor.apply_chat_template(
                    [{"role": "user", "content": content}],
                    add_generation_prompt=True,
                    tokenize=True,
                    return_dict=True,
                    return_tensors="pt",
                )
        except (ValueError, IndexError):
            return None
        ids: list[int] = found["input_ids"][0].tolist()
        return ids


def texts_of(model: Path, out: Path) -> Texts:
    """Everything of an export that is no graph."""
    family = family_of(json.loads((model / "config.json").read_text()))
    processor = load_processor(model)
    graphs = {"embed": "onnx/e.onnx", "decoder": "onnx/d.onnx"}
    if family.tokens is not None:
        graphs["vision"] = "onnx/v.onnx"
    (out / "onnx").mkdir(parents=True)
    for path in graphs.values():
        (out / path).write_bytes(b"\x08\x0a")  # the least that is ONNX: a version
    layouts.write_texts(model, out, graphs=graphs, decoder=SIZES, processor=processor)
    prompter = prompter_of(out)
    every = {str(token) for token in tokenizer_of(processor).all_special_tokens}
    return Texts(model, family, processor, prompter, tuple(sorted(every - set(prompter.marks))))


@pytest.fixture(scope="module", params=NAMES)
def texts(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Texts]:
    """A tiny model of each family."""
    room = tmp_path_factory.mktemp("texts")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layouts, "_tokens_per_image", lambda graph: 16)
        yield texts_of(tiny_families.build(room / "m", request.param, layers=2), room / "x")


def same(texts: Texts, words: str) -> None:
    pictures = [Image.new("RGB", (56, 40), (9, 200, 90))] if texts.family.tokens else []
    if any(mark in words for mark in texts.prompter.marks):
        return
    for shown in [pictures, []] if pictures else [[]]:
        wanted = texts.theirs(words, shown)
        if wanted is not None:
            assert texts.prompter.prepare(shown, words).ids.tolist() == wanted
            assert processed(texts.processor, texts.family, shown, words)["input_ids"][0].tolist() == wanted


def test_the_fixed_list(texts: Texts) -> None:
    """What the export gate asks is what users of transformers are given."""
    for words in WORDS:
        same(texts, words)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_words(texts: Texts, data: st.DataObject) -> None:
    """Any text, with blanks at its ends and special tokens inside."""
    piece = st.text(max_size=12) | st.sampled_from([" ", "\n", "\t", *texts.specials])
    same(texts, "".join(data.draw(st.lists(piece, max_size=6))))


DATED = (
    "{% for m in messages %}<|user|>{{ strftime_now('%d %b %Y %H:%M:%S %f') }}"
    "{% if not date_string is defined %}{% set date_string = strftime_now('%A') %}{% endif %}"
    "{{ date_string }}{% for c in m['content'] %}{% if c['type'] == 'image' %}<image>"
    "{% else %}{{ c['text'] | trim }}{% endif %}{% endfor %}<|end|>{% endfor %}<|assistant|>"
)


@pytest.fixture(scope="module")
def dated(tmp_path_factory: pytest.TempPathFactory) -> Texts:
    """A model whose template writes the time to the microsecond."""
    room = tmp_path_factory.mktemp("dated")
    model = tiny.build(room / "m", layers=2)
    (model / "chat_template.jinja").write_text(DATED)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layouts, "_tokens_per_image", lambda graph: 16)
        return texts_of(model, room / "x")


def test_a_date_is_that_of_the_request(dated: Texts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not that of the export; at one moment, both paths write what transformers writes."""
    import transformers.utils.chat_template_utils as theirs

    evening = datetime(2031, 12, 31, 23, 59, 59, 999_999)
    written = []
    for moment in (evening, evening + timedelta(microseconds=1)):
        frozen = SimpleNamespace(now=lambda moment=moment: moment)
        monkeypatch.setattr(theirs, "datetime", frozen)
        monkeypatch.setattr(clock, "datetime", frozen)
        same(dated, " what? ")
        written.append(dated.prompter.text("what?", []))
    assert "31 Dec 2031 23:59:59" in written[0]
    assert "01 Jan 2032 00:00:00" in written[1]


def test_the_gate_does_not_fail_at_midnight(dated: Texts) -> None:
    """Each rendering has a time of its own; while prompts are compared the clock stands still."""
    live: Any = SimpleNamespace(processor=dated.processor, parts=SimpleNamespace(family=dated.family))
    with clock.standing_clock():
        assert check_words(live, dated.prompter.manifest.folder) > 50
    with pytest.raises(VerificationError, match="in the model's own processor"):
        check_words(live, dated.prompter.manifest.folder)


def test_the_gate_sees_blanks_that_are_lost(dated: Texts, tmp_path: Path) -> None:
    """A runtime whose template does not trim as the model's own does is refused."""
    folder = shutil.copytree(dated.prompter.manifest.folder, tmp_path / "x")
    (folder / "chat_template.jinja").write_text(DATED.replace(" | trim", ""))
    live: Any = SimpleNamespace(processor=dated.processor, parts=SimpleNamespace(family=dated.family))
    with clock.standing_clock(), pytest.raises(VerificationError, match="first that differs"):
        check_words(live, folder)
