"""Verification: right checkpoints pass, each kind of wrong one is caught."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file, save_file

from tests import tiny
from topovlm.checkpoint.live import bypassed, collate, encode, greedy, load
from topovlm.checkpoint.loading import TooLargeError
from topovlm.checkpoint.surgery import prune_checkpoint
from topovlm.checkpoint.verify import verify_checkpoint, verify_files
from topovlm.errors import InputError, VerificationError

# What generation_config.json may say that only constrains how answers are drawn.
SETTINGS: dict[str, Any] = {
    "assistant_early_exit": 2,
    "bad_words_ids": [[5], [7, 8]],
    "begin_suppress_tokens": [5, 6, 7],
    "cache_implementation": "static",
    "do_sample": True,
    "dola_layers": "high",
    "early_stopping": True,
    "encoder_no_repeat_ngram_size": 2,
    "encoder_repetition_penalty": 3.0,
    "exponential_decay_length_penalty": [2, 2.0],
    "forced_bos_token_id": 5,
    "forced_eos_token_id": 3,
    "guidance_scale": 2.0,
    "length_penalty": 2.0,
    "max_length": 5,
    "max_new_tokens": 1,
    "max_time": 1e-5,
    "min_length": 500,
    "min_new_tokens": 30,
    "min_p": 0.1,
    "no_repeat_ngram_size": 2,
    "num_assistant_tokens": 4,
    "num_beams": 4,
    "output_attentions": True,
    "output_hidden_states": True,
    "penalty_alpha": 0.6,
    "prefill_chunk_size": 4,
    "prompt_lookup_num_tokens": 3,
    "renormalize_logits": True,
    "repetition_penalty": 5.0,
    "return_dict_in_generate": True,
    "sequence_bias": [[[7], 10.0]],
    "stop_strings": ["a", "e"],
    "suppress_tokens": list(range(5, 200)),
    "temperature": 0.1,
    "token_healing": True,
    "top_k": 3,
    "top_p": 0.2,
    "typical_p": 0.5,
    "use_cache": False,
    "watermarking_config": {"bias": 5.0, "greenlist_ratio": 0.5, "seeding_scheme": "lefthash"},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_of_sampling_fail_no_sound_checkpoint(
    name: str, tiny_siglip_qwen2: Path, tmp_path: Path
) -> None:
    """Verified as without the setting, which changes no greedy answer of a judgement either."""
    folder = shutil.copytree(tiny_siglip_qwen2, tmp_path / "m")
    file = folder / "generation_config.json"
    plain = load(folder)
    file.write_text(json.dumps({**json.loads(file.read_text()), name: SETTINGS[name]}))
    live = load(folder)
    assert verify_checkpoint(folder, dense=plain).generated_tokens == 32
    prompts = [encode(live, sample) for sample in tiny.samples(2)]
    assert greedy(live, prompts, 8) == greedy(plain, prompts, 8)


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("drop", [[1], [2, 3], [1, 4]])
def test_pruned_checkpoints_equal_the_bypassed_dense_model(
    family: str, drop: list[int], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Reload, cache and logits agree with the source whose layers are bypassed in memory."""
    source = request.getfixturevalue(f"tiny_{family.replace('-', '_')}")
    prune_checkpoint(source, tmp_path / "slim", drop)
    report = verify_checkpoint(
        tmp_path / "slim", dense=source, dropped=drop, samples=[*tiny.samples(2), *tiny.samples(1, 5, 2)]
    )
    assert report.layers == 6 - len(drop)
    assert report.prompts == 3
    assert report.generated_tokens == 48
    assert report.dense_difference is not None
    assert max(report.cache_difference, report.dense_difference, report.batch_difference) < 1e-4


