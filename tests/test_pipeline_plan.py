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
