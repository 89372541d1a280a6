"""SmolLM2-LVLM: its questions, its training in miniature, and the checkpoint that stock classes load."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks.smol import emoji, flags, tables, words
from benchmarks.smol.asking import BEHIND, TEMPLATE, Speller
from benchmarks.smol.assets import index
from benchmarks.smol.blocks import Decoder, merged
from benchmarks.smol.data import samples, write
from benchmarks.smol.makers import CATEGORIES
from benchmarks.smol.packing import CYCLE, LONG, Packer
from benchmarks.smol.pictures import split_among
from benchmarks.smol.sight import REFERENCE_LAYERS, started
from benchmarks.smol.wordings import asked_as, reworded
from PIL import Image

from topovlm.evaluation.metrics import score_sample
from topovlm.reference import model_dir
from topovlm.reference.scenes import SPLITS, Question
from topovlm.tasks.jsonl import JsonlTask


class Letters:
    """A tokenizer in miniature: a token per character, special tokens apart."""

    def __call__(self, text: str, add_special_tokens: bool = True) -> dict[str, list[int]]:
        marked = text.replace("<|im_start|>", "\x01").replace("<|im_end|>", "\x02")
        return {"input_ids": [min(ord(one), 127) for one in marked.replace(" ", "").replace("\n", "")]}


def test_splits_share_no_object() -> None:
    """No flag, emoji, table or word that is asked about in the test trains or calibrates."""
    for pools in (
        [set(flags.pool(split)) for split in SPLITS],
        [{n for kind in emoji.KINDS for n in emoji.pool(split, kind)} for split in SPLITS],
        [set(words.pool(split)) for split in SPLITS],
        [set(tables.names(split)) for split in SPLITS],
    ):
        assert all(pools)
        assert sum(map(len, pools)) == len(set.union(*pools))
    assert len(set(words.WORDS)) == len(words.WORDS)


def test_every_split_has_emoji_of_every_kind() -> None:
    """A kind is asked about in the test on things that were never seen, and seen in training on others."""
    assert all(emoji.pool(split, kind) for split in SPLITS for kind in emoji.KINDS)


def test_objects_are_divided_by_what_they_are() -> None:
    """The order in which objects are listed decides nothing."""
    names = [f"object {n}" for n in range(40)]
    for split in SPLITS:
        there = {names[i] for i in split_among(names, split)}
        assert there == {names[::-1][i] for i in split_among(names[::-1], split)}


def test_samples_are_the_same_each_time() -> None:
    """A longer list starts with the shorter one, pictures to the pixel."""
    first, longer = samples("test", 30), samples("test", 45)
    for one, other in zip(first, longer, strict=False):
        assert (one.id, one.prompt, one.answer) == (other.id, other.prompt, other.answer)
        assert all(
            np.array_equal(np.asarray(a), np.asarray(b))
            for a, b in zip(one.images, other.images, strict=True)
        )


def test_every_answer_is_right_by_its_own_metric() -> None:
    """The stated answer scores 1, and the same answer does not serve a whole family."""
    made = samples("test", 8 * len(CATEGORIES))
    assert all(score_sample(sample, sample.answer or "").score == 1 for sample in made)
    for category in CATEGORIES:
        counts = Counter(sample.answer for sample in made if sample.category == category)
        assert counts.most_common(1)[0][1] <= 6, category


def test_flags_are_asked_about_as_they_look() -> None:
    """Colours by place, read off four flags by eye."""
    codes = {code: number for number, code in enumerate(index()["flags"])}
    for code, place, colour in (
        ("it", "left", "green"),
        ("it", "right", "red"),
        ("de", "bottom", "yellow"),
        ("ua", "top", "blue"),
        ("jp", "center", "red"),
        ("jp", "top left", "white"),
    ):
        assert dict(flags.facts(codes[code]).placed)[place] == colour
    assert flags.facts(codes["it"]).stripes == "vertical"
    assert flags.facts(codes["de"]).stripes == "horizontal"


def test_the_written_file_is_taken_as_questions(tmp_path: Path) -> None:
    """`topovlm deploy --data` reads what `data` writes: every picture there, every metric known."""
    read = JsonlTask(write(tmp_path, "calibration", 2 * len(CATEGORIES))).questions
    assert [len(sample.images) for sample in read if sample.category == "order"] == [3, 3]
    assert {sample.category for sample in read} == set(CATEGORIES)
    held = [json.loads(line) for line in (tmp_path / "calibration.jsonl").read_text().splitlines()]
    assert [sample.prompt for sample in read] == [row["prompt"] for row in held]


def test_a_question_in_other_words_keeps_its_subject() -> None:
    """Groups of a question are found again in each of its wordings."""
    rng = np.random.default_rng(0)
    asked = {reworded("What is the value of the red bar?", rng) for _ in range(40)}
    assert len(asked) == 3
    assert all("the red bar" in question for question in asked)


def test_lettered_options_become_words_to_choose_from() -> None:
    """The right option stays the right one, and all four are named."""
    lettered = Question(
        "colour", "What colour is the star? A. red B. dark blue C. green D. pink", "B", "letter"
    )
    for seed in range(8):
        asked = asked_as(lettered, np.random.default_rng(seed))
        assert (asked.answer, asked.metric, asked.chance) == ("dark blue", "exact", 0.25)
        assert "red, dark blue, green or pink" in asked.prompt
        assert "A." not in asked.prompt


def test_batches_hold_questions_with_their_answers() -> None:
    """What is to be predicted is what stands one place further on; the same step makes the same batch."""
    speller = Speller(Letters())
    packer = Packer(speller, 0)
    step = CYCLE.index(LONG)
    batch, again = packer.batch(step, 0), packer.batch(step, 0)
    assert np.array_equal(batch.pixels, again.pixels)
    assert np.array_equal(batch.tokens, again.tokens)
    assert not np.array_equal(batch.tokens, packer.batch(step, 1).tokens)
    rows, places = np.nonzero(batch.targets >= 0)
    assert np.array_equal(batch.targets[rows, places], batch.tokens[rows, places + 1])
    assert batch.pixels.shape[1:] == (96, 96, 3)


@pytest.fixture(scope="module")
def tiny() -> Any:
    """A Llama decoder with random weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=8,
        vocab_size=160,
        rope_theta=10_000.0,
        tie_word_embeddings=True,
    )
    made: Any = LlamaForCausalLM(config)
    return made.eval()