def test_sliding_windows_follow_their_layers(tmp_path: Path) -> None:
    """With a short window on the later layers, the kept layers keep their own kind of attention."""
    source = tiny.build(tmp_path / "dense", "siglip-qwen2")
    config = json.loads((source / "config.json").read_text())
    kinds = ["full_attention", "sliding_attention"] * 3
    config["text_config"].update(
        layer_types=kinds, use_sliding_window=True, sliding_window=4, max_window_layers=0
    )
    (source / "config.json").write_text(json.dumps(config))
    prune_checkpoint(source, tmp_path / "slim", [2, 3, 4])
    report = verify_checkpoint(tmp_path / "slim", dense=source, dropped=[2, 3, 4])
    assert report.dense_difference is not None
    slim = json.loads((tmp_path / "slim" / "config.json").read_text())
    assert slim["text_config"]["layer_types"] == [kinds[0], kinds[1], kinds[5]]
    slim["text_config"]["layer_types"] = ["full_attention"] * 3
    (tmp_path / "slim" / "config.json").write_text(json.dumps(slim))
    with pytest.raises(VerificationError, match="not those of the source"):
        verify_checkpoint(tmp_path / "slim", dense=source, dropped=[2, 3, 4])


def test_wrong_layers_and_wrong_weights_are_caught(tiny_clip_llama: Path, tmp_path: Path) -> None:
    """Another cut than claimed, a wrong count, one perturbed tensor, a missing tensor."""
    slim = tmp_path / "slim"
    prune_checkpoint(tiny_clip_llama, slim, [2])
    with pytest.raises(VerificationError, match="not those of the source"):
        verify_checkpoint(slim, dense=tiny_clip_llama, dropped=[3])
    with pytest.raises(VerificationError, match="less 2 are not 5"):
        verify_checkpoint(slim, dense=tiny_clip_llama, dropped=[2, 3])
    weights = load_file(slim / "model.safetensors")
    name = "language_model.model.layers.3.mlp.up_proj.weight"
    changed = {**weights, name: weights[name] * 1.5}
    save_file(changed, slim / "model.safetensors", {"format": "pt"})
    with pytest.raises(VerificationError, match="not those of the source"):
        verify_checkpoint(slim, dense=tiny_clip_llama, dropped=[2])
    save_file(
        {key: value for key, value in weights.items() if key != name},
        slim / "model.safetensors",
        {"format": "pt"},
    )
    with pytest.raises(VerificationError, match=r"does not load.*up_proj") as caught:
        verify_checkpoint(slim)
    assert (caught.value.field, caught.value.value) == ("checkpoint", str(slim))
    broken = {**weights, name: weights[name] * float("nan")}
    save_file(broken, slim / "model.safetensors", {"format": "pt"})
    with pytest.raises(VerificationError, match="not finite"):
        verify_checkpoint(slim)


