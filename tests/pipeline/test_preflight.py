"""What a run says before it begins: needs from sizes, and refusals that name what would help."""

from __future__ import annotations

import shutil
from collections import namedtuple
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import tiny
from tests.pipeline import deploying
from topovlm.checkpoint.files import open_checkpoint
from topovlm.checkpoint.live import load
from topovlm.checkpoint.sizes import Sizes
from topovlm.choose.costs import measure_costs
from topovlm.config import UNTIL, resolve
from topovlm.console import Display
from topovlm.errors import InputError
from topovlm.machine.host import memory_bound
from topovlm.pipeline import preflight
from topovlm.pipeline.context import Context
from topovlm.pipeline.expected import spell_time, stage_seconds
from topovlm.pipeline.rundir import RunDir
from topovlm.pipeline.sources import find_model
from topovlm.pipeline.target import resolve_target

GIB = 1 << 30


@pytest.fixture
def here(model: Path, tmp_path: Path) -> Context:
    """Of a deployment that has not begun."""
    given = {"model": str(model), "target": "jetson-orin-nano-8gb", "output": str(tmp_path / "out")}
    config = resolve({**given, "sparsity": "25%"})
    return Context(
        config, find_model(str(model)), resolve_target(config), RunDir(config.output, Display(quiet=True))
    )


def with_option(context: Context, **changed: object) -> Context:
    return replace(context, config=replace(context.config, **changed))  # type: ignore[arg-type]


def test_sizes_are_those_of_the_loaded_model(model: Path) -> None:
    """Layers and what lies around them, counted from headers, are the parameters that torch has."""
    sizes, live = Sizes.of(open_checkpoint(model)), load(model)
    layers = [sum(value.numel() for value in block.parameters()) for block in live.blocks]
    assert (sizes.largest_layer, sizes.layers) == (max(layers), sum(layers))
    assert sizes.parameters == live.model.num_parameters()


def test_a_large_model_is_counted_in_parts() -> None:
    """Whole where it fits into most of what is free, else two layers at a time."""
    sizes = Sizes(largest_layer=100, layers=3200, around=800)
    assert sizes.loaded_bytes("float32", None) == 16_000
    assert sizes.loaded_bytes("float32", 100_000) == 16_000
    assert sizes.loaded_bytes("float32", 20_000) == 4 * (800 + 200)
    assert sizes.loaded_bytes("bfloat16", 20_000) == 8_000
    assert sizes.loaded_bytes("bfloat16", 20_000, copies=2) == 2 * (800 + 200)


def test_too_little_memory_is_refused_before_anything_is_written(here: Context) -> None:
    """The sentence names the stage, what it takes and what is free."""
    with memory_bound(1), pytest.raises(InputError, match=r"stage score: it takes .* \(predicted\)"):
        preflight.refuse_too_little(here)
    assert not here.config.output.exists()


def test_graphs_that_do_not_fit_name_the_option_that_stops_before(
    here: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that can be cut here, layer by layer, but not be answered with as a whole."""
    large = Sizes(largest_layer=200_000_000, layers=6_400_000_000, around=1_000_000_000)
    monkeypatch.setattr(Sizes, "of", classmethod(lambda cls, checkpoint: large))
    monkeypatch.setattr(preflight, "free_memory_bytes", lambda: 16 * GIB)
    with pytest.raises(InputError, match=r"stage report.*--until prune"):
        preflight.refuse_too_little(here)
    preflight.refuse_too_little(with_option(here, until="prune"))


def test_a_full_disk_is_refused_by_what_will_be_written(
    here: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an earlier run left in the directory will be replaced, and counts as free."""
    needed = sum(need.disk_bytes for need in preflight.needs(here, None))
    assert needed > here.source.checkpoint.weight_bytes
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage(0, 0, needed - 1))
    with pytest.raises(InputError, match="--output"):
        preflight.refuse_too_little(here)
    here.config.output.mkdir()
    (here.config.output / "old").write_bytes(b"x")
    preflight.refuse_too_little(here)


def test_a_graph_that_is_quantised_whole_has_to_fit(model: Path, tmp_path: Path) -> None:
    """Other formats are written layer by layer."""
    checkpoint = open_checkpoint(model)
    with memory_bound(1):
        with pytest.raises(InputError, match=r"--dtype.*layer by layer"):
            preflight.refuse_export(checkpoint, "int4", tmp_path / "out")
        preflight.refuse_export(checkpoint, "fp16", tmp_path / "out")
    preflight.refuse_export(checkpoint, "int4", tmp_path / "out")


