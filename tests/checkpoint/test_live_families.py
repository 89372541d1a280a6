"""Every family in memory: prompts, batches, answers and bypassed layers are those of stock transformers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests import tiny_families
from topovlm.checkpoint.encoded import Encoded
from topovlm.checkpoint.live import (
    Live,
    answered,
    bypassed,
    collate,
    encode,
    forward_decoder,
    greedy,
    last_stream_and_logits,
    load,
)
from topovlm.checkpoint.loading import quiet_transformers
from topovlm.checkpoint.surgery import prune_checkpoint
from topovlm.checkpoint.verify import relative_difference, verify_checkpoint
from topovlm.errors import InputError, VerificationError
from topovlm.samples import Sample

CLOSE = 2e-5


@pytest.fixture(scope="module", params=tiny_families.NAMES)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Live]:
    """(name, loaded model); its layers are not changed for good."""
    name: str = request.param
    return name, load(tiny_families.build(tmp_path_factory.mktemp("families") / name, name))


def _plain(live: Live, prompt: Encoded) -> dict[str, torch.Tensor]:
    """What a user passes on from the processor, for one prompt."""
    whole = {"input_ids": prompt.input_ids[None], "attention_mask": torch.ones(1, prompt.length).long()}
    return {**whole, **{name: value[None] for name, value in prompt.types.items()}, **prompt.extra}


def test_nothing_is_vacuous(family: tuple[str, Live]) -> None:
    """Every layer, and every picture's pixels, change what comes out; logits spread."""
    name, live = family
    batch = collate(live, [encode(live, sample) for sample in tiny_families.samples(name)[:1]])
    stream, logits = last_stream_and_logits(live, batch)
    assert logits.std() > 1
    for layer in range(live.layers):
        with bypassed(live, [layer]):
            assert relative_difference(last_stream_and_logits(live, batch)[0], stream) > 0.02, layer
    if "pixel_values" in batch:
        batch["pixel_values"] = batch["pixel_values"].flip(-1 if batch["pixel_values"].ndim > 3 else 0)
        assert relative_difference(last_stream_and_logits(live, batch)[0][:, -1], stream[:, -1]) > 0.02