def test_a_cache_tied_to_old_indices_is_caught(
    tiny_siglip_qwen2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two blocks that share a cache slot generate differently with a cache: the check sees it."""
    from topovlm.checkpoint import live as live_module

    original = live_module.load

    def with_shared_slot(*args: object, **kwargs: object) -> live_module.Live:
        live = original(*args, **kwargs)  # type: ignore[arg-type]
        live.blocks[3].self_attn.layer_idx = 2
        return live

    monkeypatch.setattr(live_module, "load", with_shared_slot)
    with pytest.raises(VerificationError, match="cached and uncached"):
        verify_checkpoint(tiny_siglip_qwen2)


def test_a_model_that_sees_padding_is_caught(
    tiny_siglip_qwen2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A block that looks at the whole row, padding too, gives a prompt other states in a batch than alone."""
    from topovlm.checkpoint import live as live_module

    original = live_module.load

    def far_sighted(*args: object, **kwargs: object) -> live_module.Live:
        live = original(*args, **kwargs)  # type: ignore[arg-type]
        live.blocks[3].register_forward_hook(lambda _block, _args, out: out + out.mean(1, keepdim=True))
        return live

    monkeypatch.setattr(live_module, "load", far_sighted)
    with pytest.raises(VerificationError, match="in a batch than alone"):
        verify_checkpoint(tiny_siglip_qwen2)


def test_bypassing_restores_the_model(tiny_siglip_qwen2: Path) -> None:
    """Bypassed layers change the output only inside the block."""
    live = load(tiny_siglip_qwen2)
    batch = collate(live, [encode(live, tiny.samples(1)[0])])
    before = live.model(**batch).logits
    with bypassed(live, [2]):
        inside = live.model(**batch, use_cache=False).logits
    assert (live.model(**batch).logits - before).abs().max() == 0
    assert (inside - before).abs().max() > 0.1


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_greedy_answers_do_not_depend_on_the_batch(family: str, request: pytest.FixtureRequest) -> None:
    """Prompts of different lengths and picture counts answer alike alone and together."""
    live = load(request.getfixturevalue(f"tiny_{family.replace('-', '_')}"))
    prompts = [encode(live, sample) for sample in [*tiny.samples(4), *tiny.samples(2, 3, images=2)]]
    assert greedy(live, prompts, 6) == [greedy(live, [prompt], 6)[0] for prompt in prompts]


def test_prompts_and_folders_that_cannot_be_used_are_explained(
    tiny_siglip_qwen2: Path, tmp_path: Path
) -> None:
    """A prompt with the image token in it, and a checkpoint without a chat template."""
    import shutil
    from dataclasses import replace

    live = load(tiny_siglip_qwen2)
    sample = replace(tiny.samples(1)[0], prompt="What is <image>?", source="data.jsonl:7")
    with pytest.raises(InputError, match=r"data\.jsonl:7: prompt.*<image>"):
        encode(live, sample)
    folder = Path(shutil.copytree(tiny_siglip_qwen2, tmp_path / "model"))
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(InputError, match="chat template"):
        load(folder)


def test_a_model_larger_than_memory_is_refused_before_loading(
    tiny_siglip_qwen2: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The message names what is needed and what is free; it is no finding about a written checkpoint."""
    from topovlm.checkpoint import loading

    monkeypatch.setattr(loading, "free_memory_bytes", lambda: 2048)
    for load_it in (load, verify_checkpoint):
        words = r"needs .* of memory as float32, with one layer at a time, 2\.00 KiB are free"
        with pytest.raises(TooLargeError, match=words):
            load_it(tiny_siglip_qwen2)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_files_are_compared_without_loading(
    family: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """A right pruning passes; another cut, a changed byte, a missing tensor and a broken file do not."""
    source = request.getfixturevalue(f"tiny_{family.replace('-', '_')}")
    slim = tmp_path / "slim"
    report = prune_checkpoint(source, slim, [1, 4])
    weights = load_file(slim / "model.safetensors")
    assert verify_files(slim, source, [1, 4]) == len(weights)
    with pytest.raises(VerificationError, match="differs from the source"):
        verify_files(slim, source, [2, 4])
    with pytest.raises(VerificationError, match="less 1 are not 4"):
        verify_files(slim, source, [1])
    name = next(name for name in weights if ".3.mlp.up_proj" in name)
    save_file({**weights, name: weights[name] + 1}, slim / "model.safetensors", {"format": "pt"})
    with pytest.raises(VerificationError, match=r"3\.mlp\.up_proj.*differs from the source's .*5\.mlp\.up"):
        verify_files(slim, source, [1, 4])
    tower = next(name for name in weights if "vision_tower" in name)
    fewer = {key: value for key, value in weights.items() if key != tower}
    save_file(fewer, slim / "model.safetensors", {"format": "pt"})
    with pytest.raises(VerificationError, match="was not written"):
        verify_files(slim, source, [1, 4])
    (slim / report.weight_files[0]).write_bytes(b"short")
    with pytest.raises(VerificationError, match=r"cannot be opened.*truncated"):
        verify_files(slim, source, [1, 4])


def test_prune_without_memory(
    tiny_siglip_qwen2: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Refused before anything is written, with the way out; that way writes, and says what it left out."""
    from topovlm.checkpoint import loading
    from topovlm.cli import main

    monkeypatch.setattr(loading, "free_memory_bytes", lambda: 2048)
    words = [
        "prune",
        "--model",
        str(tiny_siglip_qwen2),
        "--drop",
        "2,3",
        "-o",
        str(tmp_path / "slim"),
        "--json",
    ]
    assert main(words) == 2
    assert "--no-verify" in json.loads(capsys.readouterr().out)["error"]["message"]
    assert list(tmp_path.iterdir()) == []
    assert main([*words, "--no-verify"]) == 0
    out, err = capsys.readouterr()
    facts = json.loads(out)
    assert (facts["verified"], facts["files_compared"] > 0) == (None, True)
    assert "NOT VERIFIED" in err
    monkeypatch.undo()
    verify_checkpoint(tmp_path / "slim", dense=tiny_siglip_qwen2, dropped=[2, 3])
