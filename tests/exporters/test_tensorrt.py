"""Build bundles for boards, engines for RTX cards, and the script that runs on the board."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest

from topovlm.errors import InputError, MissingToolError
from topovlm.exporters.protocol import ExportRecord, ExportRequest
from topovlm.exporters.tensorrt import support
from topovlm.exporters.tensorrt.exporter import TensorRTExporter
from topovlm.exporters.tensorrt.shapes import Range, RangeSet, prompt_ranges, shape_ranges, trtexec_arguments
from topovlm.predict.target import load_target
from topovlm.runtime.prompt import prompter_of
from topovlm.runtime.runtime_file import DecoderSizes, PromptRules, RuntimeFile
from topovlm.travel import build_engines
from topovlm.travel.prompts import Prompt
from topovlm.workload import Workload

WORKLOAD = Workload(images=1, image_height=32, image_width=32, prompt_tokens=20, new_tokens=16)
HAS_RTX = importlib.util.find_spec("tensorrt_rtx") is not None
needs_rtx = pytest.mark.skipif(not HAS_RTX, reason=f"TensorRT-RTX is absent: {support.RTX.remedy}")


def export(model: Path, out: Path, target: str) -> tuple[Path, ExportRecord]:
    """(the target's folder below `out`, what the exporter recorded)."""
    request = ExportRequest(
        model_dir=model, model="slim", target=load_target(target), workload=WORKLOAD, dtype="fp16"
    )
    TensorRTExporter().check(request)
    record = TensorRTExporter().export(request, out, lambda done, total: None)
    return out / str(record.facts["folder"]), record


@pytest.fixture(scope="module")
def bundle(tiny_siglip_qwen2: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ExportRecord]:
    """A bundle for the AGX Orin."""
    return export(tiny_siglip_qwen2, tmp_path_factory.mktemp("bundle") / "tensorrt", "jetson-agx-orin-64gb")


def test_bundle_holds_typed_standard_graphs(bundle: tuple[Path, ExportRecord]) -> None:
    """fp16 weights and cache, fp32 at the edges, standard operators only, hashes as stated."""
    folder, report = bundle
    assert [row.format for row in report.artifacts] == ["tensorrt-bundle"]
    assert report.facts["compute_capability"] == "8.7"
    shapes = json.loads((folder / "shapes.json").read_text())
    assert list(shapes["graphs"]) == ["vision_encoder", "embed_tokens", "decoder_model_merged"]
    for graph in shapes["graphs"].values():
        files = build_engines.graph_files(folder, graph)
        assert build_engines.file_digest(files) == graph["sha256"]
        model = onnx.load(files[0])
        assert {node.domain for node in model.graph.node} == {""}
        assert model.graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
        weights = {held.data_type for held in model.graph.initializer if len(held.dims) > 1}
        assert onnx.TensorProto.FLOAT16 in weights
        assert onnx.TensorProto.FLOAT not in weights
    (kept,) = [held for held in model.graph.initializer if held.name == "num_logits_to_keep"]
    assert onnx.numpy_helper.to_array(kept) == 1  # the decoder: TensorRT takes it for a constant
    assert {value.type.tensor_type.elem_type for value in model.graph.output[1:]} == {
        onnx.TensorProto.FLOAT16
    }


def test_bundle_states_its_accuracy_and_why_it_is_not_built(bundle: tuple[Path, ExportRecord]) -> None:
    """The README gives the reason and the measured error; the report carries the rows."""
    folder, report = bundle
    text = (folder / "README.md").read_text()
    assert "Why it is not built here" in text
    assert "8.7" in text
    worst = max(row.max_logit_error / row.max_logit for row in report.parity)
    assert f"{worst:.2e}" in text
    assert 0 < worst <= 1e-2
    assert report.checks
    assert all(check.passed and "fp16 (TensorRT's)" in check.name for check in report.checks)
    assert "built on the board" in report.limits[0]
    assert not report.artifacts[0].checked


def test_ranges_cover_the_workload(bundle: tuple[Path, ExportRecord]) -> None:
    """Prefill is tuned for the whole prompt, decoding for a cache that holds it and the answer."""
    shapes = json.loads((bundle[0] / "shapes.json").read_text())
    prefill, decode = shapes["graphs"]["decoder_model_merged"]["profiles"]
    prompt = 20 + 16  # words and picture
    assert prefill["inputs"]["inputs_embeds"]["opt"] == [1, prompt, 64]
    assert prefill["inputs"]["past_key_values.0.key"]["max"][2] == 0
    assert decode["inputs"]["inputs_embeds"]["max"] == [1, 1, 64]
    assert decode["inputs"]["past_key_values.5.value"]["opt"] == [1, 2, prompt, 16]
    assert decode["inputs"]["past_key_values.5.value"]["max"][2] >= prompt + 16
    for profile in (prefill, decode):
        for kind in ("min", "opt", "max"):
            new = profile["inputs"]["position_ids"][kind][1]
            past = profile["inputs"]["past_key_values.3.key"][kind][2]
            assert profile["inputs"]["attention_mask"][kind] == [1, new + past]


def test_names_of_ranges_are_the_graphs_inputs(bundle: tuple[Path, ExportRecord]) -> None:
    """Every dynamic input has a range; nothing else is named. What has a value in the graph is none."""
    folder = bundle[0]
    for graph in json.loads((folder / "shapes.json").read_text())["graphs"].values():
        model = onnx.load(folder / graph["file"]).graph
        held = {tensor.name for tensor in model.initializer}
        names = [value.name for value in model.input if value.name not in held]
        assert all(sorted(profile["inputs"]) == sorted(names) for profile in graph["profiles"])


def test_trtexec_lines_are_strongly_typed_and_hold_every_profile(bundle: tuple[Path, ExportRecord]) -> None:
    """No fp16 flag (TensorRT 11 has none); two profiles for the decoder; valid shell."""
    script = (bundle[0] / "build.sh").read_text()
    assert script.count("--stronglyTyped") == 3
    assert "--fp16" not in script
    assert "--profile=0" in script
    assert "--profile=1" in script
    subprocess.run(["sh", "-n", str(bundle[0] / "build.sh")], check=True)
    assert os.access(bundle[0] / "build.sh", os.X_OK)


def test_trtexec_arguments_spell_shapes_with_x() -> None:
    """trtexec writes 1x3x32x32."""
    ranges = RangeSet(
        name="p",
        inputs={
            "a": Range(min=(1, 3), opt=(2, 3), max=(4, 3)),
            "b": Range(min=(7,), opt=(7,), max=(7,)),
        },
    )
    assert trtexec_arguments([ranges]) == [
        "--minShapes=a:1x3,b:7",
        "--optShapes=a:2x3,b:7",
        "--maxShapes=a:4x3,b:7",
    ]


def test_ranges_of_a_batch(siglip_export: tuple[Path, ExportRecord]) -> None:
    """Whole pictures of all prompts of a batch may be seen at once, or one by one."""
    ranges = shape_ranges(siglip_export[0], replace(WORKLOAD, images=2, batch=3))
    pixels = ranges["vision_encoder"][0].inputs["pixel_values"]
    assert (pixels.min, pixels.opt, pixels.max) == ((1, 3, 32, 32), (6, 3, 32, 32), (6, 3, 32, 32))
    assert ranges["decoder_model_merged"][0].inputs["inputs_embeds"].opt == (3, 20 + 2 * 16, 64)


def test_ranges_without_pictures_still_serve_one(siglip_export: tuple[Path, ExportRecord]) -> None:
    """A text-only workload keeps a usable vision engine."""
    ranges = shape_ranges(siglip_export[0], replace(WORKLOAD, images=0, batch=2))
    assert ranges["vision_encoder"][0].inputs["pixel_values"].opt == (2, 3, 32, 32)
    assert ranges["decoder_model_merged"][0].inputs["inputs_embeds"].opt == (2, 20, 64)
    prompter = prompter_of(siglip_export[0])
    words = prompt_ranges(prompter, [prompter.prepare([], text) for text in ("a", "a b c d")], 4)
    assert words["vision_encoder"][0].inputs["pixel_values"].max == (1, 3, 32, 32)


def _prompter(**facts: Any) -> Any:
    """What makes prompts, as far as ranges ask for it."""
    sizes = {"layers": 1, "hidden": 8, "kv_heads": 1, "head_dim": 8, "vocab": 40}
    decoder = DecoderSizes(**sizes, rows=facts.pop("rows", 1), stacked=facts.pop("stacked", 0))
    file = RuntimeFile(
        model_type="any", prompt=PromptRules(), eos_token_ids=(2,), decoder=decoder, graphs={}, **facts
    )
    return SimpleNamespace(manifest=SimpleNamespace(file=file))


def test_ranges_of_other_decoders_and_towers() -> None:
    """Positions in three rows, blocks, features behind layers; pictures from the smallest to the largest."""
    prompter = _prompter(
        strategy="native", image_token_id=1, positions="grid", mask="blocks", rows=3, stacked=2
    )

    def prompt(length: int, patches: int) -> Prompt:
        feeds = {
            "pixel_values": np.zeros((patches, 12), np.float32),
            "position_ids": np.zeros((patches, 2), np.int64),
        }
        return Prompt(np.zeros(length, int), np.zeros((3, length), int), length, [feeds], image_token_id=1)

    ranges = prompt_ranges(prompter, [prompt(8, 24), prompt(6, 16)], 4)
    pixels = ranges["vision_encoder"][0].inputs["pixel_values"]
    assert (pixels.min, pixels.opt, pixels.max) == ((16, 12), (24, 12), (24, 12))
    assert ranges["vision_encoder"][0].inputs["position_ids"].max == (24, 2)
    prefill, decode = ranges["decoder_model_merged"]
    assert prefill.inputs["position_ids"].opt == (3, 1, 8)
    assert decode.inputs["position_ids"].max == (3, 1, 1)
    assert prefill.inputs["block_ids"].opt == (1, 8)
    assert [name for name in prefill.inputs if name.startswith("deepstack")] == [
        "deepstack_embeds.0",
        "deepstack_embeds.1",
    ]
    assert decode.inputs["deepstack_embeds.1"].opt == (1, 1, 8)


def test_a_model_without_pictures_has_no_vision_engine() -> None:
    """Ranges for embedding and decoder alone."""
    prompt = Prompt(ids=np.arange(5), positions=np.arange(5), next_position=5)
    assert set(prompt_ranges(_prompter(), [prompt], 4)) == {"embed_tokens", "decoder_model_merged"}


@pytest.mark.parametrize("target", ["jetson-agx-xavier", "local"])
def test_boards_without_a_fitting_tensorrt_are_refused(
    target: str, tiny_siglip_qwen2: Path, tmp_path: Path
) -> None:
    """Xavier's last TensorRT is 8; this machine has no NVIDIA GPU on record. Nothing is written."""
    with pytest.raises(InputError, match="TensorRT"):
        export(tiny_siglip_qwen2, tmp_path / "out", target)
    assert list(tmp_path.iterdir()) == []


def test_board_script_is_python_3_8_and_needs_nothing_of_ours(bundle: tuple[Path, ExportRecord]) -> None:
    """It parses as 3.8 and imports the standard library only (bindings are looked up by name)."""
    source = (bundle[0] / "build_engines.py").read_text()
    tree = ast.parse(source, feature_version=(3, 8))
    imported = {
        alias.name if isinstance(node, ast.Import) else str(node.module)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in node.names
    }
    assert {name.split(".")[0] for name in imported} <= set(sys.stdlib_module_names) | {
        "__future__",
        "limits",
    }
    assert (bundle[0] / "limits.py").is_file()
    assert "removeprefix" not in source


@pytest.mark.skipif(HAS_RTX, reason="bindings are installed")
def test_board_script_without_bindings_exits_5(bundle: tuple[Path, ExportRecord]) -> None:
    """One line that says how to get them; no traceback."""
    command = [sys.executable, str(bundle[0] / "build_engines.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 5
    assert done.stderr.startswith("error: no TensorRT Python bindings")
    assert "Traceback" not in done.stderr


def test_board_script_checks_device_memory_and_release(tmp_path: Path) -> None:
    """Another GPU, too little memory, and the L4T release as boards write it."""
    wanted = {"target": {"name": "AGX Orin", "compute_capability": "8.7"}}
    build_engines.check_device(wanted, "8.7", any_device=False)
    build_engines.check_device(wanted, "8.9", any_device=True)
    for found in ("8.9", None):
        with pytest.raises(build_engines.BuildError) as caught:
            build_engines.check_device(wanted, found, any_device=False)
        assert caught.value.code == 5
    release = tmp_path / "nv_tegra_release"
    release.write_text("# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n")
    assert build_engines.l4t_release(release) == "36.4.3"
    assert build_engines.l4t_release(tmp_path / "absent") == "none"
    huge = tmp_path / "huge.onnx"
    with huge.open("wb") as file:
        file.truncate(1 << 42)  # sparse: takes no disk
    with pytest.raises(build_engines.BuildError, match="are available"):
        build_engines.check_memory("decoder", [huge], ignore=False)
    build_engines.check_memory("decoder", [huge], ignore=True)


def test_engine_names_depend_on_all_that_engines_depend_on() -> None:
    """Capability, TensorRT, L4T, graph and shapes: each changes the name."""
    graph = {"sha256": "a" * 64, "profiles": [{"name": "p", "inputs": {}}]}
    base = build_engines.engine_name("decoder", graph, "8.7", "10.3.0", "36.4.3")
    assert base.startswith("decoder.sm87.trt10.3.0.l4t36.4.3.")
    others = {
        build_engines.engine_name("decoder", graph, "8.9", "10.3.0", "36.4.3"),
        build_engines.engine_name("decoder", graph, "8.7", "10.16.2", "36.4.3"),
        build_engines.engine_name("decoder", graph, "8.7", "10.3.0", "36.5.0"),
        build_engines.engine_name("decoder", {**graph, "sha256": "b" * 64}, "8.7", "10.3.0", "36.4.3"),
        build_engines.engine_name("decoder", {**graph, "profiles": []}, "8.7", "10.3.0", "36.4.3"),
    }
    assert len(others | {base}) == 6


@pytest.mark.skipif(HAS_RTX, reason="bindings are installed")
def test_rtx_target_without_the_extra_says_how_to_get_it(tiny_siglip_qwen2: Path, tmp_path: Path) -> None:
    """MissingToolError naming the extra; nothing written."""
    with pytest.raises(MissingToolError, match=r"topovlm\[tensorrt-rtx\]"):
        export(tiny_siglip_qwen2, tmp_path / "out", "rtx-4090")
    assert list(tmp_path.iterdir()) == []


@needs_rtx
def test_rtx_engines_are_built_and_listed(tiny_siglip_qwen2: Path, tmp_path: Path) -> None:
    """Three engine files for compute capability 8.9, without a GPU, hashes and sizes as listed."""
    folder, report = export(tiny_siglip_qwen2, tmp_path / "rtx", "rtx-4090")
    assert [row.format for row in report.artifacts] == ["tensorrt-engine"]
    assert "not run" in report.limits[0]
    engines = json.loads((folder / "engines" / "engines.json").read_text())
    assert [engine["graph"] for engine in engines] == [
        "vision_encoder",
        "embed_tokens",
        "decoder_model_merged",
    ]
    for engine in engines:
        assert engine["compute_capability"] == "8.9"
        assert ".sm89." in engine["file"]
        assert (folder / "engines" / engine["file"]).stat().st_size == engine["size_bytes"] > 10_000


@needs_rtx
def test_graph_that_tensorrt_cannot_take_is_refused_with_its_words(
    bundle: tuple[Path, ExportRecord], tmp_path: Path
) -> None:
    """A fused operator: the parser's own message, exit code 6."""
    model = onnx.load(bundle[0] / "onnx/embed_tokens_fp16.onnx")
    model.graph.node[0].domain, model.graph.node[0].op_type = "com.microsoft", "GatherBlockQuantized"
    model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    onnx.save(model, tmp_path / "bad.onnx")
    shutil.copy(bundle[0] / "shapes.json", tmp_path)
    with pytest.raises(build_engines.BuildError, match="refused by the parser") as caught:
        build_engines.build_engine(support.import_rtx(), tmp_path / "bad.onnx", [])
    assert caught.value.code == 6