def test_an_encoded_prompt_is_the_processors(family: tuple[str, Live]) -> None:
    """The stock processor's output, passed on by name, gives the same logits: nothing was lost."""
    name, live = family
    for sample in tiny_families.samples(name):
        pictures = [{"type": "image", "image": picture} for picture in sample.load_images()]
        words = [*pictures, {"type": "text", "text": sample.prompt}] if pictures else sample.prompt
        values = live.processor.apply_chat_template(
            [{"role": "user", "content": words}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        )
        values.pop("labels", None)
        with torch.inference_mode():
            theirs = live.model(**values).logits
            ours = live.model(**collate(live, [encode(live, sample)])).logits
        assert torch.equal(ours, theirs)


def test_padding_changes_no_number(family: tuple[str, Live]) -> None:
    """In a right-padded batch the stream after every block is that of each prompt alone."""
    name, live = family
    prompts = [encode(live, sample) for sample in tiny_families.samples(name)]
    prompts[0] = answered(live, prompts[0], [95, 96, 97, 98])  # as judged: with an answer behind it
    assert len({prompt.length for prompt in prompts}) == 3

    def streams(chosen: list[Encoded]) -> list[torch.Tensor]:
        found: list[torch.Tensor] = []
        handles = [
            block.register_forward_hook(
                lambda _block, _args, output: found.append(output[0] if isinstance(output, tuple) else output)
            )
            for block in live.blocks
        ]
        forward_decoder(live, collate(live, chosen))
        for handle in handles:
            handle.remove()
        return found

    together = streams(prompts)
    for row, prompt in enumerate(prompts):
        for whole, alone in zip(together, streams([prompt]), strict=True):
            assert relative_difference(whole[row, : prompt.length], alone[0]) < CLOSE


def test_answers_in_a_batch_are_those_alone(family: tuple[str, Live]) -> None:
    """Left-padded greedy answers equal stock `generate` on each prompt; they end where the model's end."""
    name, live = family
    prompts = [encode(live, sample) for sample in tiny_families.samples(name)]
    together = greedy(live, prompts, 6)
    for prompt, answer in zip(prompts, together, strict=True):
        with torch.inference_mode(), quiet_transformers():
            tokens = live.model.generate(
                **_plain(live, prompt),
                max_new_tokens=6,
                suppress_tokens=list(live.picture_token_ids) or None,
            )
        assert answer == tokens[0, prompt.length :].tolist()
        assert not set(answer[:-1]) & set(live.eos_token_ids)


def test_an_answer_is_what_the_model_takes_for_one(family: tuple[str, Live]) -> None:
    """Logits of prompt and answer in one pass are those of stock generation step by step, from its cache."""
    name, live = family
    prompt = encode(live, tiny_families.samples(name)[1])
    with torch.inference_mode(), quiet_transformers():
        stepwise = live.model.generate(
            **_plain(live, prompt),
            min_new_tokens=20,
            max_new_tokens=20,
            suppress_tokens=list(live.picture_token_ids) or None,
            return_dict_in_generate=True,
            output_logits=True,
        )
        answer = stepwise.sequences[0, prompt.length :].tolist()
        batch = collate(live, [answered(live, prompt, answer), prompt])
        batch.pop("attention_mask")
        whole = live.model(**batch, use_cache=False).logits[0, prompt.length - 1 : -1]
    assert relative_difference(torch.cat(stepwise.logits), whole) < CLOSE


def test_bypassed_layers_keep_the_cache_right(family: tuple[str, Live]) -> None:
    """Without its first layers of either kind, cached generation gives the logits of a whole pass."""
    name, live = family
    prompt = encode(live, tiny_families.samples(name)[0])
    with bypassed(live, [0, 2, 3]), torch.inference_mode(), quiet_transformers():
        stepwise = live.model.generate(
            **_plain(live, prompt),
            min_new_tokens=18,
            max_new_tokens=18,
            suppress_tokens=list(live.picture_token_ids) or None,
            return_dict_in_generate=True,
            output_logits=True,
        )
        answer = stepwise.sequences[0, prompt.length :].tolist()
        whole = live.model(**collate(live, [answered(live, prompt, answer)]), use_cache=False).logits
    assert relative_difference(torch.cat(stepwise.logits), whole[0, prompt.length - 1 : -1]) < CLOSE


def test_logits_are_the_models(family: tuple[str, Live]) -> None:
    """Of the last stream, `logits` makes what the model makes."""
    name, live = family
    batch = collate(live, [encode(live, sample) for sample in tiny_families.samples(name)])
    stream, logits = last_stream_and_logits(live, batch)
    assert relative_difference(live.logits(stream[:, -1:]), logits) < CLOSE


def test_a_pruned_checkpoint_verifies(family: tuple[str, Live], tmp_path: Path) -> None:
    """The built-in questions pass, over 16 cached tokens each; against other layers they do not."""
    _, live = family
    prune_checkpoint(live.folder, tmp_path / "slim", [3, 4, 6])
    report = verify_checkpoint(tmp_path / "slim", dense=live, dropped=[3, 4, 6])
    assert report.generated_tokens == 32
    assert max(report.cache_difference, report.batch_difference, report.dense_difference or 0) < CLOSE
    with pytest.raises(VerificationError, match="not those of the source"):
        verify_checkpoint(tmp_path / "slim", dense=live, dropped=[2, 4, 6])


def test_pictures_that_cannot_be_taken_are_refused(family: tuple[str, Live]) -> None:
    """A picture for a text-only model, or no picture for PaliGemma, is an error of the user's."""
    name, live = family
    picture = tiny_families.sample("qwen2_vl", 1)[0].images
    if name in tiny_families.TEXT_ONLY:
        with pytest.raises(InputError, match="takes no pictures"):
            encode(live, Sample(id="picture", images=picture, prompt="What is it?"))
    elif name.startswith("paligemma"):
        with pytest.raises(InputError, match="processor refuses it"):
            encode(live, Sample(id="words", images=(), prompt="What is it?"))
    else:
        prompts = [encode(live, Sample(id="words", images=(), prompt="What is it?"))]
        prompts.append(encode(live, Sample(id="picture", images=picture, prompt="What is it?")))
        stream, _ = last_stream_and_logits(live, collate(live, prompts))
        alone, _ = last_stream_and_logits(live, collate(live, prompts[:1]))
        assert relative_difference(stream[0, : prompts[0].length], alone[0]) < CLOSE