def _changed(tiny: Any) -> tuple[Decoder, dict[str, torch.Tensor]]:
    torch.manual_seed(1)
    decoder = Decoder(tiny)
    for name, value in decoder.named_parameters():
        if name.endswith(".b"):
            torch.nn.init.normal_(value, std=0.05)
    return decoder, {name: value.detach() for name, value in decoder.named_parameters()}


def test_questions_in_a_row_do_not_see_each_other(tiny: Any) -> None:
    """Each of two questions in one row gets what stock transformers gives it alone, change merged in."""
    decoder, weights = _changed(tiny)
    with torch.no_grad():
        for name, change in merged(weights, 2).items():
            tiny.model.get_parameter(name).add_(change)
        picture, one, other = (torch.randint(160, (3, size)) for size in (7, 5, 5))
        row = torch.cat((picture, one, other), 1)
        positions = torch.cat((torch.arange(12), torch.arange(7, 12)))
        found = decoder(decoder.table[row], positions, 7, 2).float()
        for place, question in ((7, one), (12, other)):
            alone = tiny.model(torch.cat((picture, question), 1)).last_hidden_state[:, 7:]
            assert torch.allclose(found[:, place : place + 5], alone, atol=0.1, rtol=0.05)  # bfloat16
        # The order of the questions and what they are matters: the comparison would see a mix-up.
        assert not torch.allclose(found[:, 7:12], found[:, 12:], atol=0.1, rtol=0.05)
        for name, change in merged(weights, 2).items():
            tiny.model.get_parameter(name).sub_(change)


