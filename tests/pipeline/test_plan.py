"""Plans before anything runs: layers by hand, old configurations, the precision of this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import topovlm
from topovlm import cli
from topovlm.config import resolve
from topovlm.errors import InputError
from topovlm.families.facts import ModelFacts
from topovlm.pipeline.precision import planned_dtype
from topovlm.pipeline.question import budgets_of
from topovlm.predict.target import data_dir, load_target

OLD = ModelFacts({"model_type": "llava", "vision_config": {}, "text_config": {"model_type": "llama"}})


def test_an_old_configuration_has_its_decoders_default_depth() -> None:
    """--drop on a config without num_hidden_layers counts against the default 32 layers."""
    assert budgets_of(resolve({"drop": "12,13"}), OLD).sparsity == 2 / 32


def test_planning_without_layers_that_exist_is_bad_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`plan --drop 99` names the layer, with exit code 2."""
    from tests.pipeline import deploying

    model = deploying.build_model(tmp_path / "model")
    words = ["plan", "--target", "jetson-orin", "--model", str(model), "--drop", "99"]
    assert cli.main(words) == 2
    assert "layer 99 does not exist: the model has layers 0 to 7" in capsys.readouterr().err


def test_this_machine_is_planned_for_in_the_precision_of_its_graphs() -> None:
    """What is measured here are the graphs that are written: fp32 unless asked otherwise."""
    local = load_target("local")
    asked = {name: planned_dtype(resolve({"dtype": name}), local) for name in ("auto", "fp32", "fp16")}
    assert asked == {"auto": "fp32", "fp32": "fp32", "fp16": "fp16"}
    with pytest.raises(InputError, match="graphs are written in fp32 or fp16"):
        planned_dtype(resolve({"dtype": "w4a16"}), local)


