"""Judge, calibration and repair of every family, against stock forward passes and pruned checkpoints."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from tests import tiny_families
from topovlm.checkpoint.live import Live, encode, greedy, load
from topovlm.checkpoint.surgery import prune_checkpoint
from topovlm.choose.calibration import collect_states
from topovlm.choose.judge import Judge
from topovlm.choose.repair.fit import Ways, fit_repairs
from topovlm.choose.repair.front import Front, entering
from topovlm.choose.repair.patch import Cut, Equations
from topovlm.choose.rollouts import recorded_blocks, roll_out
from topovlm.choose.sweep import Variant
from topovlm.errors import InputError
from topovlm.families.layers import tied_layers
from topovlm.samples import Sample

TOKENS = 5
DROPS = ([2], [3, 4, 6], [5, 7])
# A norm stands behind the MLP of these: nothing can be folded into its last matrix.
NORMED = {"gemma2", "gemma3_text", "gemma3", "paligemma2", "glm4v"}


@pytest.fixture(scope="module", params=tiny_families.NAMES)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Live]:
    """(name, loaded model); its layers are not changed for good."""
    name: str = request.param
    return name, load(tiny_families.build(tmp_path_factory.mktemp("families") / name, name))


@contextlib.contextmanager
def _without(live: Live, drop: Sequence[int]) -> Iterator[None]:
    """Blocks that give back what they are given; an own way to say so."""
    try:
        for layer in drop:
            live.blocks[layer].forward = lambda hidden, *_args, **_kwargs: hidden
        yield
    finally:
        for layer in drop:
            del live.blocks[layer].forward


def _with_answers(live: Live, samples: Sequence[Sample]) -> list[tuple[dict[str, torch.Tensor], int]]:
    """By sample: inputs of the stock model for the prompt with its greedy answer, and the prompt's length."""
    found = []
    for sample in samples:
        prompt = encode(live, sample)
        answer = torch.tensor(greedy(live, [prompt], TOKENS)[0])
        types = {}
        for name, value in prompt.types.items():
            causal = 1 if name == "token_type_ids" and live.model.config.model_type == "paligemma" else 0
            types[name] = torch.cat([value, torch.full_like(answer, causal)])[None]
        ids = torch.cat([prompt.input_ids, answer])[None]
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), **types, **prompt.extra}
        found.append((inputs, prompt.length))
    return found


@torch.inference_mode()
def _log_probabilities(live: Live, inputs: dict[str, torch.Tensor], start: int) -> torch.Tensor:
    logits: torch.Tensor = live.model(**inputs, use_cache=False).logits
    return logits[0, start - 1 : -1].double().log_softmax(-1)


def _kl(log_p: torch.Tensor, log_q: torch.Tensor) -> float:
    return float((log_p.exp() * (log_p - log_q)).sum(-1).mean())


def _drops(live: Live) -> list[list[int]]:
    tied = tied_layers(live.model.config.to_dict(), live.parts.family)
    return [drop for drop in DROPS if not tied & set(drop)]


def test_kl_is_that_of_stock_passes(family: tuple[str, Live]) -> None:
    """A padded batch, block by block from cached streams, gives each sample's own KL in whole passes."""
    name, live = family
    samples = tiny_families.samples(name)
    judge = Judge(live, samples, max_new_tokens=TOKENS, batch_size=3)
    whole = _with_answers(live, samples)
    dense = [_log_probabilities(live, *one) for one in whole]
    for drop in _drops(live):
        with _without(live, drop):
            slim = [_log_probabilities(live, *one) for one in whole]
        expected = [_kl(log_p, log_q) for log_p, log_q in zip(dense, slim, strict=True)]
        np.testing.assert_allclose(judge.of([drop])[0].kl, expected, rtol=1e-3, atol=1e-5)
        assert min(expected) > 0.005
    alone = Judge(live, samples, max_new_tokens=TOKENS, batch_size=1, cache_bytes=1)
    np.testing.assert_allclose(alone.of([drop])[0].kl, judge.of([drop])[0].kl, rtol=1e-3, atol=1e-5)


