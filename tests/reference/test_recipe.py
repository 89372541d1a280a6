"""The training recipe: packing asks what chat asks, growth changes nothing, resumption changes nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from topovlm.reference.architecture import Size, build_tokenizer, save_checkpoint
from topovlm.reference.packing import Layout, Packer
from topovlm.reference.train import Recipe, answer_loss, build_model, grow, train

SIZE = Size(decoder_layers=5, width=32, intermediate=48, heads=2, kv_heads=1, vision_layers=1, vocab=420)
RECIPE = Recipe(
    vision_steps=2,
    shallow_steps=2,
    deep_steps=4,
    shallow_layers=3,
    warmup_steps=2,
    size=SIZE,
    layout=Layout(singles=3, triples=1, length=176),
)


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(SIZE.vocab, seed=1, scenes_per_maker=20)


@pytest.fixture(scope="module", autouse=True)
def _no_compilation():
    torch._dynamo.config.disable = True
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    torch._dynamo.config.disable = False


def _batch(packer: Packer, step: int) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(value) for name, value in vars(packer.batch(step)).items()}


def test_a_packed_question_gets_the_logits_of_the_question_asked_alone(tokenizer, tmp_path):
    """Stock transformers, chat template and processor, sees what training saw, to float error."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    packer = Packer(tokenizer, RECIPE.layout, seed=1)
    model = build_model(RECIPE, tokenizer, 3).eval()
    for parameter in model.parameters():
        parameter.data = parameter.data.half().float()
    save_checkpoint(model, tokenizer, SIZE, tmp_path, {})
    stock = AutoModelForImageTextToText.from_pretrained(tmp_path, dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(tmp_path)
    batch, scenes = _batch(packer, 0), packer.scenes(0)
    caught: dict[str, torch.Tensor] = {}
    handle = model.model.language_model.norm.register_forward_hook(lambda m, i, o: caught.update(hidden=o))
    with torch.no_grad():
        answer_loss(model, batch, RECIPE, set())
    handle.remove()
    packed = torch.nn.functional.linear(caught["hidden"], model.get_output_embeddings().weight).detach()
    wanted = batch["targets"] >= 0
    rows, columns = torch.nonzero(wanted, as_tuple=True)
    checked = 0
    for row, scene in enumerate(scenes):
        for question in scene.questions:
            chat = [{"role": "user", "content": [*({"type": "image"} for _ in scene.frames),
                                                 {"type": "text", "text": question.prompt}]}]  # fmt: skip
            text = processor.apply_chat_template(chat, add_generation_prompt=True)
            inputs = processor(images=list(scene.frames), text=text, return_tensors="pt")
            alone = inputs["input_ids"][0].tolist()
            asked = alone[1 + 36 * len(scene.frames) :]
            tokens = batch["tokens"][row].tolist()
            starts = [i for i in range(len(tokens)) if tokens[i : i + len(asked)] == asked]
            if not starts:
                continue
            position = starts[0] + len(asked) - 1
            index = torch.nonzero((rows == row) & (columns == position))[0, 0]
            with torch.no_grad():
                expected = stock(**inputs).logits[0, -1]
            torch.testing.assert_close(packed[index], expected, atol=2e-4, rtol=2e-3)
            checked += 1
    assert checked >= 8


def test_growth_keeps_the_function(tokenizer):
    """The deep model answers as the shallow one did before it is trained on."""
    packer = Packer(tokenizer, RECIPE.layout, seed=2)
    shallow = build_model(RECIPE, tokenizer, RECIPE.shallow_layers)
    deep = grow(shallow, RECIPE, tokenizer)
    batch = _batch(packer, 0)
    with torch.no_grad():
        before, _ = answer_loss(shallow, batch, RECIPE, set())
        after, _ = answer_loss(deep, batch, RECIPE, set())
        without, _ = answer_loss(deep, batch, RECIPE, {0})
    assert before.item() == pytest.approx(after.item(), abs=1e-5)
    assert without.item() != pytest.approx(after.item(), abs=1e-5)


def test_batches_are_functions_of_seed_and_step(tokenizer):
    """The same step gives the same batch whatever came before; another step another one."""
    first, second = Packer(tokenizer, RECIPE.layout, 3), Packer(tokenizer, RECIPE.layout, 3)
    second.batch(6)
    np.testing.assert_array_equal(first.batch(7).tokens, second.batch(7).tokens)
    np.testing.assert_array_equal(first.batch(7).pixels, second.batch(7).pixels)
    assert (first.batch(8).pixels != first.batch(7).pixels).any()


def test_an_interrupted_training_ends_with_the_same_weights(tmp_path):
    """Stopping after a checkpoint and starting again gives the weights of the uninterrupted run."""
    whole = train(RECIPE, tmp_path / "whole", "cpu", checkpoint_every=3)
    with pytest.raises(_Stop):
        train(replace(RECIPE), tmp_path / "cut", "cpu", checkpoint_every=3, on_step=_stop_at(5))
    resumed = train(RECIPE, tmp_path / "cut", "cpu", checkpoint_every=3)
    for (name, a), b in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


class _Stop(Exception):
    pass


def _stop_at(limit: int):
    def stop(step: int) -> None:
        if step == limit:
            raise _Stop

    return stop
