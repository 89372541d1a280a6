"""The gate closes: on wrong weights, wrong wiring, and on models it could not judge."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from topovlm.errors import VerificationError
from topovlm.exporters.onnx import sessions
from topovlm.exporters.onnx.parity import check_graphs, check_parity
from topovlm.exporters.protocol import ExportRecord

Exported = tuple[Path, ExportRecord]


def _edited(exported: Exported, tmp_path: Path, name: str) -> tuple[Path, onnx.ModelProto, Path]:
    folder = tmp_path / "edited"
    shutil.copytree(exported[0], folder)
    file = folder / "onnx" / f"{name}.onnx"
    return folder, onnx.load(file), file


def test_untouched_folder_passes(siglip_export: Exported, tiny_siglip_qwen2: Path) -> None:
    """The gate can be run again on a folder that is already there."""
    again = check_parity(tiny_siglip_qwen2, siglip_export[0])
    assert [row.graph for row in again] == [row.graph for row in siglip_export[1].parity]


def few_logits(tokens: int, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logits of so many tokens are as much as may be held of a prompt's."""
    vocabulary = json.loads((model / "config.json").read_text())["text_config"]["vocab_size"]
    monkeypatch.setattr(sessions, "_MOST_LOGITS_BYTES", tokens * 4 * vocabulary)


def test_long_prompts_are_compared_where_they_end(
    siglip_export: Exported, tiny_siglip_qwen2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real vocabulary's logits of whole prompts are gigabytes; controls are seen nonetheless."""
    few_logits(5, tiny_siglip_qwen2, monkeypatch)
    rows = check_parity(tiny_siglip_qwen2, siglip_export[0])
    assert {row.compared_tokens for row in rows} == {5}
    whole = siglip_export[1].parity
    assert all(row.compared_tokens == row.prompt_tokens for row in whole)
    assert all(a.max_logit_error <= a.limit for a in rows)


@pytest.fixture(params=[3, 1 << 20])
def compared(request: pytest.FixtureRequest, tiny_siglip_qwen2: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Last tokens of a prompt that are compared: few, or all."""
    few_logits(request.param, tiny_siglip_qwen2, monkeypatch)
    return int(request.param)


@pytest.mark.usefixtures("compared")
@pytest.mark.parametrize("name", ["decoder_model_merged", "decoder_model_merged_fused", "vision_encoder"])
def test_slightly_wrong_weight_fails(
    name: str, siglip_export: Exported, tiny_siglip_qwen2: Path, tmp_path: Path
) -> None:
    """One matrix off by 1 % is enough, in any graph that ships."""
    folder, model, file = _edited(siglip_export, tmp_path, name)
    largest = max(
        (t for t in model.graph.initializer if len(t.dims) == 2 and t.data_type == onnx.TensorProto.FLOAT),
        key=lambda t: t.dims[0] * t.dims[1],
    )
    values = onnx.numpy_helper.to_array(largest) * np.float32(1.01)
    largest.CopyFrom(onnx.numpy_helper.from_array(values, largest.name))
    onnx.save(model, file)
    with pytest.raises(VerificationError, match="logit error"):
        check_parity(tiny_siglip_qwen2, folder)


def test_swapped_cache_fails(siglip_export: Exported, tiny_siglip_qwen2: Path, tmp_path: Path) -> None:
    """Two layers' caches exchanged: prefill is right, the cached steps are not."""
    folder, model, file = _edited(siglip_export, tmp_path, "decoder_model_merged")
    swap = {"present.1.key": "present.2.key", "present.2.key": "present.1.key"}
    for node in model.graph.node:
        node.input[:] = [swap.get(n, n) for n in node.input]
        node.output[:] = [swap.get(n, n) for n in node.output]
    onnx.save(model, file)
    with pytest.raises(VerificationError, match="logit error"):
        check_parity(tiny_siglip_qwen2, folder)


def test_graph_that_ignores_the_mask_fails(
    siglip_export: Exported, tiny_siglip_qwen2: Path, tmp_path: Path
) -> None:
    """Without its padding mask a graph still answers one unpadded prompt rightly; the control notices."""
    folder, model, file = _edited(siglip_export, tmp_path, "decoder_model_merged_fused")
    greater = next(node for node in model.graph.node if node.op_type == "Greater")
    greater.op_type = "GreaterOrEqual"  # attention_mask >= 0: every slot is seen
    onnx.save(model, file)
    with pytest.raises(VerificationError, match=r"a masked token.*blind"):
        check_parity(tiny_siglip_qwen2, folder)


def test_graph_whose_pictures_do_not_matter_fails(
    siglip_export: Exported, tiny_siglip_qwen2: Path, tmp_path: Path
) -> None:
    """Features that are always zero, in graph and reference alike: equal, but the control notices."""
    from topovlm.checkpoint.live import load

    folder, model, file = _edited(siglip_export, tmp_path, "vision_encoder")
    (name,) = (value.name for value in model.graph.output)
    for node in model.graph.node:
        node.output[:] = ["seen" if output == name else output for output in node.output]
    zero = onnx.helper.make_tensor("nothing", onnx.TensorProto.FLOAT, [], [0.0])
    model.graph.initializer.append(zero)
    model.graph.node.append(onnx.helper.make_node("Mul", ["seen", "nothing"], [name]))
    onnx.save(model, file)
    live = load(tiny_siglip_qwen2)
    with pytest.raises(VerificationError, match="logit error"):
        check_graphs(live, folder)
    for value in live.parts.projector.parameters():
        value.data.zero_()
    with pytest.raises(VerificationError, match=r"no picture.*blind"):
        check_graphs(live, folder)


def test_a_runtime_that_writes_other_prompts_fails(
    siglip_export: Exported, tiny_siglip_qwen2: Path, tmp_path: Path
) -> None:
    """The graphs are right, but words would reach them otherwise than the model's own processor has it."""
    folder = tmp_path / "edited"
    shutil.copytree(siglip_export[0], folder)
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text().replace("<|user|>", "<|user|> "))
    with pytest.raises(VerificationError, match=r"in the model's own processor; place 1 is the first that"):
        check_parity(tiny_siglip_qwen2, folder)