def test_kl_is_that_of_the_pruned_checkpoint(family: tuple[str, Live], tmp_path: Path) -> None:
    """Written without the layers and loaded again, the model is as far away as the judge said."""
    name, live = family
    samples = tiny_families.samples(name)
    drop = _drops(live)[1]
    prune_checkpoint(live.folder, tmp_path / "slim", drop)
    slim = load(tmp_path / "slim")
    expected = [
        _kl(_log_probabilities(live, *one), _log_probabilities(slim, *one))
        for one in _with_answers(live, samples)
    ]
    judge = Judge(live, samples, max_new_tokens=TOKENS, batch_size=3)
    np.testing.assert_allclose(judge.of([drop])[0].kl, expected, rtol=1e-3, atol=1e-5)


def test_states_are_the_same_alone_and_in_a_batch(family: tuple[str, Live]) -> None:
    """For every choice of tokens; means over text and picture are of the tokens that the family has there."""
    name, live = family
    samples = tiny_families.samples(name)
    choices = ("last", "text-mean", *(("image-mean",) if live.image_token_id is not None else ()))
    for token in choices:
        together = collect_states(live, samples, token=token, batch_size=3)
        alone = collect_states(live, samples, token=token, batch_size=1)
        np.testing.assert_allclose(together, alone, rtol=1e-3, atol=2e-4)
        for index, sample in enumerate(samples):
            prompt = encode(live, sample)
            part = prompt.input_ids == (-1 if live.image_token_id is None else live.image_token_id)
            last = torch.arange(prompt.length) == prompt.length - 1
            rows = {"last": last, "text-mean": ~part, "image-mean": part}[token].numpy()
            stream = _streams(live, sample)[:, rows].mean(1)
            np.testing.assert_allclose(alone[:, index], stream, rtol=1e-3, atol=2e-4)


@torch.inference_mode()
def _streams(live: Live, sample: Sample) -> np.ndarray:
    """float32 [layers, tokens, width]: what follows each block, from the stock model's inputs to the next."""
    prompt = encode(live, sample)
    inputs: dict[str, Any] = {"input_ids": prompt.input_ids[None], **prompt.extra}
    inputs |= {name: value[None] for name, value in prompt.types.items()}
    seen: list[np.ndarray] = []

    def keep(_module: Any, args: tuple[torch.Tensor, ...], kwargs: dict[str, torch.Tensor]) -> None:
        seen.append((args[0] if args else kwargs["hidden_states"])[0].numpy().copy())

    modules = [*live.blocks, live.norm]
    handles = [module.register_forward_pre_hook(keep, with_kwargs=True) for module in modules]
    live.model(**inputs, use_cache=False)
    for handle in handles:
        handle.remove()
    return np.stack(seen[1:])


def test_what_a_family_adds_between_blocks_is_kept(family: tuple[str, Live]) -> None:
    """DeepStack adds behind the first blocks, at pictures; other families add nothing."""
    name, live = family
    rollouts = next(iter(roll_out(live, tiny_families.samples(name)[:1], max_new_tokens=1)))
    added = recorded_blocks(live, rollouts.batch).added
    assert sorted(added) == ([0, 1] if name.startswith("qwen3_vl") else [])
    for value in added.values():
        pictures = rollouts.batch["input_ids"] == live.image_token_id
        assert value[pictures].abs().mean() > 0.1
        assert (value[~pictures] == 0).all()


