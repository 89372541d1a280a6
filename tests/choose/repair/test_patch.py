"""The closed form: its algebra against numpy, its targets against transformers, its gate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests import tiny
from topovlm.checkpoint.live import Live, load
from topovlm.choose.judge import Judge
from topovlm.choose.repair.fit import AT_CUTS, EVERYWHERE, Ways, fit_repairs
from topovlm.choose.repair.front import Front, entering
from topovlm.choose.repair.patch import (
    Cut,
    Form,
    Gram,
    find_all,
    find_cuts,
    solver,
    token_weights,
)
from topovlm.choose.repair.strengths import LAMBDAS
from topovlm.choose.rollouts import Rollouts, roll_out
from topovlm.choose.sweep import Entered, Variant, sweep


@pytest.fixture(scope="module")
def live(tiny_siglip_qwen2: Path) -> Live:
    return load(tiny_siglip_qwen2)


def gathered(
    live: Live, rollouts: list[Rollouts], drop: list[int], cut: Cut, visual_weight: float = 0.1
) -> Gram:
    """Of a cut whose layers before it are as they were."""
    front = Front(live, [drop], entering(live, rollouts), visual_weight=visual_weight)
    front.advance(cut.anchor)
    return front.gather(0, cut)


def solve(gram: Gram, weight: torch.Tensor, form: Form, ridge: float) -> torch.Tensor:
    """In the second of two strengths: what the first left in the buffer must not matter."""
    equations = solver(gram, weight, form)
    equations.solve(100 * ridge)
    return equations.solve(ridge)


def test_cuts_are_the_runs_of_dropped_layers() -> None:
    """Left to right; a run from layer 0 has no MLP before it."""
    assert find_cuts([7, 3, 4, 9]) == [Cut(2, 3, 4), Cut(6, 7, 7), Cut(8, 9, 9)]
    assert find_cuts([0, 1, 3]) == [Cut(2, 3, 3)]
    assert find_cuts([]) == []


@pytest.mark.parametrize("ridge", [1e-4, 1e-1, 10.0])
def test_input_form_minimises_its_objective(ridge: float) -> None:
    """Equal to an ordinary least-squares problem with ridge and tokens that stay written as extra rows."""
    rng = np.random.default_rng(3)
    tokens, inner, width = 50, 7, 4
    a, delta = rng.normal(size=(tokens, inner)), rng.normal(size=(tokens, width))
    weight, w = rng.normal(size=(width, inner)), rng.uniform(0, 1, tokens)
    fixed = 100 * rng.normal(size=(2, inner))
    gram_inner = (a * w[:, None]).T @ a
    gram = Gram(*map(torch.tensor, (gram_inner, (a * w[:, None]).T @ delta, fixed)), tokens)
    strength = ridge * np.trace(gram_inner) / inner
    rows = np.vstack([np.sqrt(w)[:, None] * a, np.sqrt(strength) * np.eye(inner), fixed])
    targets = np.vstack([np.sqrt(w)[:, None] * delta, np.zeros((inner + 2, width))])
    expected = weight + np.linalg.lstsq(rows, targets, rcond=None)[0].T
    np.testing.assert_allclose(solve(gram, torch.tensor(weight), "input", ridge), expected, atol=1e-9)


def test_output_form_is_a_map_of_the_output() -> None:
    """W + D = (I + T) W with T the least-squares map from the MLP's output to what is missing."""
    rng = np.random.default_rng(4)
    a, delta, weight = rng.normal(size=(60, 9)), rng.normal(size=(60, 5)), rng.normal(size=(5, 9))
    fixed = rng.normal(size=(3, 9))
    gram = Gram(*map(torch.tensor, (a.T @ a, a.T @ delta, fixed)), 60)
    out = a @ weight.T
    strength = 1e-2 * np.trace(out.T @ out) / 5
    rows = np.vstack([out, np.sqrt(strength) * np.eye(5), fixed @ weight.T])
    solution = np.linalg.lstsq(rows, np.vstack([delta, np.zeros((8, 5))]), rcond=None)[0]
    expected = (np.eye(5) + solution.T) @ weight
    np.testing.assert_allclose(solve(gram, torch.tensor(weight), "output", 1e-2), expected, atol=1e-9)