def test_without_its_change_the_decoder_is_the_published_one(tiny: Any) -> None:
    """What text is compared with in training is the model as published."""
    decoder, _ = _changed(tiny)
    tokens = torch.randint(160, (2, 9))
    with torch.no_grad():
        found = decoder(decoder.table[tokens], torch.arange(9), 9, 0, changed=False).float()
        assert torch.allclose(found, tiny.model(tokens).last_hidden_state, atol=0.1, rtol=0.05)
        changed = decoder(decoder.table[tokens], torch.arange(9), 9, 0).float()
        assert not torch.allclose(found, changed, atol=0.1, rtol=0.05)


def test_the_tower_starts_as_the_reference_models() -> None:
    """A picture enlarged twice gives the features that the reference model's tower gives of the small one."""
    from transformers import AutoModelForImageTextToText

    loader: Any = AutoModelForImageTextToText
    reference = loader.from_pretrained(model_dir(), dtype=torch.float32, trust_remote_code=False)
    small = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 48, 48, 3)).astype(np.uint8))
    large = small.repeat_interleave(2, 1).repeat_interleave(2, 2)
    sight = started(576, 0.1, 0)
    with torch.no_grad():
        scaled = [part.permute(0, 3, 1, 2).float() / 127.5 - 1 for part in (small, large)]
        known = reference.model.vision_tower(scaled[0], output_hidden_states=True).hidden_states[-1]
        found = sight.tower(scaled[1], output_hidden_states=True).hidden_states
        assert torch.allclose(found[REFERENCE_LAYERS], known, atol=1e-3)
        assert torch.allclose(found[-1], known, atol=1e-3)  # further layers write nothing yet


def test_plain_text_is_asked_as_the_decoder_was_taught() -> None:
    """Without a picture the template is the published one, system sentence included; with one it is short."""
    from jinja2 import Environment

    template = Environment().from_string(TEMPLATE)
    plain = template.render(messages=[{"role": "user", "content": "Hi"}], add_generation_prompt=True)
    assert plain == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )
    parts = [{"type": "image"}, {"type": "text", "text": "What is it?"}]
    seen = template.render(messages=[{"role": "user", "content": parts}], add_generation_prompt=True)
    assert seen == f"<|im_start|>user\n<image>What is it?{BEHIND}"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint, where the package that ships the decoder can be had."""
    from benchmarks.smol.checkpoint import build
    from benchmarks.smollm2 import NotAvailableError

    try:
        return build(tmp_path_factory.mktemp("smol") / "model")
    except NotAvailableError as error:
        pytest.skip(str(error))


def test_the_rebuilt_checkpoint_answers_in_stock_transformers(built: Path) -> None:
    """It reads charts of values and colours of flags that it never saw, far above chance."""
    from benchmarks.smol.evaluate import answers, table

    asked = samples("test", 60, categories=("bar_chart", "colour", "flag_colour"))
    figures = table(asked, answers(built, asked, "bfloat16"))
    assert figures["overall"]["accuracy"] > 2 * figures["overall"]["chance"]


def test_the_rebuilt_checkpoint_is_planned(built: Path) -> None:
    """`topovlm plan` reads it as a LLaVA of thirty layers with 36 tokens a picture."""
    import topovlm

    plan = topovlm.plan(model=built, target="jetson-orin", sparsity="20%")
    assert (plan.verdict, plan.keep_layers) == ("prune", 24)


def test_pictures_of_the_questions_are_opened_as_they_were_drawn() -> None:
    """Samples carry pictures of the side that their maker draws: 48 of the reference's, 96 of the others."""
    sides = {sample.category: sample.images[0].size for sample in samples("test", len(CATEGORIES))
             if isinstance(sample.images[0], Image.Image)}  # fmt: skip
    assert sides["colour"] == (48, 48)
    assert sides["flag_colour"] == sides["word_read"] == (96, 96)
