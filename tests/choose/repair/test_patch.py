"""The closed form: its algebra against numpy, its targets against transformers, its gate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests import tiny
from topovlm.checkpoint.live import Live, load
from topovlm.choose.judge import Judge
from topovlm.choose.repair.fit import fit_repair
from topovlm.choose.repair.front import Front
from topovlm.choose.repair.patch import Cut, Equations, Form, Gram, find_all, find_cuts, token_weights
from topovlm.choose.rollouts import Rollouts, roll_out
from topovlm.choose.sweep import Variant


@pytest.fixture(scope="module")
def live(tiny_siglip_qwen2: Path) -> Live:
    return load(tiny_siglip_qwen2)


def gathered(
    live: Live, rollouts: list[Rollouts], drop: list[int], cut: Cut, visual_weight: float = 0.1
) -> Gram:
    """Of a cut whose layers before it are as they were."""
    front = Front(live, rollouts, drop)
    front.advance(cut.anchor)
    return front.gather(cut, visual_weight)


def solve(gram: Gram, weight: torch.Tensor, form: Form, ridge: float) -> torch.Tensor:
    """In the second of two strengths: what the first left in the buffer must not matter."""
    equations = Equations(gram, weight, form)
    equations.solve(100 * ridge)
    return equations.solve(ridge)


def test_cuts_are_the_runs_of_dropped_layers() -> None:
    """Left to right; a run from layer 0 has no MLP before it."""
    assert find_cuts([7, 3, 4, 9]) == [Cut(2, 3, 4), Cut(6, 7, 7), Cut(8, 9, 9)]
    assert find_cuts([0, 1, 3]) == [Cut(2, 3, 3)]
    assert find_cuts([]) == []


@pytest.mark.parametrize("ridge", [1e-4, 1e-1, 10.0])
def test_input_form_minimises_its_objective(ridge: float) -> None:
    """Equal to an ordinary least-squares problem with the ridge written as extra rows."""
    rng = np.random.default_rng(3)
    tokens, inner, width = 50, 7, 4
    a, delta = rng.normal(size=(tokens, inner)), rng.normal(size=(tokens, width))
    weight, w = rng.normal(size=(width, inner)), rng.uniform(0, 1, tokens)
    gram_inner = (a * w[:, None]).T @ a
    gram = Gram(torch.tensor(gram_inner), torch.tensor((a * w[:, None]).T @ delta), tokens)
    strength = ridge * np.trace(gram_inner) / inner
    rows = np.vstack([np.sqrt(w)[:, None] * a, np.sqrt(strength) * np.eye(inner)])
    targets = np.vstack([np.sqrt(w)[:, None] * delta, np.zeros((inner, width))])
    expected = weight + np.linalg.lstsq(rows, targets, rcond=None)[0].T
    np.testing.assert_allclose(solve(gram, torch.tensor(weight), "input", ridge), expected, atol=1e-9)


def test_output_form_is_a_map_of_the_output() -> None:
    """W + D = (I + T) W with T the least-squares map from the MLP's output to what is missing."""
    rng = np.random.default_rng(4)
    a, delta, weight = rng.normal(size=(60, 9)), rng.normal(size=(60, 5)), rng.normal(size=(5, 9))
    gram = Gram(torch.tensor(a.T @ a), torch.tensor(a.T @ delta), 60)
    out = a @ weight.T
    strength = 1e-2 * np.trace(out.T @ out) / 5
    rows = np.vstack([out, np.sqrt(strength) * np.eye(5)])
    solution = np.linalg.lstsq(rows, np.vstack([delta, np.zeros((5, 5))]), rcond=None)[0]
    expected = (np.eye(5) + solution.T) @ weight
    np.testing.assert_allclose(solve(gram, torch.tensor(weight), "output", 1e-2), expected, atol=1e-9)


def test_a_strong_ridge_and_no_tokens_change_nothing() -> None:
    """The repair fades as lambda grows, and an empty fit is no repair."""
    weight = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    gram = Gram(torch.eye(5).double(), torch.ones(5, 3).double(), 5)
    torch.testing.assert_close(solve(gram, weight, "input", 1e12), weight.double(), atol=1e-8, rtol=0)
    empty = Gram(torch.zeros(5, 5).double(), torch.zeros(5, 3).double(), 0)
    torch.testing.assert_close(solve(empty, weight, "input", 1e-3), weight.double())


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
    """1 for text, the visual weight for image tokens, 0 for padding, BOS and norms over ten medians."""
    ids = torch.tensor([[9, 4, 4, 7, 8, 0]])
    real = torch.tensor([[True, True, True, True, True, False]])
    stream = torch.ones(1, 6, 3)
    stream[0, 3] = 100
    weights = token_weights(
        ids,
        real,
        entering=torch.ones(1, 6, 3),
        leaving=stream,
        image_token_id=4,
        bos_token_id=9,
        visual_weight=0.1,
    )
    assert weights.flatten().tolist() == pytest.approx([0, 0.1, 0.1, 0, 1, 0])


def test_repair_lowers_kl_and_leaves_the_model_as_it_was(live: Live) -> None:
    """Two cuts, left to right: each kept step lowers the tuning KL; the loaded model is untouched."""
    before = {name: value.clone() for name, value in live.model.state_dict().items()}
    judge = Judge(live, tiny.samples(8, seed=1), max_new_tokens=3)
    rollouts = list(roll_out(live, tiny.samples(24, seed=2), max_new_tokens=3))
    repaired, reports = fit_repair(live, [1, 3], rollouts, judge, torch.float16, lambdas=(1e-2, 1e-1))
    assert [(r.anchor, r.first, r.last) for r in reports] == [(0, 1, 1), (2, 3, 3)]
    assert set(repaired) == {r.anchor for r in reports if r.kept} == {0, 2}
    assert all(weight.dtype == torch.float16 for weight in repaired.values())
    assert reports[0].kl_after < reports[0].kl_before == judge.kl([1, 3])
    assert reports[1].kl_after < reports[1].kl_before == reports[0].kl_after
    assert judge.kls_of([Variant(frozenset([1, 3]), repaired)]) == [reports[1].kl_after]
    assert all(torch.equal(value, before[name]) for name, value in live.model.state_dict().items())


def test_a_repair_that_does_not_help_is_left_out(live: Live) -> None:
    """Fitted to targets of noise, no candidate beats the plain cut, and none is returned."""
    judge = Judge(live, tiny.samples(6, seed=1), max_new_tokens=3)
    rollouts = list(roll_out(live, tiny.samples(2, seed=2), max_new_tokens=3))
    wild = live.blocks[3].register_forward_hook(
        lambda _m, _a, out: out + 50 * torch.randn(out.shape, generator=torch.Generator().manual_seed(2))
    )
    try:
        repaired, reports = fit_repair(
            live, [3], rollouts, judge, torch.float32, lambdas=(1e-4,), forms=("input",)
        )
    finally:
        wild.remove()
    assert repaired == {}
    assert not reports[0].kept
    assert reports[0].kl_after == reports[0].kl_before


def test_layers_behind_a_cut_make_up_for_the_rest() -> None:
    """In their order; none before the first cut, none that goes, and none where nothing goes."""
    assert find_all([2, 4], 7) == [Cut(1, 2, 2), Cut(3, 4, 4), Cut(5, 6, 5), Cut(6, 7, 6)]
    assert find_all([], 7) == []
