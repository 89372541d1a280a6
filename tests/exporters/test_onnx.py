"""Exported folders: names, symbols, files, refusals; a folder appears whole or not at all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import onnx
import pytest

from tests import tiny
from tests.exporters.answers import greedy
from topovlm.errors import InputError, VerificationError
from topovlm.exporters.onnx.export import export_onnx
from topovlm.exporters.protocol import ExportRecord
from topovlm.records import decode, encode

LAYERS, KV_HEADS, HEAD_DIM, WIDTH = 6, 2, 16, 64
Exported = tuple[Path, ExportRecord]


def _dims(value: Any) -> list[int | str]:
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


@pytest.fixture(params=["siglip", "clip"])
def exported(request: pytest.FixtureRequest) -> Exported:
    """Either family."""
    return request.getfixturevalue(f"{request.param}_export")


def test_plain_decoder_has_the_conventional_names_and_symbols(exported: Exported) -> None:
    """Names are those transformers.js feeds; the past's axis 0 is literally batch_size."""
    graph = onnx.load(exported[0] / "onnx/decoder_model_merged.onnx").graph
    names = [value.name for value in graph.input]
    past = [f"past_key_values.{i}.{kind}" for i in range(LAYERS) for kind in ("key", "value")]
    assert names == ["inputs_embeds", "attention_mask", "position_ids", *past, "num_logits_to_keep"]
    present = [f"present.{i}.{kind}" for i in range(LAYERS) for kind in ("key", "value")]
    assert [value.name for value in graph.output] == ["logits", *present]
    inputs = {value.name: _dims(value) for value in graph.input}
    assert inputs["inputs_embeds"] == ["batch_size", "sequence_length", WIDTH]
    assert inputs["attention_mask"] == ["batch_size", "total_sequence_length"]
    assert all(inputs[name] == ["batch_size", KV_HEADS, "past_sequence_length", HEAD_DIM] for name in past)


@pytest.mark.parametrize("name", ["decoder_model_merged", "decoder_model_merged_fused"])
def test_as_many_logits_as_are_asked_for(exported: Exported, name: str) -> None:
    """Clients that ask for nothing, or for 0, get all rows as ever; else the last so many, the same ones."""
    import numpy as np
    import onnxruntime

    session = onnxruntime.InferenceSession(exported[0] / f"onnx/{name}.onnx")
    assert "num_logits_to_keep" not in [value.name for value in session.get_inputs()]  # nobody has to
    rng = np.random.default_rng(0)
    feeds = {
        "inputs_embeds": rng.standard_normal((1, 5, WIDTH)).astype(np.float32),
        "attention_mask": np.ones((1, 5), np.int64),
        "position_ids": np.arange(5)[None],
        **{
            f"past_key_values.{i}.{kind}": np.zeros((1, KV_HEADS, 0, HEAD_DIM), np.float32)
            for i in range(LAYERS)
            for kind in ("key", "value")
        },
    }
    (whole,) = session.run(["logits"], feeds)
    assert whole.shape[:2] == (1, 5)
    for count in (0, 1, 3):
        (rows,) = session.run(["logits"], {**feeds, "num_logits_to_keep": np.asarray(count)})
        np.testing.assert_allclose(rows, whole[:, -count:], rtol=1e-5, atol=1e-5)


def test_plain_graphs_are_standard_onnx(exported: Exported) -> None:
    """Only the default operator set, and onnx's own checker agrees: TensorRT can take them."""
    for name in ("vision_encoder", "embed_tokens", "decoder_model_merged"):
        model = onnx.load(exported[0] / f"onnx/{name}.onnx")
        assert {node.domain for node in model.graph.node} == {""}
        assert [entry.domain for entry in model.opset_import] == [""]
        onnx.checker.check_model(model, full_check=True)


def test_fused_decoder_has_one_fused_attention_per_layer(exported: Exported) -> None:
    """All attention is ONNX Runtime's own; no plain softmax is left."""
    folder, report = exported
    nodes = onnx.load(folder / "onnx/decoder_model_merged_fused.onnx").graph.node
    kinds = [node.op_type for node in nodes]
    assert kinds.count("GroupQueryAttention") == LAYERS == report.facts["fused_attentions"]
    assert "Softmax" not in kinds
    assert kinds.count("SkipSimplifiedLayerNormalization") == 2 * LAYERS


