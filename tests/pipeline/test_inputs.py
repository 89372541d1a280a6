"""What the inputs of stages notice: machine, packages, time limit, the content of a target's file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from topovlm.config import resolve
from topovlm.families.facts import ModelFacts
from topovlm.pipeline.planning import plan_inputs
from topovlm.predict.target import data_dir, load_target

MODEL = ModelFacts(
    {
        "model_type": "llava",
        "vision_config": {"image_size": 48},
        "text_config": {"model_type": "qwen2", "num_hidden_layers": 8},
    }
)


def test_a_changed_target_file_is_another_plan(tmp_path: Path) -> None:
    """The key of the target is the same, its facts are not."""
    shipped = (data_dir("targets") / "jetson-orin-nano-8gb.toml").read_text()
    mine = tmp_path / "mine.toml"
    seen = []
    for text in (shipped, shipped.replace("total_gib = ", "total_gib = 1")):
        mine.write_text(text)
        target = load_target(str(mine))
        seen.append((target.key, plan_inputs(resolve({}), target, MODEL)))
    assert seen[0][0] == seen[1][0]
    assert seen[0][1] != seen[1][1]


def test_timing_inputs_name_machine_packages_and_time(tmp_path: Path) -> None:
    """A run directory carried to another machine, or another --measure-time, measures again."""
    from tests.pipeline import deploying
    from tests.pipeline.test_data import context

    model = deploying.build_model(tmp_path / "model")
    here = context(model, tmp_path / "out")
    assert {"cpu", "cores", "threads", "onnxruntime", "tokenizers"} <= set(here.timing)
    longer = replace(here, config=replace(here.config, measure_time=5.0))
    assert longer.timing != here.timing
