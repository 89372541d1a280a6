"""Which frames a rule chooses: by hand, by other people's code where it is there, and what all rules owe."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topovlm.errors import InputError
from topovlm.videos.rules import NAMES, FrameRule
from topovlm.workload import MOST_FRAMES

RULES = st.one_of(
    st.builds(FrameRule, st.sampled_from(["linspace", "floor", "middle", "inner"]), st.integers(1, 64)),
    st.builds(FrameRule, st.sampled_from(["fps", "fps-linspace"]), st.floats(0.1, 4)),
)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("linspace:4", (0, 33, 66, 99)),
        ("4", (0, 33, 66, 99)),
        ("floor:4", (0, 25, 50, 75)),
        ("middle:4", (12, 37, 62, 87)),  # 12.375, 37.125, 61.875, 86.625
        ("inner:4", (20, 40, 60, 80)),
        ("fps:2", (0, 12, 25, 37, 50, 62, 75, 87)),  # 4 seconds at 25 a second: 8 frames
        ("fps-linspace:2", (0, 14, 28, 42, 57, 71, 85, 99)),
        ("fps:0.1", (0, 25, 50, 75)),  # four at least
    ],
)
def test_frames_of_a_hundred(rule: str, expected: tuple[int, ...]) -> None:
    """Four seconds, worked out by hand from each rule's formula."""
    assert FrameRule.parse(rule).indices(100, 25.0) == expected


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("linspace:4", (0, 0, 1, 2)),
        ("floor:4", (0, 0, 1, 2)),
        ("middle:4", (0, 1, 1, 2)),  # 0.25, 0.75, 1.25, 1.75
        ("inner:4", (0, 1, 1, 2)),
        ("fps:2", (0, 1)),
        ("fps-linspace:2", (0, 1, 2)),
    ],
)
def test_a_clip_shorter_than_the_number(rule: str, expected: tuple[int, ...]) -> None:
    """Three frames: some are shown twice, or, by rate, none is."""
    assert FrameRule.parse(rule).indices(3, 25.0) == expected


@given(RULES, st.integers(1, 100_000), st.floats(1, 120))
def test_all_rules_give_places_of_the_clip_in_order(rule: FrameRule, total: int, fps: float) -> None:
    """As many as were asked for, each in the clip, never backwards; the text of a rule is the rule."""
    found = rule.indices(total, fps)
    assert list(found) == sorted(found)
    assert 0 <= found[0] <= found[-1] < total
    assert all(type(index) is int for index in found)
    if rule.name.startswith("fps"):
        assert 1 <= len(found) <= min(total, MOST_FRAMES)
        assert len(set(found)) == len(found)
    else:
        assert len(found) == rule.number
    assert FrameRule.parse(str(FrameRule(rule.name, 2))) == FrameRule(rule.name, 2)


@given(st.integers(1, 5000), st.integers(1, 64))
def test_middle_is_the_middle_of_equal_segments(total: int, number: int) -> None:
    """Each place is a nearest one of its segment's middle, in exact arithmetic."""
    for i, place in enumerate(FrameRule("middle", number).indices(total, 25.0)):
        assert abs(2 * number * place - (2 * i + 1) * (total - 1)) <= number + number * total * 1e-5


@settings(deadline=None)
@given(st.integers(1, 5000), st.floats(5, 60), st.floats(0.2, 4))
def test_rates_are_transformers(total: int, clip_fps: float, rate: float) -> None:
    """The processors' own rules, from two frames on (with one, theirs divides by zero)."""
    pytest.importorskip("torchvision", reason="transformers' video processors need it")
    from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor
    from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor

    told = SimpleNamespace(total_num_frames=total, fps=clip_fps)
    own = SimpleNamespace(num_frames=None, fps=None, temporal_patch_size=2, min_frames=4, max_frames=768)
    ours = FrameRule("fps-linspace", rate).indices(total, clip_fps)
    assert list(ours) == Qwen3VLVideoProcessor.sample_frames(own, told, fps=rate).tolist()
    if total > 1:
        theirs = Qwen2VLVideoProcessor.sample_frames(own, told, fps=rate).tolist()
        assert list(FrameRule("fps", rate).indices(total, clip_fps)) == theirs


@settings(deadline=None)  # importing it takes seconds
@given(st.integers(1, 5000), st.integers(1, 64))
def test_floor_is_transformers(total: int, number: int) -> None:
    """Where theirs gives an answer at all."""
    from transformers.video_utils import default_sample_indices_fn

    if number <= total:
        theirs = default_sample_indices_fn(SimpleNamespace(total_num_frames=total, fps=1), num_frames=number)
        assert FrameRule("floor", number).indices(total, 1.0) == tuple(theirs.tolist())


NO_RULES = ("", "every", "linspace:", "linspace:0", "linspace:2.5", "linspace:-1", "linspace:769",
            "nearest:3", "8:linspace", "fps:0", "fps:nan", "fps:inf")  # fmt: skip


@pytest.mark.parametrize("text", NO_RULES)
def test_what_is_no_rule(text: str) -> None:
    """Refused with the field, before any file is opened."""
    with pytest.raises(InputError, match="frames"):
        FrameRule.parse(text)


def test_every_rule_has_a_line_in_the_table() -> None:
    """Whoever reads the module's head knows all of them."""
    from topovlm.videos import rules

    assert all(f"`{name}`" in (rules.__doc__ or "") for name in NAMES)
