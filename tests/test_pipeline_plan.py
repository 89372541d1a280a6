"""Plans before anything runs: layers by hand, old configurations, the precision of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from topovlm import cli
from topovlm.config import resolve
from topovlm.errors import InputError
from topovlm.hardware.target import load_target
from topovlm.stages.planning import dtype_for, plan_inputs

OLD: dict[str, Any] = {"model_type": "llava", "vision_config": {}, "text_config": {"model_type": "llama"}}


def test_an_old_configuration_has_its_decoders_default_depth() -> None:
    """--drop on a config without num_hidden_layers counts against the default 32 layers."""
    inputs = plan_inputs(resolve({"drop": "12,13"}), load_target("jetson-orin"), OLD)
    assert inputs["sparsity"] == 2 / 32


def test_planning_without_layers_that_exist_is_bad_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`plan --drop 99` names the layer, with exit code 2."""
    from tests import deploying

    model = deploying.build_model(tmp_path / "model")
    words = ["plan", "--target", "jetson-orin", "--model", str(model), "--drop", "99"]
    assert cli.main(words) == 2
    assert "layer 99 does not exist: the model has layers 0 to 7" in capsys.readouterr().err


def test_this_machine_is_planned_for_in_fp32() -> None:
    """What is measured here are fp32 graphs: another precision would be a label without a measurement."""
    local = load_target("local")
    assert dtype_for(resolve({}), local) == dtype_for(resolve({"dtype": "fp32"}), local) == "fp32"
    with pytest.raises(InputError, match="--dtype = 'fp16': this machine is measured with the fp32 graphs"):
        dtype_for(resolve({"dtype": "fp16"}), local)


def test_prompts_that_cannot_be_are_refused_first(tmp_path: Path) -> None:
    """Shorter than the template, or beyond the context: named before a run directory exists."""
    from tests import deploying
    from tests.test_pipeline_data import context
    from topovlm.stages.prompt_length import check_prompt_length, template_tokens

    model = deploying.build_model(tmp_path / "model")
    here = context(model, tmp_path / "out")
    check_prompt_length(here)
    least = template_tokens(here, 1)
    assert least > 1
    check_prompt_length(context(model, tmp_path / "out", prompt_tokens=str(least)))
    for wrong, words in ((least - 1, "the chat template alone takes"), (10**7, "passes the model's context")):
        with pytest.raises(InputError, match=words):
            check_prompt_length(context(model, tmp_path / "out", prompt_tokens=str(wrong)))


def test_tensorrt_is_refused_before_anything_runs(tmp_path: Path) -> None:
    """A board whose newest TensorRT is too old is named at once; without tensorrt in --format it is fine."""
    from tests import deploying
    from tests.test_pipeline_data import context
    from topovlm.stages.context import Context
    from topovlm.stages.exporting import check_tensorrt

    model = deploying.build_model(tmp_path / "model")
    for formats in ("onnx", "onnx,tensorrt"):
        asked = context(model, tmp_path / "out", format=formats)
        here = Context(asked.config, asked.source, load_target("jetson-xavier-nx"), asked.run)
        if formats == "onnx":
            check_tensorrt(here)
        else:
            with pytest.raises(InputError, match="its newest TensorRT is 8"):
                check_tensorrt(here)