def test_a_measured_plan_has_the_precision_that_was_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The shipped profile of a GPU plans that card, for its own model, in fp16; nothing else is claimed."""
    words = ["plan", "--target", "h200", "--max-latency", "4ms", "--prompt-tokens", "19"]
    words += ["--profile", str(data_dir("profiles") / "reference" / "h200-sxm--onnxruntime-cuda--fp16.json")]
    assert cli.main([*words, "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["dtype"] == "fp16"
    assert plan["verdict"] == "prune"
    assert "measured on h200-sxm with onnxruntime-cuda" in plan["rows"][0]["source"]
    assert cli.main([*words, "--dtype", "fp32"]) == 2
    assert "the profile was measured in fp16" in capsys.readouterr().err
    assert cli.main([*words, "--target", "h100"]) == 2
    assert "was measured on 'h200-sxm'" in capsys.readouterr().err


def test_prompts_that_cannot_be_are_refused_first(tmp_path: Path) -> None:
    """Shorter than the template, or beyond the context: named before a run directory exists."""
    from tests.pipeline import deploying
    from tests.pipeline.test_data import context
    from topovlm.pipeline.prompt_length import bare_tokens, with_prompt_length

    model = deploying.build_model(tmp_path / "model")
    here = context(model, tmp_path / "out")
    assert with_prompt_length(here).config.prompt_tokens == 32
    least, visual = bare_tokens(here.config, here.source.checkpoint.facts, here.dense.processor)
    assert (least > 1, visual) == (True, 16)
    asked = with_prompt_length(context(model, tmp_path / "out", prompt_tokens=str(least)))
    assert asked.config.prompt_tokens == least
    for wrong, words in (
        (least - 1, "the chat template, and what it writes around pictures, takes"),
        (10**7, "passes the model's context"),
    ):
        with pytest.raises(InputError, match=words):
            with_prompt_length(context(model, tmp_path / "out", prompt_tokens=str(wrong)))


def test_tensorrt_is_refused_before_anything_runs(tmp_path: Path) -> None:
    """A board whose newest TensorRT is too old is named at once; without tensorrt in --format it is fine."""
    from tests.pipeline import deploying
    from tests.pipeline.test_data import context
    from topovlm.pipeline.context import Context
    from topovlm.pipeline.exporting import check

    model = deploying.build_model(tmp_path / "model")
    for formats in ("onnx", "onnx,tensorrt"):
        asked = context(model, tmp_path / "out", format=formats)
        here = Context(asked.config, asked.source, load_target("jetson-xavier-nx"), asked.run)
        if formats == "onnx":
            check(here)
        else:
            with pytest.raises(InputError, match="its newest TensorRT is 8"):
                check(here)


def planned(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    """The JSON of `topovlm plan`."""
    import json

    assert cli.main(["plan", "--target", "jetson-orin", "--json", *words]) == 0
    return json.loads(capsys.readouterr().out)


def test_well_known_models_are_planned_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    """Sizes are shipped: no folder, no hub."""
    plan = planned(capsys, "--model", "qwen3-vl-2b", "--max-latency", "70%", "--image-size", "640x480")
    assert (plan["total_layers"], plan["verdict"]) == (28, "prune")
    assert plan["workload"]["visual_tokens"] == (640 // 32) * (480 // 32)
    same = planned(capsys, "--model", "Qwen/Qwen3-VL-2B-Instruct", "--visual-tokens", "300", "--drop", "9")
    assert (same["keep_layers"], same["workload"]["visual_tokens"]) == (27, 300)


def test_a_misspelt_model_gets_near_names(capsys: pytest.CaptureFixture[str]) -> None:
    """Neither a folder nor a hub id: the names that are known come first."""
    assert cli.main(["plan", "--target", "jetson-orin", "--model", "qwen3-vl-2bb"]) == 2
    assert "Did you mean qwen3-vl-2b" in capsys.readouterr().err


def test_confidence_keeps_fewer_layers(capsys: pytest.CaptureFixture[str]) -> None:
    """With --confident upper ends must fit: never more layers than without."""
    words = ["--model", "smolvlm2-256m", "--max-latency", "1s"]
    bold, careful = planned(capsys, *words), planned(capsys, *words, "--confident")
    assert careful["confident"]
    assert (careful["keep_layers"] or 0) <= bold["keep_layers"]


def test_four_bit_weights_have_another_name_in_a_plan(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`plan --dtype int4` names `w4a16`; `deploy --dtype int4` also the command that writes int4 graphs."""
    assert cli.main(["plan", "--target", "jetson-orin", "--dtype", "int4"]) == 2
    assert "Give --dtype w4a16" in capsys.readouterr().err
    for target in ("jetson-orin", "local"):
        words = ["deploy", "--target", target, "--dtype", "int4", "-o", str(tmp_path / "out")]
        assert cli.main(words) == 2
        message = capsys.readouterr().err
        assert "a deployment's graphs are written in fp32 or fp16" in message
        assert "`topovlm export --dtype int4` writes it" in message
        assert "`topovlm plan --dtype w4a16` plans for it" in message
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--image-size", "640"], "--image-size = '640': must be height x width"),
        (["--image-size", "0x3"], "must be height x width"),
        (["--visual-tokens", "many"], "--visual-tokens = 'many': must be a whole number"),
        (["--visual-tokens", "9", "--image-size", "3x3"], "Give one"),
    ],
)
def test_sizes_of_pictures_are_checked(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2 and the flag's name."""
    assert cli.main(["plan", "--target", "jetson-orin", "--model", "qwen3-vl-2b", *words]) == 2
    assert message in capsys.readouterr().err


def test_the_plan_for_people_names_target_and_budget(capsys: pytest.CaptureFixture[str]) -> None:
    """On standard error; standard output stays empty. An infeasible plan is shown, then refused."""
    words = ["plan", "--target", "jetson-orin", "--model", "qwen3-vl-8b", "--max-latency"]
    assert cli.main([*words, "60%"]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    for part in ("Target", "Budget", "PRUNE"):
        assert part in captured.err
    assert cli.main([*words, "1ms"]) == 3
    assert "INFEASIBLE" in capsys.readouterr().err


def _wordy(folder: Path) -> None:
    """A chat template that takes more than the usual 32 tokens by itself."""
    file = folder / "chat_template.jinja"
    file.write_text("what colour is the ball ? " * 8 + file.read_text())


def test_a_dry_run_plans_the_prompt_that_is_deployed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As long as its template where nobody says; what is shorter is refused by both."""
    from tests.pipeline import deploying
    from tests.pipeline.test_data import context
    from topovlm.pipeline.prompt_length import with_prompt_length

    model = deploying.build_model(tmp_path / "model")
    _wordy(model)
    deployed = with_prompt_length(context(model, tmp_path / "out")).config.prompt_tokens
    assert deployed is not None
    assert deployed > 32
    words = ["deploy", "--target", "jetson-orin", "--model", str(model), "--sparsity", "25%", "--dry-run"]
    assert cli.main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["workload"]["prompt_tokens"] == deployed
    assert cli.main([*words, "--prompt-tokens", str(deployed - 1)]) == 2
    assert f"Give at least {deployed}" in capsys.readouterr().err


def test_layers_that_cannot_go_are_refused_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One that is tied to its place, and a field of unknown meaning: before a run directory exists."""
    from tests import tiny_families

    model, out = tiny_families.build(tmp_path / "model", "qwen3_vl"), tmp_path / "out"
    words = ["deploy", "--model", str(model), "--target", "jetson-orin", "-o", str(out)]
    for more in ([], ["--dry-run"]):
        assert cli.main([*words, "--drop", "0,4", *more]) == 2
        assert "layer = 0: is tied to its place" in capsys.readouterr().err
    config = json.loads((model / "config.json").read_text())
    config["text_config"]["moe_layers"] = [1, 2]
    (model / "config.json").write_text(json.dumps(config))
    for more in ([], ["--dry-run"]):
        assert cli.main([*words, "--sparsity", "25%", *more]) == 2
        assert "text_config.moe_layers" in capsys.readouterr().err
    assert not out.exists()


def test_pictures_that_a_plan_counts_wrong_are_refused_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Settings of a processor that no published one has: named before hours of work, not after them."""
    from tests import tiny_families

    model = tiny_families.build(tmp_path / "model", "internvl", layers=4)
    processor = json.loads((model / "processor_config.json").read_text())
    processor["image_processor"]["min_patches"] = 3
    (model / "processor_config.json").write_text(json.dumps(processor))
    words = ["deploy", "--model", str(model), "--target", "jetson-orin", "--sparsity", "25%"]
    words += ["--image-size", "41x97", "--dry-run"]
    assert cli.main(words) == 2
    assert "visual tokens = 16: are what the model's processor makes" in capsys.readouterr().err


def test_a_plan_of_experts_says_what_it_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A token's own experts: the exported graphs compute all, so the figures are not of those."""
    from tests import tiny_families

    for name, expected in (("qwen3_vl_moe", 1), ("qwen3_vl", 0)):
        model = tiny_families.build(tmp_path / name, name, layers=4)
        notes = planned(capsys, "--model", str(model), "--sparsity", "25%")["notes"]
        found = [note for note in notes if "that a token goes through; graphs exported here" in note]
        assert len(found) == expected


def test_questions_that_the_model_cannot_be_asked_are_refused_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pictures for a model without a tower, the shipped ones too; words alone where a picture must be."""
    from PIL import Image

    from tests import tiny_families

    Image.new("RGB", (40, 56)).save(tmp_path / "a.png")
    files = {name: tmp_path / f"{name}.jsonl" for name in ("words", "pictures")}
    for name, file in files.items():
        more = {"image": "a.png"} if name == "pictures" else {}
        rows = [{"id": str(i), "prompt": f"what is {i} ?", "answer": "yes", **more} for i in range(40)]
        file.write_text("\n".join(map(json.dumps, rows)))
    out = tmp_path / "out"
    for name, data, message in (
        ("llama", [], "--data = None: is missing: the shipped questions are about pictures"),
        ("llama", ["--data", str(files["pictures"])], "this model takes no pictures"),
        ("paligemma", ["--data", str(files["words"])], "the model's processor refuses it"),
    ):
        model = tmp_path / name
        if not model.is_dir():
            tiny_families.build(model, name, layers=4)
        words = ["deploy", "--model", str(model), "--target", "jetson-orin", "--sparsity", "25%"]
        assert cli.main([*words, "-o", str(out), *data]) == 2
        assert message in capsys.readouterr().err
    assert not out.exists()


def test_tokens_that_a_clip_may_leave_out_are_called_a_bound() -> None:
    """VideoLLaMA3's frames by name: at most so many tokens, says the plan; of pictures it says nothing."""
    rest: dict[str, Any] = {"model": "videollama3-2b", "target": "jetson-orin", "sparsity": "25%"}
    film = topovlm.plan(**rest, frames=8, image_size=(360, 640))
    # Eight frames share 602,112 px: each is 196 x 364 px of 28 x 28 px a token.
    assert film.workload.visual_tokens == 8 * 7 * 13
    assert any("upper bound" in note for note in film.notes)
    still = topovlm.plan(**rest)
    assert not any("upper bound" in note for note in still.notes)