def test_parity_is_measured_on_every_decoder_graph(exported: Exported) -> None:
    """Both prompts on both graphs, eight cached steps, errors near fp32's own; controls far above."""
    report = exported[1]
    single = [row for row in report.parity if row.control_mask_error is not None]
    assert [row.graph for row in single] == ["decoder"] * 2 + ["decoder_fused"] * 2
    assert len({row.prompt_tokens for row in single}) == 2
    for row in single:
        assert row.decode_steps >= 8
        assert row.max_logit_error <= 1e-4 * row.max_logit
        assert row.control_position_error is not None
        assert row.control_position_error > 100 * row.max_logit_error
        assert row.control_mask_error > 100 * row.max_logit_error
        assert row.control_picture_error is not None
        assert row.control_picture_error > 100 * row.max_logit_error
    assert sum(row.control_mask_error is None for row in report.parity) == 1  # the padded batch, plain only
    controls = [check for check in report.checks if check.name.startswith("negative control (picture)")]
    assert len(controls) == 4
    assert all(check.passed and check.rule == "more than" for check in controls)


def test_weights_of_each_layer_are_its_own(siglip_export: Exported, tiny_siglip_qwen2: Path) -> None:
    """Repeating one traced layer must not repeat its weights: compared with the checkpoint's tensors."""
    import numpy as np
    from safetensors.numpy import load_file

    held = load_file(tiny_siglip_qwen2 / "model.safetensors")
    graph = onnx.load(siglip_export[0] / "onnx/decoder_model_merged.onnx").graph
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    for layer in range(LAYERS):
        name = next(
            n for n in held if n.endswith(f"layers.{layer}.mlp.gate_proj.weight") and "vision" not in n
        )
        np.testing.assert_array_equal(stored[f"layers.{layer}.layer.mlp.gate_proj.weight_t"], held[name].T)


def test_report_lists_the_files_that_are_there(exported: Exported) -> None:
    """Sizes and hashes of exactly the files on disk; the record survives storage."""
    folder, report = exported
    on_disk = {p.relative_to(folder).as_posix(): p.stat().st_size for p in folder.rglob("*") if p.is_file()}
    assert {file.path: file.size_bytes for file in report.files} == on_disk
    assert decode(encode(report), ExportRecord, field="record", name="report") == report


def test_second_export_gives_the_same_bytes(
    siglip_export: Exported, tiny_siglip_qwen2: Path, tmp_path: Path
) -> None:
    """Content hashes of a run survive a repetition."""
    again = export_onnx(tiny_siglip_qwen2, tmp_path / "again")
    assert again.files == siglip_export[1].files


