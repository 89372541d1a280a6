"""A user's own figure corrects the board: values move towards it, intervals narrow, and the plan says so."""

from __future__ import annotations

import json

import pytest

from topovlm.cli import main
from topovlm.errors import InputError
from topovlm.families.known_models import known_model
from topovlm.predict.cost import Prediction, predict
from topovlm.predict.observed import Observed, observing, parse_observed
from topovlm.predict.target import load_target
from topovlm.workload import Workload

SHAPE = known_model("qwen3-vl-2b").shape()
WORK = Workload(visual_tokens=265, prompt_tokens=27, new_tokens=64)
BOARD = "jetson-agx-orin-32gb@40W"  # nothing was published of it


def after(
    *measured: Observed, keep: int = 28, dtype: str = "w4a16", board: str = BOARD, of: str = BOARD
) -> Prediction:
    """The prediction when these were measured on board `of` in w4a16 with edge-llm."""
    known = observing(measured, SHAPE, WORK, load_target(of), "w4a16", runtime="edge-llm")
    return predict(SHAPE, WORK, load_target(board), keep, dtype, knowledge=known)


def before(keep: int = 28, dtype: str = "w4a16", board: str = BOARD) -> Prediction:
    return predict(SHAPE, WORK, load_target(board), keep, dtype)


@pytest.mark.parametrize("factor", [0.8, 1.0, 1.3])
def test_a_measurement_moves_the_figure_and_narrows_it(factor: float) -> None:
    """Near what was measured, at that depth and at others; with a narrower interval; the source says so."""
    measured = before().ttft_ms.value * factor
    found = after(Observed("ttft", measured, 28))
    assert found.ttft_ms.value == pytest.approx(measured, rel=0.06)
    assert found.ttft_ms.low <= measured <= found.ttft_ms.high
    for keep in (28, 20, 10):
        prior, now = before(keep).ttft_ms, after(Observed("ttft", measured, 28), keep=keep).ttft_ms
        assert now.high / now.low < prior.high / prior.low
        assert (now.value - prior.value) * (factor - 1) >= 0
    assert "corrected by a measurement of yours" in found.source


def test_more_measurements_narrow_further() -> None:
    """A second depth, and a phase of its own."""
    first = Observed("ttft", before().ttft_ms.value * 1.2, 28)
    second = Observed("ttft", before(14).ttft_ms.value * 1.2, 14)
    one, two = after(first).ttft_ms, after(first, second).ttft_ms
    assert two.high / two.low < one.high / one.low
    token = after(Observed("token", before().token_ms.value * 0.9))
    assert token.token_ms.value == pytest.approx(before().token_ms.value * 0.9, rel=0.05)
    assert token.vision_ms == before().vision_ms


def test_other_formats_and_boards_move_less() -> None:
    """What is shared moves: the board's tower in every format; another board of the family a little."""
    slow = Observed("vision", before().vision_ms.value * 1.2)
    assert after(slow, dtype="fp16").vision_ms.value == pytest.approx(after(slow).vision_ms.value)
    here = after(slow).vision_ms.value / before().vision_ms.value
    other = "jetson-orin-nano-4gb@10W"
    there = after(slow, board=other).vision_ms.value / before(board=other).vision_ms.value
    assert 1 < there < here


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ttft=231", "no unit"),
        ("ttft 231ms", "FIGURE=TIME"),
        ("speed=3ms", "ttft, vision, prefill, token"),
        ("ttft=231ms@layers=", "FIGURE=TIME"),
        ("ttft=-3ms", "--observed"),
    ],
)
def test_what_cannot_be_read_is_refused(text: str, message: str) -> None:
    """Field, value and an example."""
    with pytest.raises(InputError, match=message):
        parse_observed(text)


def test_a_depth_that_the_model_lacks_is_refused() -> None:
    """28 layers; 29 were not measured."""
    assert str(parse_observed("ttft=0.231s@layers=29")) == "ttft=231ms@layers=29"
    with pytest.raises(InputError, match="28 layers"):
        after(Observed("ttft", 231, 29))


def test_the_command_line_takes_runtime_and_measurement(capsys: pytest.CaptureFixture[str]) -> None:
    """Runtime and version are in the plan; an unknown runtime is refused with those that are known."""
    words = [
        "plan",
        "--target",
        BOARD,
        "--model",
        "qwen3-vl-2b",
        "--dtype",
        "w4a16",
        "--max-latency",
        "500ms",
    ]
    plans = []
    for extra in ([], ["--observed", "ttft=190ms@layers=28"], ["--runtime", "llamacpp"]):
        assert main([*words, "--json", *extra]) == 0
        plans.append(json.loads(capsys.readouterr().out))
    assert [(plan["runtime"], plan["runtime_version"]) for plan in plans] == [
        ("edge-llm", "0.10"),
        ("edge-llm", "0.10"),
        ("llamacpp", "2026"),
    ]
    assert "measurement of yours" in plans[1]["source"]
    assert plans[1]["rows"][-1]["ttft_ms"]["value"] > plans[0]["rows"][-1]["ttft_ms"]["value"]
    assert main([*words, "--runtime", "vulkan"]) == 2
    assert "tensorrt, edge-llm, onnxruntime, llamacpp" in capsys.readouterr().err
