"""Weights that stay in their files: the same numbers as from memory, and nothing of them left behind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests import tiny, tiny_families
from topovlm.checkpoint.files import open_checkpoint
from topovlm.checkpoint.live import Live, encode, greedy, load
from topovlm.checkpoint.loading import fits, load_model
from topovlm.choose.calibration import collect_states
from topovlm.choose.judge import Judge
from topovlm.choose.repair.fit import AT_CUTS, fit_repairs
from topovlm.choose.repair.front import entering
from topovlm.choose.repair.patch import Cut
from topovlm.choose.repair.patches import fit_patches
from topovlm.choose.rollouts import roll_out
from topovlm.families.mapped import Mapped
from topovlm.families.torch_parts import parts_of
from topovlm.machine.host import memory_bound
from topovlm.samples import Sample

FAMILIES = ("gemma3", "qwen3_vl", "qwen3_vl_moe", "llava_next", "smollm3")
Pair = tuple[Live, Live, list[Sample]]


@pytest.fixture(scope="module", params=FAMILIES)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """A checkpoint in half precision: from memory as float32, and mapped, computing in float32."""
    room = tmp_path_factory.mktemp("half")
    folder = tiny_families.build(room / "model", request.param, dtype="bfloat16")
    return load(folder), load(folder, mapped=True), list(tiny_families.samples(request.param))


def test_half_precision_in_the_files_is_float32_in_use(pair: Pair) -> None:
    """Outside of its use every weight is as it is stored, and lies in the file."""
    _, mapped, samples = pair
    assert isinstance(mapped.weights, Mapped)
    assert mapped.dtype == torch.float32
    before = [(parameter.dtype, parameter.data_ptr()) for parameter in mapped.model.parameters()]
    assert {dtype for dtype, _ in before} == {torch.bfloat16}
    greedy(mapped, [encode(mapped, samples[0])], 3)
    assert [(parameter.dtype, parameter.data_ptr()) for parameter in mapped.model.parameters()] == before


def test_answers_and_states_are_bit_equal(pair: Pair) -> None:
    """Greedy tokens, and the residual stream behind every layer."""
    memory, mapped, samples = pair
    for sample in samples[:2]:
        assert greedy(memory, [encode(memory, sample)], 4) == greedy(mapped, [encode(mapped, sample)], 4)
    assert np.array_equal(collect_states(memory, samples), collect_states(mapped, samples))
    few = collect_states(mapped, samples, batch_size=1, stream_bytes=1)
    assert np.array_equal(few, collect_states(memory, samples, batch_size=1))


def test_judgements_and_repairs_are_bit_equal(pair: Pair) -> None:
    """Many sets at once from the files, one by one from memory."""
    memory, mapped, samples = pair
    drops = [[5], [4, 5], [5, 7], [4, 7], [4, 5, 7]]
    judges = [Judge(live, samples, max_new_tokens=3) for live in (memory, mapped)]
    assert [judges[0].kl(drop) for drop in drops] == judges[1].kls(drops)
    cuts = [Cut(4, 5, 5), Cut(6, 7, 7)]
    patches = [fit_patches(live, cuts, samples, torch.bfloat16) for live in (memory, mapped)]
    assert patches[0].digest == patches[1].digest
    fits = []
    for live in (memory, mapped):
        fit = entering(live, roll_out(live, samples, max_new_tokens=3))
        (repair,) = fit_repairs(live, [[5, 7]], fit, fit, stored_dtype=torch.bfloat16, ways=AT_CUTS)
        fits.append(repair)
    assert fits[0].cuts == fits[1].cuts
    assert fits[0].weights.keys() == fits[1].weights.keys()
    assert all(torch.equal(weight, fits[1].weights[layer]) for layer, weight in fits[0].weights.items())


def test_half_precision_in_use_is_bit_equal_too(tmp_path: Path) -> None:
    """Computing in bfloat16, from memory and from the files; float32 differs by what eight bits leave."""
    folder = tiny_families.build(tmp_path / "model", "llava_next", dtype="bfloat16")
    samples = list(tiny_families.samples("llava_next"))
    memory, mapped = (load(folder, dtype="bfloat16", mapped=mapped) for mapped in (False, True))
    half = collect_states(mapped, samples)
    assert np.array_equal(collect_states(memory, samples), half)
    drops = [[4], [4, 5]]
    judges = [Judge(live, samples, max_new_tokens=3) for live in (memory, mapped)]
    assert judges[0].kls(drops) == judges[1].kls(drops)
    exact = collect_states(load(folder), samples)
    assert 0 < np.abs(half - exact).max() < 0.05 * np.abs(exact).max()


def test_a_small_gpu_gets_layers_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What fits here may not fit there, and the other way round."""
    checkpoint = open_checkpoint(tiny.build(tmp_path / "model"))
    needed = 4 * checkpoint.parameters
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (needed, needed))
    assert fits(checkpoint, "float32")
    assert not fits(checkpoint, "float32", device="cuda")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (2 * needed, 2 * needed))
    assert fits(checkpoint, "float32", device="cuda")
    with memory_bound(1):
        assert not fits(checkpoint, "float32", device="cuda")


def test_weights_that_are_staged_ahead_are_the_same(tmp_path: Path) -> None:
    """As a GPU has it: copies made beside the computing, each once and used up."""
    folder = tiny_families.build(tmp_path / "model", "llava_next", dtype="bfloat16")
    model = load_model(folder, dtype="stored")
    parts, made = parts_of(model), list[int]()

    def copied(weight: torch.Tensor) -> torch.Tensor:
        made.append(weight.data_ptr())
        return weight.clone()

    weights = Mapped(
        model,
        units=[*parts.blocks, parts.head],
        around=parts.around(head=False),
        embedding=parts.embedding,
        dtype=torch.float32,
        device=torch.device("cpu"),
        files=(),
        staged=copied,
    )
    inside = list(parts.blocks[1].parameters())
    stored = sorted(value.data_ptr() for value in inside)
    expected = [value.data.float() for value in inside]
    weights.ahead(inside)
    weights.ahead(inside)
    for _ in range(2):
        with weights.held(inside):
            assert all(torch.equal(value.data, other) for value, other in zip(inside, expected, strict=True))
    assert sorted(made) == stored


def test_a_failure_gives_the_weights_back(tmp_path: Path) -> None:
    """Whatever a forward pass raises, the parameters are those of the file again."""
    live = load(tiny.build(tmp_path / "model"), mapped=True)
    before = [parameter.data_ptr() for parameter in live.model.parameters()]
    handle = live.blocks[2].register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError), live.ends():
        live.model(input_ids=torch.ones(1, 3, dtype=torch.long))
    handle.remove()
    assert [parameter.data_ptr() for parameter in live.model.parameters()] == before
