"""Patches: one for every cut, the same as a repair of that cut alone, and put together for any set."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest
import torch

from tests import tiny
from topovlm.checkpoint.files import open_checkpoint
from topovlm.checkpoint.live import Live, load
from topovlm.choose.judge import Judge
from topovlm.choose.judge_shards import ShardedJudge, patches_in_shards
from topovlm.choose.repair.fit import Ways, fit_repairs
from topovlm.choose.repair.front import Front, entering
from topovlm.choose.repair.patch import Cut
from topovlm.choose.repair.patches import Patches, cuts_of, cuts_up_to, fit_patches
from topovlm.choose.rollouts import roll_out
from topovlm.choose.shards import prompt_lengths, torch_model
from topovlm.workers.pool import HERE

SAMPLES = tiny.samples(24, seed=2)
CUTS = [Cut(1, 2, 2), Cut(1, 2, 3), Cut(3, 4, 4)]


@pytest.fixture(scope="module")
def live(tiny_siglip_qwen2: Path) -> Live:
    return load(tiny_siglip_qwen2)


@pytest.fixture(scope="module")
def patches(live: Live) -> Patches:
    return fit_patches(live, CUTS, SAMPLES, torch.float32, max_new_tokens=3)


def test_a_patch_is_the_repair_of_a_model_with_that_cut_alone(live: Live, patches: Patches) -> None:
    """Of the same strength on the same samples."""
    rolled = entering(live, roll_out(live, SAMPLES, max_new_tokens=3))
    ways = Ways(lambdas=(0.3,), caution=1.0, visual_weight=0.0)
    for cut in CUTS:
        drop = list(range(cut.first, cut.last + 1))
        (alone,) = fit_repairs(live, [drop], rolled, rolled, stored_dtype=torch.float32, ways=ways)
        torch.testing.assert_close(patches.weights[cut], alone.weights[cut.anchor], rtol=1e-4, atol=1e-6)
        assert not torch.equal(patches.weights[cut], live.down_projection(cut.anchor).weight)


def test_sums_of_cuts_side_by_side_are_those_of_each(live: Live) -> None:
    """Where no token has to stay for one of them alone."""
    front = Front(live, [()], entering(live, roll_out(live, SAMPLES, max_new_tokens=3)))
    front.advance(1)
    together, parts = front.gather(0, *CUTS[:2]), [front.gather(0, cut) for cut in CUTS[:2]]
    assert torch.equal(together.inner, parts[0].inner)
    torch.testing.assert_close(together.cross, torch.cat([part.cross for part in parts], 1))


def test_a_set_is_put_together_of_its_cuts(live: Live, patches: Patches) -> None:
    """A cut without a patch is left as it is."""
    both, longer = patches.variant([2, 4]), patches.variant([2, 3, 4])
    assert {anchor: id(weight) for anchor, weight in both.weights.items()} == {
        1: id(patches.weights[CUTS[0]]),
        3: id(patches.weights[CUTS[2]]),
    }
    assert longer.drop == {2, 3, 4}
    assert longer.weights == {}
    more = patches.and_these(Patches({Cut(1, 2, 4): both.weights[1]}, frozenset([Cut(1, 2, 4)])))
    assert more.variant([2, 3, 4]).weights == {1: both.weights[1]}
    assert more.tried == {*CUTS, Cut(1, 2, 4)}


def test_a_judge_repairs_what_it_judges(live: Live, patches: Patches) -> None:
    """On samples that fitted nothing, patched sets are nearer to the dense model."""
    others = tiny.samples(8, seed=7)
    plain, patched = Judge(live, others), Judge(live, others, patches=patches)
    drops = [[2], [2, 3], [4], [2, 4]]
    assert patched.kls(drops) == plain.kls_of([patches.variant(drop) for drop in drops])
    assert sum(patched.kls(drops)) < 0.9 * sum(plain.kls(drops))


def test_all_cuts_of_all_sets_are_there() -> None:
    """Of layers that may go; one from layer 0 has nothing before it."""
    found = cuts_up_to(3, 9, protected=[0, 4, 8])
    free = [layer for layer in range(9) if layer not in (0, 4, 8)]
    assert found == cuts_of(drop for size in (1, 2, 3) for drop in combinations(free, size))
    assert cuts_up_to(2, 4, ()) == [Cut(0, 1, 1), Cut(0, 1, 2), Cut(1, 2, 2), Cut(1, 2, 3), Cut(2, 3, 3)]
    assert max(cut.last - cut.first for cut in cuts_up_to(9, 20, ())) == 5


@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16])
def test_shards_give_the_same_bits(live: Live, stored: torch.dtype) -> None:
    """Patches, and what is judged with them; a cut that cannot be repaired has none on either side."""
    samples, checkpoint = SAMPLES[:9], open_checkpoint(live.folder)
    model = torch_model(checkpoint, "its digest", "float32")
    here = fit_patches(live, CUTS, samples, stored)
    there = patches_in_shards(HERE, model, samples, CUTS, stored)
    assert there.digest == here.digest
    assert there.tried == here.tried
    assert all(torch.equal(there.weights[cut], here.weights[cut]) for cut in CUTS)
    lengths = prompt_lengths(live.processor, checkpoint, samples)
    sharded = ShardedJudge(HERE, model, checkpoint, samples, lengths, patches=there)
    drops = [(2,), (2, 4)]
    assert sharded.kls(drops) == Judge(live, samples, patches=here).kls(drops)