def test_a_loaded_model_is_exported_to_the_same_bytes_and_left_as_it_was(
    siglip_export: Exported, tiny_siglip_qwen2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It spares loading: the files are those of an export from disk, and its attention returns."""
    from topovlm.checkpoint import live, loading

    model = live.load(tiny_siglip_qwen2).model
    parts = (model.config, model.config.text_config, model.config.vision_config)
    kinds = [part._attn_implementation for part in parts]
    loaded: list[str] = []
    monkeypatch.setattr(loading, "load_model", lambda *_, **__: loaded.append("again"))
    record = export_onnx(tiny_siglip_qwen2, tmp_path / "live", model=model)
    assert record.files == siglip_export[1].files
    assert loaded == []
    assert [part._attn_implementation for part in parts] == kinds == ["sdpa"] * 3
    assert str(model.dtype) == "torch.float32"


def test_a_loaded_model_of_another_precision_is_not_used(tiny_siglip_qwen2: Path, tmp_path: Path) -> None:
    """fp16 graphs come from the folder: the fp32 model in memory stays what it is, and so do the files."""
    from topovlm.checkpoint import live

    model = live.load(tiny_siglip_qwen2).model
    facts: dict[str, Any] = {"dtype": "fp16", "variants": ("plain",)}
    record = export_onnx(tiny_siglip_qwen2, tmp_path / "live", model=model, **facts)
    assert record.files == export_onnx(tiny_siglip_qwen2, tmp_path / "disk", **facts).files
    assert str(model.dtype) == "torch.float32"


def test_models_of_other_depth_are_not_traced_again(tiny_siglip_qwen2: Path, tmp_path: Path) -> None:
    """Dense and slim share their traced pieces, and the slim one still passes its own gate."""
    from topovlm.exporters.onnx import pieces

    export_onnx(tiny_siglip_qwen2, tmp_path / "dense", variants=("plain",))
    traced = set(pieces._memory)
    slim = tiny.build(tmp_path / "model", layers=3, seed=1)
    report = export_onnx(slim, tmp_path / "slim", variants=("plain",))
    assert set(pieces._memory) == traced
    graph = onnx.load(tmp_path / "slim/onnx/decoder_model_merged.onnx").graph
    assert len(graph.output) == 1 + 2 * 3
    assert all(row.max_logit_error <= 1e-4 * row.max_logit for row in report.parity)


@pytest.mark.parametrize("variant", ["plain", "fused"])
def test_runtime_answers_like_torch(exported: Exported, variant: str, request: pytest.FixtureRequest) -> None:
    """The torch-free engine on the exported folder gives transformers' greedy tokens."""
    from topovlm.runtime.engine import Engine

    family = "tiny_siglip_qwen2" if exported[0].name.startswith("siglip") else "tiny_clip_llama"
    pairs = [(tiny.picture(seed, 32), tiny.PROMPTS[seed]) for seed in range(2)]
    engine = Engine(exported[0], variant=variant)
    got = [engine.generate([image], prompt, max_new_tokens=8).token_ids for image, prompt in pairs]
    assert got == greedy(request.getfixturevalue(family), pairs, 8)


def test_half_precision_export_passes_its_own_gate(tiny_siglip_qwen2: Path, tmp_path: Path) -> None:
    """fp16 weights and cache under the fp16 suffix, logits in fp32, within the fp16 tolerance."""
    report = export_onnx(tiny_siglip_qwen2, tmp_path / "half", dtype="fp16", variants=("plain",))
    model = onnx.load(tmp_path / "half/onnx/decoder_model_merged_fp16.onnx")
    logits, *cache = (value.type.tensor_type.elem_type for value in model.graph.output)
    assert logits == onnx.TensorProto.FLOAT
    assert set(cache) == {onnx.TensorProto.FLOAT16}
    assert all(row.max_logit_error <= 1e-2 * row.max_logit for row in report.parity)


def test_broken_weights_leave_nothing_behind(tiny_siglip_qwen2: Path, tmp_path: Path) -> None:
    """A checkpoint whose logits are NaN fails the gate; the folder that was there stays as it was."""
    import numpy as np
    from safetensors.numpy import load_file, save_file

    broken, out = tmp_path / "broken", tmp_path / "out"
    shutil.copytree(tiny_siglip_qwen2, broken)
    tensors = load_file(broken / "model.safetensors")
    name = next(n for n in tensors if n.endswith(".norm.weight"))
    tensors[name] = np.full_like(tensors[name], np.nan)
    save_file(tensors, broken / "model.safetensors", metadata={"format": "pt"})
    out.mkdir()
    (out / "kept.txt").write_text("kept")
    with pytest.raises(VerificationError, match="logit error"):
        export_onnx(broken, out)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["broken", "out"]
    assert [p.name for p in out.iterdir()] == ["kept.txt"]


def test_incomplete_weights_are_refused(tiny_siglip_qwen2: Path, tmp_path: Path) -> None:
    """A missing tensor would be drawn at random by transformers; a cut file cannot be read at all."""
    from safetensors.numpy import load_file, save_file

    source = tmp_path / "model"
    shutil.copytree(tiny_siglip_qwen2, source)
    tensors = load_file(source / "model.safetensors")
    gone = next(name for name in tensors if name.endswith("layers.2.mlp.up_proj.weight"))
    del tensors[gone]
    save_file(tensors, source / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"layers\.2\.mlp\.up_proj\.weight is missing"):
        export_onnx(source, tmp_path / "out")
    (source / "model.safetensors").write_bytes((source / "model.safetensors").read_bytes()[:5000])
    with pytest.raises(InputError, match=r"model\.safetensors"):
        export_onnx(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "blip-2"}, "blip-2"),
        (
            {"text_config": {"layer_types": ["chunked_attention"] * LAYERS}},
            r"text_config\.layer_types.*chunked_attention.*only full_attention and sliding_attention",
        ),
        ({"text_config": {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}}, "rope_type"),
    ],
)
def test_configs_outside_the_family_are_refused(
    tiny_siglip_qwen2: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    """One clear sentence, before any weight is read."""
    config = json.loads((tiny_siglip_qwen2 / "config.json").read_text())
    for key, value in change.items():
        config[key] = {**config[key], **value} if isinstance(value, dict) else value
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=message):
        export_onnx(tmp_path, tmp_path / "out")


MIXED = ["full_attention", "sliding_attention", "sliding_attention"] * 2
WINDOW = {"use_sliding_window": True, "sliding_window": 6, "layer_types": MIXED}


