"""Visual tokens are counted once, in the family's description: plan and deployment say the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.pipeline import deploying
from tests.pipeline.test_data import context
from topovlm import cli
from topovlm.checkpoint.files import read_facts
from topovlm.config import Config, resolve
from topovlm.console import Display
from topovlm.errors import InputError
from topovlm.families.facts import ModelFacts
from topovlm.families.known_models import known_model, list_known_models
from topovlm.pipeline.dry_run import dry_run
from topovlm.pipeline.measuring import timed_tokens
from topovlm.pipeline.prompt_length import with_prompt_length
from topovlm.pipeline.question import build_plan, workload_of
from topovlm.pipeline.sources import find_model
from topovlm.predict.target import load_target

KNOWN = [model.id for model in list_known_models()]


def planned(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    """The JSON of `topovlm plan` on a board of the data sheets."""
    assert cli.main(["plan", "--target", "jetson-orin", "--json", *words]) == 0
    return dict(json.loads(capsys.readouterr().out))


@pytest.mark.parametrize("name", KNOWN)
def test_every_known_model_is_planned_by_name(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a picture size the tower's own counts, also where the configuration states a pair."""
    assert planned(capsys, "--model", name)["workload"]["visual_tokens"] > 0
    given = planned(capsys, "--model", name, "--visual-tokens", "300")
    assert given["workload"]["visual_tokens"] == 300


def counts(config: Config, facts: ModelFacts) -> tuple[int, int]:
    """(what `topovlm plan` says, what a deployment plans for)."""
    planned = dry_run(config, Display())
    deployed = build_plan(config, load_target("jetson-orin"), facts).record()
    return planned.visual_tokens, deployed.workload.visual_tokens or 0


def test_plan_and_deployment_count_the_reference_model_alike() -> None:
    """Default options: both read the same configuration and the same image processor."""
    config = resolve({"target": "jetson-orin"})
    planned, deployed = counts(config, find_model(config.model).checkpoint.facts)
    assert planned == deployed > 0


def test_plan_and_deployment_read_the_same_image_processor(tmp_path: Path) -> None:
    """A processor that cuts pictures into more tiles changes both; transformers' own file comes first."""
    known = known_model("smolvlm2-2.2b")
    (tmp_path / "config.json").write_text(json.dumps(known.config))
    seen = []
    for edge in (1536, 768):
        (tmp_path / "processor_config.json").write_text(
            json.dumps({"image_processor": {"size": {"longest_edge": edge}}})
        )
        (tmp_path / "preprocessor_config.json").write_text(json.dumps({"size": {"longest_edge": 384}}))
        config = resolve({"target": "jetson-orin", "model": str(tmp_path)})
        planned, deployed = counts(config, read_facts(tmp_path))
        assert planned == deployed
        seen.append(planned)
    assert seen == [81 * 17, 81 * 5]


def test_a_context_is_judged_by_the_same_count(tmp_path: Path) -> None:
    """The prompt that the plan counts is the one that must fit the model's positions."""
    model = deploying.build_model(tmp_path / "model")
    here = context(model, tmp_path / "out")
    facts = here.source.checkpoint.facts
    visual = facts.visual_tokens(workload_of(here.config, facts))
    assert (visual, facts.context_tokens) == (16, 512)
    longest = 512 - visual - timed_tokens(here.config)
    with_prompt_length(context(model, tmp_path / "out", prompt_tokens=str(longest)))
    with pytest.raises(InputError, match=f"with {visual} visual"):
        with_prompt_length(context(model, tmp_path / "out", prompt_tokens=str(longest + 1)))