def test_gains_are_one_number_for_each_of_the_output() -> None:
    """Each the least-squares answer to what is missing of its own number alone."""
    rng = np.random.default_rng(5)
    a, delta, weight = rng.normal(size=(60, 9)), rng.normal(size=(60, 5)), rng.normal(size=(5, 9))
    fixed = rng.normal(size=(3, 9))
    gram = Gram(*map(torch.tensor, (a.T @ a, a.T @ delta, fixed)), 60)
    out, stay = a @ weight.T, fixed @ weight.T
    strength = 1e-2 * np.trace(out.T @ out) / 5
    expected = [
        np.linalg.lstsq(
            np.concatenate([out[:, row], stay[:, row], [np.sqrt(strength)]])[:, None],
            np.concatenate([delta[:, row], np.zeros(4)]),
            rcond=None,
        )[0].item()
        for row in range(5)
    ]
    found = solve(gram, torch.tensor(weight), "gains", 1e-2)
    np.testing.assert_allclose(found, (1 + np.array(expected))[:, None] * weight, atol=1e-9)


def test_a_strong_ridge_and_no_tokens_change_nothing() -> None:
    """The repair fades as lambda grows, and an empty fit is no repair."""
    none, weight = torch.zeros(0, 5).double(), torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    gram = Gram(torch.eye(5).double(), torch.ones(5, 3).double(), none, 5)
    torch.testing.assert_close(solve(gram, weight, "input", 1e12), weight.double(), atol=1e-8, rtol=0)
    empty = Gram(torch.zeros(5, 5).double(), torch.zeros(5, 3).double(), none, 0)
    torch.testing.assert_close(solve(empty, weight, "input", 1e-3), weight.double())
    torch.testing.assert_close(solve(gram, weight, "gains", 1e12), weight.double(), atol=1e-8, rtol=0)
    torch.testing.assert_close(solve(empty, weight, "gains", 1e-3), weight.double())


def test_gram_is_the_sum_over_single_prompts(live: Live) -> None:
    """Batches and padding leave no trace in the sums; targets are the dense stream less the slim one."""
    samples, drop, cut = tiny.samples(5), [2, 3], Cut(1, 2, 3)
    together = gathered(live, list(roll_out(live, samples, max_new_tokens=3, batch_size=5)), drop, cut)
    alone = [
        gathered(live, list(roll_out(live, [sample], max_new_tokens=3)), drop, cut) for sample in samples
    ]
    assert together.tokens == sum(part.tokens for part in alone)
    for name in ("inner", "cross"):
        total = sum(getattr(part, name) for part in alone)
        torch.testing.assert_close(getattr(together, name), total, rtol=1e-3, atol=1e-2)
        assert getattr(together, name).dtype == torch.float64


def test_a_perfect_target_is_reached(live: Live) -> None:
    """If the removed layer's work is linear in the MLP's inner activations, the repair is exact."""
    rollouts = list(roll_out(live, tiny.samples(24), max_new_tokens=3, batch_size=24))
    block = live.blocks[2]
    originals = {name: value.data.clone() for name, value in block.named_parameters()}
    anchor = live.down_projection(1)
    shift = torch.randn(anchor.weight.shape, generator=torch.Generator().manual_seed(1)) * 0.2
    seen: dict[str, torch.Tensor] = {}
    reader = anchor.register_forward_pre_hook(lambda _m, args: seen.update(inner=args[0]))
    writer = block.register_forward_hook(lambda _m, args, _o: args[0] + seen["inner"] @ shift.T)
    try:
        gram = gathered(live, rollouts, [2], Cut(1, 2, 2), visual_weight=1.0)
        fitted = solve(gram, anchor.weight.data, "input", 1e-12).float()
    finally:
        reader.remove()
        writer.remove()
    assert all(torch.equal(value.data, originals[name]) for name, value in block.named_parameters())
    torch.testing.assert_close(fitted, anchor.weight.data + shift, rtol=1e-2, atol=1e-2)