def test_repair_folds_where_it_can(family: tuple[str, Live]) -> None:
    """Into down-projections that end their block; behind a norm, or among experts, cuts are left alone."""
    name, live = family
    batches = entering(live, roll_out(live, tiny_families.samples(name), max_new_tokens=TOKENS))
    front, folds = Front(live, [[]], batches), []
    for layer in range(live.layers):
        front.advance(layer)
        folds.append(front.ends_in_its_projection())
    if name == "qwen3_vl_moe":
        assert folds == [layer in (1, 4) for layer in range(live.layers)]
    else:
        assert folds == [name not in NORMED] * live.layers
    judge = Judge(live, tiny_families.samples(name), max_new_tokens=TOKENS)
    drop = [5, 7]
    ways = Ways(lambdas=(1e-2, 1.0), caution=1.0)
    (repair,) = fit_repairs(live, [drop], batches, batches, stored_dtype=torch.float32, ways=ways)
    repaired, cuts = repair.weights, repair.cuts
    for cut in cuts:
        assert (cut.ridge is not None) == folds[cut.anchor]
    assert set(repaired) <= {cut.anchor for cut in cuts if cut.kept}
    if folds[4]:
        assert cuts[0].kept
        (after,) = judge.kls_of([Variant(frozenset(drop), repaired)])
        assert after < judge.kl(drop)


@pytest.fixture(scope="module")
def deepstack(tmp_path_factory: pytest.TempPathFactory) -> Live:
    return load(tiny_families.build(tmp_path_factory.mktemp("deepstack") / "model", "qwen3_vl"))


def test_tied_layers_are_not_judged(deepstack: Live) -> None:
    """DeepStack's layers are refused by name."""
    judge = Judge(deepstack, tiny_families.sample("qwen3_vl", 1), max_new_tokens=2)
    with pytest.raises(InputError, match=r"layer = 1.*tied"):
        judge.kl([1, 4])


def test_repair_behind_deepstack_aims_at_the_stream_with_its_features(deepstack: Live) -> None:
    """If the removed layer's work is linear in the anchor's activations, the repair is exact there too."""
    samples = [*tiny_families.sample("qwen3_vl", 12, 1), *tiny_families.sample("qwen3_vl", 12, 2, images=2)]
    rollouts = list(roll_out(deepstack, samples, max_new_tokens=3, batch_size=len(samples)))
    anchor = deepstack.down_projection(1)
    shift = torch.randn(anchor.weight.shape, generator=torch.Generator().manual_seed(1)) * 0.2
    seen: dict[str, torch.Tensor] = {}
    reader = anchor.register_forward_pre_hook(lambda _m, args: seen.update(inner=args[0]))
    writer = deepstack.blocks[2].register_forward_hook(lambda _m, args, _o: args[0] + seen["inner"] @ shift.T)
    try:
        front = Front(deepstack, [[2]], entering(deepstack, rollouts), visual_weight=1.0)
        front.advance(1)
        gram = front.gather(0, Cut(1, 2, 2))
        fitted = Equations(gram, anchor.weight.data, "input").solve(1e-12).float()
    finally:
        reader.remove()
        writer.remove()
    torch.testing.assert_close(fitted, anchor.weight.data + shift, rtol=1e-2, atol=1e-2)


def test_additions_that_nobody_knows_of_are_refused(deepstack: Live) -> None:
    """A family whose record does not say so must not change the stream between its blocks."""
    family = msgspec.structs.replace(deepstack.parts.family, tied_first="")
    unknown = replace(deepstack, parts=replace(deepstack.parts, family=family))
    with pytest.raises(InputError, match=r"layer = 0.*qwen3_vl model changes the stream"):
        Judge(unknown, tiny_families.sample("qwen3_vl", 1), max_new_tokens=2)


def test_blocks_that_read_each_other_are_refused(tmp_path: Path) -> None:
    """A block that takes something from another one's pass cannot be judged by itself."""
    live = load(tiny_families.build(tmp_path, "llama"))
    plain = live.blocks[6].forward
    kept: list[torch.Tensor] = []
    live.blocks[3].register_forward_hook(lambda _block, _args, output: kept.append(output))

    def reader(hidden: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        output: torch.Tensor = plain(hidden, **kwargs) + kept[-1]
        return output

    live.blocks[6].forward = reader
    with pytest.raises(InputError, match=r"layer = 6.*llama"):
        Judge(live, tiny_families.sample("llama", 2), max_new_tokens=2)