def test_needs_are_of_the_stages_that_run(here: Context) -> None:
    """--until leaves the later ones out; more formats take more disk, half precision less."""
    for count, until in enumerate(UNTIL):
        found = preflight.needs(with_option(here, until=until), None)
        assert [need.stage for need in found] == list(UNTIL[1 : count + 1])

    def disk(context: Context) -> int:
        return sum(need.disk_bytes for need in preflight.needs(context, None))

    assert disk(with_option(here, format=("onnx", "tensorrt"))) > disk(here)
    assert disk(with_option(here, dtype="fp16")) < disk(here)


def test_rounds_hold_a_stream_for_every_layer(here: Context) -> None:
    """Of few samples: of many, their own streams are larger."""

    def memory(**changed: object) -> int:
        return preflight.needs(with_option(here, until="score", **changed), None)[0].memory_bytes

    assert memory(scorer="greedy", samples=32) > memory(samples=32)
    assert memory(scorer="greedy", samples=512) == memory(samples=512)


def test_two_layers_are_read_and_timed(model: Path) -> None:
    """A sample of the model's own; the layers behind are not run."""
    live = load(model)
    ran: list[int] = []
    for number, block in enumerate(live.blocks):
        block.register_forward_hook(lambda *_, number=number: ran.append(number))
    costs = measure_costs(live, tiny.samples(1)[0])
    assert set(ran) == {0, 1}
    assert costs.tokens > 1
    assert min(costs.before_s, costs.layer_s, costs.step_s) > 0
    assert torch.is_inference_mode_enabled() is False


def test_time_grows_with_what_is_asked(here: Context, model: Path) -> None:
    """More samples, more judgements, more questions; layers named by hand are not searched for."""
    costs = measure_costs(load(model), tiny.samples(1)[0])

    def seconds(**changed: object) -> dict[str, float]:
        return stage_seconds(with_option(here, **changed), costs, costs, 6)

    usual = seconds()
    assert list(usual) == list(UNTIL[1:])
    assert seconds(samples=1024)["score"] == pytest.approx(2 * usual["score"])
    assert seconds(scorer="fisher")["score"] > usual["score"]
    assert seconds(scorer="bypass-zigzag")["score"] > usual["score"]
    assert seconds(scorer="greedy")["score"] > usual["score"]
    assert seconds(judgements=240)["select"] > usual["select"]
    assert seconds(judge_samples=512)["select"] > usual["select"]
    assert seconds(eval_samples=1200)["report"] > usual["report"]
    assert seconds(repair="off")["prune"] < usual["prune"]
    assert seconds(drop=(3,))["select"] == 0
    assert list(seconds(until="score")) == ["score"]


def test_times_are_words() -> None:
    """Seconds, minutes, hours, in two digits."""
    assert [spell_time(value) for value in (0.2, 42, 130, 5999, 12_000, 400_000)] == [
        "1 s", "42 s", "2 min", "1.7 h", "3.3 h", "1.1e+02 h",
    ]  # fmt: skip


def test_a_run_stops_where_it_is_told_to_and_goes_on(
    finished: tuple[Path, dict[str, Any]], tmp_path: Path, model: Path
) -> None:
    """Stage by stage, to the same report as in one go."""
    out = tmp_path / "out"
    for until, kept in (("plan", "plan.json"), ("score", "scores.json"), ("select", "selection.json")):
        code, outcome = deploying.deploy(model, out, "--until", until)
        assert (code, outcome["report"]) == (0, {})
        assert (out / kept).is_file()
        assert not (out / "model").exists()
    assert outcome["dropped"] == finished[1]["dropped"]
    code, outcome = deploying.deploy(model, out, "--until", "prune")
    assert (code, open_checkpoint(out / "model").layers) == (0, finished[1]["keep_layers"])
    assert not (out / "onnx").exists()
    code, outcome = deploying.deploy(model, out, "--until", "export")
    assert (out / "onnx").is_dir()
    assert not (out / "report.json").exists()
    code, outcome = deploying.deploy(model, out)
    assert (code, outcome["content_hash"]) == (0, finished[1]["content_hash"])
    assert {"score", "select", "prune", "export", "export-dense"}.isdisjoint(deploying.stages_run(out))
