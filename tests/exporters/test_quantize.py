"""Quantised decoders: named, smaller, runnable, and honest about what they cost."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests import tiny, tiny_families
from topovlm.errors import InputError
from topovlm.exporters.onnx.export import export_onnx
from topovlm.exporters.onnx.prompts import make_questions
from topovlm.exporters.onnx.quantize import QuantizedGraph, quantize_decoders
from topovlm.exporters.onnx.sessions import open_graphs
from topovlm.exporters.protocol import ExportRecord
from topovlm.records import decode
from topovlm.runtime.engine import Engine
from topovlm.runtime.runtime_file import read_runtime_file

Exported = tuple[Path, ExportRecord]


@pytest.fixture(scope="module")
def quantized(
    siglip_export: Exported, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, QuantizedGraph]]:
    """A copy of the exported folder with all quantised decoders, and their rows by key."""
    folder = tmp_path_factory.mktemp("quantized") / "folder"
    shutil.copytree(siglip_export[0], folder)
    return folder, {row.key: row for row in quantize_decoders(folder)}


def test_files_follow_the_naming_convention(quantized: tuple[Path, dict[str, QuantizedGraph]]) -> None:
    """`_quantized` is int8 and `_q4` is int4, for the plain and the fused graph; the manifest names them."""
    folder, rows = quantized
    assert {key: row.path for key, row in rows.items()} == {
        "decoder_quantized": "onnx/decoder_model_merged_quantized.onnx",
        "decoder_q4": "onnx/decoder_model_merged_q4.onnx",
        "decoder_fused_quantized": "onnx/decoder_model_merged_fused_quantized.onnx",
        "decoder_fused_q4": "onnx/decoder_model_merged_fused_q4.onnx",
    }
    graphs = json.loads((folder / "topovlm_runtime.json").read_text())["graphs"]
    assert all(graphs[key] == row.path for key, row in rows.items())
    assert {p.name for p in (folder / "onnx").iterdir()} == {Path(path).name for path in graphs.values()}


def test_weights_are_really_quantised(quantized: tuple[Path, dict[str, QuantizedGraph]]) -> None:
    """No float MatMul with constant weights is left, and files shrink."""
    folder, rows = quantized
    for row in rows.values():
        graph = onnx.load(folder / row.path).graph
        weights = {t.name for t in graph.initializer}
        floats = [n for n in graph.node if n.op_type == "MatMul" and n.input[1] in weights]
        kind = "MatMulNBits" if row.format == "int4" else "MatMulInteger"
        assert floats == []
        assert any(node.op_type in (kind, "DynamicQuantizeMatMul") for node in graph.node)
        assert row.size_bytes < row.source_size_bytes


def test_cost_is_measured_not_assumed(quantized: tuple[Path, dict[str, QuantizedGraph]]) -> None:
    """int4 loses more than int8, both lose something; plain and fused lose alike."""
    rows = quantized[1]
    for prefix in ("decoder", "decoder_fused"):
        assert 0 < rows[f"{prefix}_quantized"].mean_logit_error < rows[f"{prefix}_q4"].mean_logit_error
    plain, fused = rows["decoder_q4"].mean_logit_error, rows["decoder_fused_q4"].mean_logit_error
    assert fused == pytest.approx(plain, rel=0.2)
    assert all(0 < row.same_tokens <= row.compared_tokens for row in rows.values())


@pytest.mark.parametrize("variant", ["plain_quantized", "plain_q4", "fused_quantized", "fused_q4"])
def test_runtime_runs_them(variant: str, quantized: tuple[Path, dict[str, QuantizedGraph]]) -> None:
    """The engine finds them under their variant's name and generates."""
    from topovlm.runtime.engine import Engine

    answer = Engine(quantized[0], variant=variant).generate(
        [tiny.picture(0, 32)], tiny.PROMPTS[0], max_new_tokens=3
    )
    assert 1 <= len(answer.token_ids) <= 3


