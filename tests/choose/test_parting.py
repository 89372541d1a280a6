"""Samples parted for the judge."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tests import tiny
from topovlm.choose.parting import filled, fitting_part, kept_back
from topovlm.samples import Sample


def _data(sizes: list[int], in_a_group: int) -> list[Sample]:
    kinds = [f"kind {kind}" for kind, size in enumerate(sizes) for _ in range(size * in_a_group)]
    samples = tiny.samples(1) * len(kinds)
    return [
        replace(sample, id=str(place), category=kind, group=f"picture {place // in_a_group}")
        for place, (sample, kind) in enumerate(zip(samples, kinds, strict=True))
    ]


@given(sizes=st.lists(st.integers(1, 12), min_size=1, max_size=5), data=st.data())
def test_kinds_have_their_share_of_any_beginning(sizes: list[int], data: st.DataObject) -> None:
    """To within one group, on both sides; no group is on two sides, and nothing is lost."""
    in_a_group, seed = data.draw(st.integers(1, 3)), data.draw(st.integers(0, 9))
    samples = _data(sizes, in_a_group)
    wanted = data.draw(st.integers(0, len(samples)))
    first, others = filled(samples, wanted, [seed])
    assert wanted <= len(first) < wanted + in_a_group
    assert not {one.group for one in first} & {one.group for one in others}
    assert sorted([*first, *others], key=lambda one: int(one.id)) == samples
    for end in range(0, len(samples) + 1, in_a_group):
        counts = Counter(one.category for one in [*first, *others][:end])
        for kind, size in enumerate(sizes):
            share = end / len(samples) * size * in_a_group
            assert abs(counts[f"kind {kind}"] - share) <= in_a_group * (1 + len(sizes) / 2)


def test_the_seed_draws_the_order() -> None:
    samples = _data([20, 20], 1)
    assert filled(samples, 8, [1]) == filled(samples, 8, [1]) != filled(samples, 8, [2])


def test_samples_that_stop_a_training_share_no_picture_with_those_that_fit() -> None:
    """Half is kept back, at most 64, whole groups; all where there is one group."""
    samples = [replace(sample, group=f"g{index // 3}") for index, sample in enumerate(tiny.samples(48))]
    fit, back = fitting_part(samples, 7)
    assert len(back) == kept_back(48) == 24
    assert kept_back(256) == 64
    assert not {sample.group for sample in fit} & {sample.group for sample in back}
    assert sorted(sample.id for sample in (*fit, *back)) == sorted(sample.id for sample in samples)
    assert fitting_part(samples, 7) == (fit, back)
    assert fitting_part(samples[:3], 7) == ([], samples[:3])
