"""Whether a model can be asked a set of samples: every one, by its line, few pictures prepared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests import tiny, tiny_families
from topovlm.checkpoint import asking
from topovlm.checkpoint.asking import check_samples
from topovlm.checkpoint.files import read_facts
from topovlm.checkpoint.live import encode, load
from topovlm.checkpoint.processors import load_processor, processed_sample
from topovlm.errors import InputError
from topovlm.families.catalogue import family_of
from topovlm.samples import Sample


def last_changed(samples: list[Sample], **change: Any) -> list[Sample]:
    return [*samples[:-1], replace(samples[-1], source="d.jsonl:9", **change)]


@pytest.mark.parametrize("name", ["gemma3", "ovis2", "qwen2_vl", "internvl", "qwen2"])
def test_marks_and_pictures_are_refused_by_line(name: str, tmp_path: Path) -> None:
    """The template's placeholder, the token of a piece, that of a video; pictures for a model of words."""
    model = tiny_families.build(tmp_path, name, layers=2)
    processor, facts, samples = load_processor(model), read_facts(model), tiny_families.sample(name, 4)
    check_samples(processor, facts, samples, 8)
    if name in tiny_families.TEXT_ONLY:
        with pytest.raises(InputError, match=r"d\.jsonl:9.*takes no pictures"):
            check_samples(processor, facts, last_changed(samples, images=(tiny.picture(0),)), 8)
        return
    piece = processor.tokenizer.convert_ids_to_tokens(facts.image_token_id)
    for mark in {piece, processor.image_token, getattr(processor, "video_token", None) or piece}:
        with pytest.raises(InputError, match=r"d\.jsonl:9: prompt.*contains"):
            check_samples(processor, facts, last_changed(samples, prompt=f"a {mark} b"), 8)


def test_the_context_is_exact_and_counts_the_answer(
    tiny_siglip_qwen2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many tokens as fit are asked, one more is not; scoring and rollouts keep the same rule."""
    processor, facts = load_processor(tiny_siglip_qwen2), read_facts(tiny_siglip_qwen2)
    longest, family = facts.context_tokens, family_of(facts.config)
    assert longest is not None
    prepared: list[Sample] = []

    def watched(*given: Any) -> Any:
        prepared.append(given[2])
        return processed_sample(*given)

    monkeypatch.setattr(asking, "processed_sample", watched)
    samples = tiny.samples(5)
    check_samples(processor, facts, samples, 8)
    assert len(prepared) == 1  # one of each number of pictures
    long = last_changed(samples, prompt="1" * 300)
    tokens = processed_sample(processor, family, long[-1])["input_ids"].shape[-1]
    check_samples(processor, facts, long, longest - tokens)
    with pytest.raises(InputError, match=rf"d\.jsonl:9: prompt.*context of {longest}"):
        check_samples(processor, facts, long, longest - tokens + 1)
    live = load(tiny_siglip_qwen2)
    assert encode(live, long[-1], longest - tokens).length == tokens
    with pytest.raises(InputError, match=r"d\.jsonl:9: prompt.*pass the model's context"):
        encode(live, long[-1], longest - tokens + 1)