def test_weights_count_text_images_and_outliers() -> None:
    """1 for text, the visual weight for image tokens, 0 for padding; a first BOS and norms over ten medians
    stay as they are."""
    ids = torch.tensor([[9, 4, 4, 7, 9, 0]])
    real = torch.tensor([[True, True, True, True, True, False]])
    stream = torch.ones(1, 6, 3)
    stream[0, 3] = 100
    for before, behind in ((torch.ones(1, 6, 3), stream), (stream, torch.ones(1, 6, 3))):
        weights, fixed = token_weights(
            ids,
            real,
            streams=(before, behind),
            visual=ids == 4,
            bos_token_id=9,
            visual_weight=0.1,
        )
        assert weights.flatten().tolist() == pytest.approx([0, 0.1, 0.1, 0, 1, 0])
        assert fixed.flatten().tolist() == [True, False, False, True, False, False]


def test_tokens_of_massive_activations_stay_as_they_are(live: Live) -> None:
    """A first token that is hundreds of times as large as others is left where it was, while these move."""
    drop = frozenset([2, 3])

    def massive(_module: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> torch.Tensor:
        return torch.cat([1000 * args[0][:, :1], args[0][:, 1:]], dim=1)

    hook = live.down_projection(1).register_forward_pre_hook(massive)
    try:
        fit, tune = answers(live, 24, 2), answers(live, 8, 3)
        repairs = [
            fit_repairs(live, [[2, 3]], fit, tune, stored_dtype=torch.float32, ways=ways)[0]
            for ways in (
                Ways(lambdas=(1e-3,), caution=1.0),
                Ways(lambdas=(1e-3,), caution=1.0, massive_stay=False),
            )
        ]
        streams = [
            sweep(live, tune, [variant], stop=2)[0]
            for variant in (Variant(drop), *(Variant(drop, repair.weights) for repair in repairs))
        ]
    finally:
        hook.remove()
    assert all(repair.cuts[0].error < 0.9 for repair in repairs)
    for cut, repaired, free in zip(*streams, strict=True):
        moved = (cut - repaired).norm(dim=-1) / cut.norm(dim=-1)
        assert moved[:, 0].max() < 0.02
        assert moved[:, 1:].median() > 0.1
        assert ((cut - free).norm(dim=-1) / cut.norm(dim=-1))[:, 0].min() > 0.5


def answers(live: Live, count: int, seed: int) -> list[Entered]:
    return entering(live, roll_out(live, tiny.samples(count, seed=seed), max_new_tokens=3))


def test_repair_lowers_kl_and_leaves_the_model_as_it_was(live: Live) -> None:
    """Two cuts, left to right, on samples that fitted nothing; the loaded model is untouched."""
    before = {name: value.clone() for name, value in live.model.state_dict().items()}
    fit, tune = answers(live, 24, 2), answers(live, 8, 3)
    ways = Ways(lambdas=(1e-2, 1e-1), caution=1.0)
    (repair,) = fit_repairs(live, [[1, 3]], fit, tune, stored_dtype=torch.float16, ways=ways)
    assert [(r.anchor, r.first, r.last) for r in repair.cuts] == [(0, 1, 1), (2, 3, 3)]
    assert set(repair.weights) == {r.anchor for r in repair.cuts if r.kept} == {0, 2}
    assert all(weight.dtype == torch.float16 for weight in repair.weights.values())
    judge = Judge(live, tiny.samples(8, seed=1), max_new_tokens=3)
    cut, repaired = Variant(frozenset([1, 3])), Variant(frozenset([1, 3]), repair.weights)
    assert judge.kls_of([repaired]) < judge.kls_of([cut])
    assert all(torch.equal(value, before[name]) for name, value in live.model.state_dict().items())


def test_the_strength_is_that_of_least_error_on_other_samples(live: Live) -> None:
    """Each strength alone, its error computed here from the streams of stock passes, at a first cut."""
    fit, tune, drop = answers(live, 24, 2), answers(live, 8, 3), frozenset([2, 3])
    errors = {}
    for ridge in LAMBDAS:
        ways = Ways(lambdas=(ridge,), visual_weight=1.0, caution=1.0)
        (one,) = fit_repairs(live, [[2, 3]], fit, tune, stored_dtype=torch.float32, ways=ways)
        weights = one.weights or {1: live.down_projection(1).weight.data}
        wanted, cut, repaired = (
            sweep(live, tune, [variant], stop=4)[0]
            for variant in (Variant(), Variant(drop), Variant(drop, weights))
        )
        left = missing = 0.0
        for batch, *streams in zip(tune, wanted, cut, repaired, strict=True):
            kept = batch.real & (batch.ids != live.tokenizer.bos_token_id)
            aim, plain, better = (stream[kept] for stream in streams)
            left += float((aim - better).square().sum())
            missing += float((aim - plain).square().sum())
        errors[ridge] = left / missing
        assert one.cuts[0].error == pytest.approx(errors[ridge], rel=1e-3)
    least = min(errors, key=errors.__getitem__)
    for caution in (1.0, 10.0):
        ways = Ways(visual_weight=1.0, caution=caution)
        (best,) = fit_repairs(live, [[2, 3]], fit, tune, stored_dtype=torch.float32, ways=ways)
        assert best.cuts[0].ridge == pytest.approx(caution * least)


def test_sets_side_by_side_are_repaired_as_each_alone(live: Live) -> None:
    """Cuts at the same and at other places, of sets of any size, at cuts alone and everywhere."""
    fit, tune, drops = answers(live, 12, 2), answers(live, 4, 3), [[3], [2, 3], [1, 4], [3]]
    for ways in (AT_CUTS, EVERYWHERE):
        together = fit_repairs(live, drops, fit, tune, stored_dtype=torch.float32, ways=ways)
        for drop, found in zip(drops, together, strict=True):
            (alone,) = fit_repairs(live, [drop], fit, tune, stored_dtype=torch.float32, ways=ways)
            assert found.cuts == alone.cuts
            assert found.weights.keys() == alone.weights.keys()
            assert all(torch.equal(weight, alone.weights[layer]) for layer, weight in found.weights.items())


def test_layers_that_run_once_give_the_repair_of_layers_that_run_again(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a repaired layer gives is its own output and what the repair adds, as if it had run with it."""
    fit, tune = answers(live, 12, 2), answers(live, 4, 3)

    def found(passed_bytes: int) -> tuple[dict[int, torch.Tensor], int]:
        runs: list[object] = []
        monkeypatch.setattr("topovlm.choose.repair.front.PASSED_BYTES", passed_bytes)
        handles = [block.register_forward_hook(lambda *_: runs.append(1)) for block in live.blocks]
        try:
            (repair,) = fit_repairs(live, [[1, 4]], fit, tune, stored_dtype=torch.float32, ways=EVERYWHERE)
        finally:
            for handle in handles:
                handle.remove()
        return repair.weights, len(runs)

    (once, few), (again, many) = found(1 << 30), found(0)
    assert len(once) > 2
    assert once.keys() == again.keys()
    for layer, weight in once.items():
        torch.testing.assert_close(weight, again[layer], rtol=1e-3, atol=1e-5)
    assert few < 0.8 * many


def test_a_repair_that_does_not_help_is_left_out(live: Live) -> None:
    """Fitted to targets of noise, no candidate leaves less on other samples, and none is returned."""
    fit, tune = answers(live, 2, 2), answers(live, 6, 1)
    wild = live.blocks[3].register_forward_hook(
        lambda _m, _a, out: out + 50 * torch.randn(out.shape, generator=torch.Generator().manual_seed(2))
    )
    try:
        ways = Ways(lambdas=(1e-4,), caution=1.0)
        (repair,) = fit_repairs(live, [[3]], fit, tune, stored_dtype=torch.float32, ways=ways)
    finally:
        wild.remove()
    assert repair.weights == {}
    assert not repair.cuts[0].kept
    assert repair.cuts[0].error >= 1


def test_layers_behind_a_cut_make_up_for_the_rest() -> None:
    """In their order; none before the first cut, none that goes, and none where nothing goes."""
    assert find_all([2, 4], 7) == [Cut(1, 2, 2), Cut(3, 4, 4), Cut(5, 6, 5), Cut(6, 7, 6)]
    assert find_all([], 7) == []