def test_only_known_formats_and_fp32_sources(
    siglip_export: Exported, tiny_siglip_qwen2: Path, tmp_path: Path
) -> None:
    """An unknown format and an fp16 folder are refused by name."""
    with pytest.raises(InputError, match="int3"):
        quantize_decoders(siglip_export[0], formats=("int3",))
    export_onnx(tiny_siglip_qwen2, tmp_path / "half", dtype="fp16", variants=("plain",))
    with pytest.raises(InputError, match="fp32"):
        quantize_decoders(tmp_path / "half")


def test_an_int4_export_holds_int4_decoders_and_says_what_they_cost(
    tiny_siglip_qwen2: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No fp32 decoder is left; the checks are of the graphs before, the limits of what is there."""
    from topovlm import cli
    from topovlm.runtime.engine import Engine

    folder = tmp_path / "int4"
    asked = ["export", "--model", str(tiny_siglip_qwen2), "--dtype", "int4", "-o", str(folder), "--json"]
    assert cli.main(asked) == 0
    record = decode(capsys.readouterr().out, ExportRecord, field="record", name="--json")
    assert (record.exporter, record.dtype) == ("onnx", "int4")
    assert {path.name for path in (folder / "onnx").iterdir()} == {
        "vision_encoder.onnx",
        "embed_tokens.onnx",
        "decoder_model_merged_q4.onnx",
        "decoder_model_merged_fused_q4.onnx",
    }
    client = json.loads((folder / "config.json").read_text())["transformers.js_config"]
    assert client["dtype"] == {
        "vision_encoder": "fp32",
        "embed_tokens": "fp32",
        "decoder_model_merged": "q4",
    }
    assert record.checks
    assert all(check.passed and "fp32 (before int4)" in check.name for check in record.checks)
    assert [limit.split()[0] for limit in record.limits] == ["decoder_q4", "decoder_fused_q4"]
    assert [artifact.checked for artifact in record.artifacts] == [False]
    assert {file.path for file in record.files} == {
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    }
    assert Engine(folder).generate([tiny.picture(0, 32)], tiny.PROMPTS[0], max_new_tokens=2).token_ids


@pytest.mark.parametrize("dtype", ["int8", "int4"])
def test_experts_stay_as_they_are_and_are_named(dtype: str, tmp_path: Path) -> None:
    """A mixture of experts is exported: what is not quantised is said with its size, and the graph runs."""
    folder = tiny_families.build(tmp_path / "x", "qwen3_vl_moe", layers=2)
    record = export_onnx(folder, tmp_path / "out", dtype=dtype)
    (said,) = (limit for limit in record.limits if "stay fp32" in limit)
    engine = Engine(tmp_path / "out", threads=1)
    graph = onnx.load(engine.decoder.path).graph
    left = {t.name: len(t.raw_data) for t in graph.initializer if ".experts." in t.name}
    assert len(left) == 2  # gates with ups, downs; the other layer is dense
    assert f"{sum(left.values()) / 1e6:.4g} of" in said
    assert len(engine.generate([], "What is this?", 3).token_ids) >= 1


def test_greedy_tokens_take_one_prefill(siglip_export: Exported) -> None:
    """The tokens that both graphs are compared on are chosen as they come, each by the logits before it."""
    folder, _ = siglip_export
    question = make_questions(folder, 4)[1]
    graphs = open_graphs(folder, read_runtime_file(folder), "decoder")
    tokens, logits = graphs.greedy(question.prompt, 4)
    last = len(question.prompt.ids) - 1
    assert tokens.tolist() == logits[last : last + 4].argmax(-1).tolist()
    np.testing.assert_allclose(graphs.run(question.prompt, tokens), logits, atol=1e-5)
    engine = Engine(folder, variant="plain", threads=1)
    assert engine.generate_prepared(question.prompt, 4, stop_at_eos=False).token_ids == tokens.tolist()