@pytest.fixture(scope="module")
def windowed(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """(checkpoint, record) of a decoder whose layers differ in kind; its export lies beside."""
    model = tiny.build(tmp_path_factory.mktemp("windowed") / "model", text=WINDOW)
    return model, export_onnx(model, model.with_name("out"))


@pytest.mark.parametrize("variant", ["plain", "fused"])
def test_a_decoder_whose_layers_differ_equals_torch(windowed: Exported, variant: str) -> None:
    """Layers with a window between layers without: parity in prefill, cached steps and a padded batch."""
    from topovlm.runtime.engine import Engine

    model, record = windowed
    assert [row.graph for row in record.parity] == ["decoder"] * 3 + ["decoder_fused"] * 2
    assert all(row.prompt_tokens > 3 * 6 for row in record.parity)
    assert all(row.max_logit_error <= 1e-4 * row.max_logit for row in record.parity)
    assert record.limits == ()
    pairs = [(tiny.picture(seed, 32), tiny.PROMPTS[seed]) for seed in range(2)]
    engine = Engine(model.with_name("out"), variant=variant)
    got = [engine.generate([image], prompt, max_new_tokens=8).token_ids for image, prompt in pairs]
    assert got == greedy(model, pairs, 8)


def test_each_kind_of_layer_is_traced_by_itself(windowed: Exported) -> None:
    """Kinds follow the configuration's, and every layer has the piece of its own kind."""
    from topovlm.checkpoint import live
    from topovlm.exporters.onnx.decoder import trace_decoder

    pieces = trace_decoder(live.load(windowed[0]).model)
    assert len(pieces.layers) == 2
    assert pieces.rules.window == WINDOW["sliding_window"]
    kinds = dict(zip(MIXED, pieces.kinds, strict=False))
    assert pieces.kinds == tuple(kinds[name] for name in MIXED)


def test_windows_matter(windowed: Exported, tmp_path: Path) -> None:
    """The model without its windows answers otherwise, and the gate sees it."""
    from topovlm.exporters.onnx.parity import check_parity

    wide = shutil.copytree(windowed[0], tmp_path / "model")
    config = json.loads((wide / "config.json").read_text())
    config["text_config"] |= {"layer_types": ["full_attention"] * LAYERS, "use_sliding_window": False}
    (wide / "config.json").write_text(json.dumps(config))
    with pytest.raises(VerificationError, match="logit error"):
        check_parity(wide, windowed[0].with_name("out"))


def test_a_missing_fused_form_is_left_out_with_a_reason(tmp_path: Path) -> None:
    """Beside the plain form it is a limit of the record; asked for alone it is refused."""
    model, out = tiny.build(tmp_path / "model", layers=2, text={"hidden_act": "gelu"}), tmp_path / "out"
    record = export_onnx(model, out)
    assert record.variants == ("plain",)
    assert {row.graph for row in record.parity} == {"decoder"}
    assert record.facts["fused_attentions"] == 0
    (limit,) = record.limits
    assert limit.startswith("no fused form: text_config.hidden_act = 'gelu': is not fused")
    assert {path.name for path in (out / "onnx").iterdir()} == {
        "vision_encoder.onnx",
        "embed_tokens.onnx",
        "decoder_model_merged.onnx",
    }
    with pytest.raises(InputError, match=r"hidden_act.*is not fused.*plain variant"):
        export_onnx(model, tmp_path / "other", variants=("fused",))
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [({"hidden_act": "gelu"}, "hidden_act"), ({"head_dim": 8}, "head_dim")],
)
def test_decoders_that_cannot_be_fused_are_refused_by_field(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    """Before anything is built; the remedy is the plain variant."""
    from transformers import LlavaConfig, LlavaForConditionalGeneration

    from topovlm.exporters.onnx.fused import check_fusible

    facts = tiny._configs("siglip-qwen2", 1, 64, 16, 64)
    for name, value in change.items():
        setattr(facts["text_config"], name, value)
    model = LlavaForConditionalGeneration(LlavaConfig(**facts, image_token_index=4))
    with pytest.raises(InputError, match=rf"{message}.*plain variant"):
        check_fusible(model)


def test_bad_arguments_are_refused(tiny_siglip_qwen2: Path, tmp_path: Path) -> None:
    """Unknown precision, unknown variant, a folder that is no checkpoint."""
    with pytest.raises(InputError, match="dtype"):
        export_onnx(tiny_siglip_qwen2, tmp_path / "out", dtype="bf16")
    with pytest.raises(InputError, match="variants"):
        export_onnx(tiny_siglip_qwen2, tmp_path / "out", variants=("fast",))
    with pytest.raises(InputError, match=r"config\.json"):
        export_onnx(tmp_path, tmp_path / "out")


def test_large_graphs_keep_their_weights_in_a_data_file(tiny_siglip_qwen2: Path, tmp_path: Path) -> None:
    """Past the single-file limit: `<graph>.onnx_data`, gate passed, and clients are told in config.json."""
    folder = tmp_path / "large"
    report = export_onnx(tiny_siglip_qwen2, folder, single_file_bytes=200_000)
    names = {Path(file.path).name: file.size_bytes for file in report.files}
    large = {"decoder_model_merged.onnx", "decoder_model_merged_fused.onnx"}
    assert {name for name in names if f"{name}_data" in names} == large
    assert all(names[f"{name}_data"] > 4 * names[name] for name in large)
    client = json.loads((folder / "config.json").read_text())["transformers.js_config"]
    assert client["use_external_data_format"] == dict.fromkeys(sorted(large), 1)
