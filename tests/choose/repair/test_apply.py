"""Repair on disk: written when it helps, byte for byte untouched when it does not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests import tiny
from topovlm.checkpoint.live import bypassed, encode, greedy, load
from topovlm.checkpoint.surgery import prune_checkpoint
from topovlm.checkpoint.verify import verify_checkpoint
from topovlm.choose.repair.apply import repair_checkpoint
from topovlm.choose.repair.fit import AT_CUTS, EVERYWHERE, Ways
from topovlm.errors import InputError

DROP = [2, 4]
FIT, CONFIRM = tiny.samples(32, seed=1), tiny.samples(8, seed=2)


def _kl_on_disk(dense_folder: Path, slim_folder: Path) -> float:
    """KL(dense || slim) on the confirming samples from two reloaded checkpoints, sample by sample."""
    dense, slim = load(dense_folder), load(slim_folder)
    total = 0.0
    for sample in CONFIRM:
        prompt = encode(dense, sample)
        ids = torch.cat([prompt.input_ids, torch.tensor(greedy(dense, [prompt], 4)[0])])[None]
        with torch.inference_mode():
            log_p, log_q = (
                model.model(input_ids=ids, **prompt.extra).logits[0, prompt.length - 1 : -1].log_softmax(-1)
                for model in (dense, slim)
            )
        total += float((log_p.exp() * (log_p - log_q)).sum(-1).mean())
    return total / len(CONFIRM)


@pytest.mark.parametrize(
    ("family", "dtype", "shard"), [("siglip-qwen2", "float16", "5GB"), ("clip-llama", "bfloat16", "60KB")]
)
def test_the_written_checkpoint_has_the_reported_kl(
    family: str, dtype: str, shard: str, tmp_path: Path
) -> None:
    """Reloaded from disk, in its own precision; only the down-projections before the cuts differ."""
    dense = tiny.build(tmp_path / "dense", family, dtype=dtype, max_shard_size=shard)
    slim = tmp_path / "slim"
    prune_checkpoint(dense, slim, DROP)
    before = {name: value for file in slim.glob("*.safetensors") for name, value in load_file(file).items()}
    files = sorted(path.name for path in slim.iterdir())
    report = repair_checkpoint(dense, slim, DROP, FIT, CONFIRM, max_new_tokens=4)
    assert report.kept
    assert report.kl_after < report.kl_before
    assert _kl_on_disk(dense, slim) == pytest.approx(report.kl_after, rel=1e-3)
    after = {name: value for file in slim.glob("*.safetensors") for name, value in load_file(file).items()}
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {f"language_model.model.layers.{layer}.mlp.down_proj.weight" for layer in (1, 2)}
    assert {value.dtype for value in after.values()} == {getattr(torch, dtype)}
    assert sorted(path.name for path in slim.iterdir()) == files
    assert "## Repair" in (slim / "README.md").read_text()
    verify_checkpoint(slim)


def test_all_layers_behind_a_cut_do_more_than_the_cuts(tmp_path: Path) -> None:
    """On samples that fitted nothing; those before the first cut stay, and the card names the others."""
    dense, found = tiny.build(tmp_path / "dense", "siglip-qwen2"), {}
    for name, ways in (("cuts", AT_CUTS), ("all", EVERYWHERE)):
        slim = tmp_path / name
        prune_checkpoint(dense, slim, DROP)
        before = load_file(slim / "model.safetensors")
        report = repair_checkpoint(dense, slim, DROP, FIT, CONFIRM, ways=ways, max_new_tokens=4)
        after = load_file(slim / "model.safetensors")
        changed = {key for key in before if not torch.equal(before[key], after[key])}
        found[name] = report, changed
        assert _kl_on_disk(dense, slim) == pytest.approx(report.kl_after, rel=1e-3)
    (cuts, fewer), (everywhere_report, more) = found["cuts"], found["all"]
    assert everywhere_report.kl_after < cuts.kl_after
    assert fewer < more
    assert not any(".layers.0." in key for key in more)
    assert [cut.anchor for cut in everywhere_report.cuts] == [1, 3, 5]
    assert "| none | 5 |" in (tmp_path / "all" / "README.md").read_text()


def test_no_help_no_change(tiny_clip_llama: Path, tmp_path: Path) -> None:
    """When the confirming samples do not gain, every byte stays."""
    slim = tmp_path / "slim"
    prune_checkpoint(tiny_clip_llama, slim, [3])
    before = {path.name: path.read_bytes() for path in slim.iterdir()}
    live = load(tiny_clip_llama)
    # A ridge so strong that the repair rounds to nothing.
    report = repair_checkpoint(
        live, slim, [3], FIT[:8], CONFIRM, ways=Ways(lambdas=(1e30,)), max_new_tokens=2
    )
    assert not report.kept
    assert report.kl_after == report.kl_before
    assert {path.name: path.read_bytes() for path in slim.iterdir()} == before


def test_repeated_runs_write_the_same_bytes(tiny_siglip_qwen2: Path, tmp_path: Path) -> None:
    """Deterministic given the seed."""
    digests = []
    for name in ("one", "two"):
        prune_checkpoint(tiny_siglip_qwen2, tmp_path / name, DROP)
        repair_checkpoint(tiny_siglip_qwen2, tmp_path / name, DROP, FIT, CONFIRM, max_new_tokens=2)
        digests.append((tmp_path / name / "model.safetensors").read_bytes())
    assert digests[0] == digests[1]


def test_mismatched_folders_and_too_few_samples_are_refused(tiny_siglip_qwen2: Path, tmp_path: Path) -> None:
    """The pruned model must be the dense one less the layers named; a repair needs samples of both kinds."""
    slim = tmp_path / "slim"
    prune_checkpoint(tiny_siglip_qwen2, slim, DROP)
    live = load(tiny_siglip_qwen2)
    with pytest.raises(InputError, match="6 less 1"):
        repair_checkpoint(live, slim, [2], FIT, CONFIRM)
    with pytest.raises(InputError, match="too few"):
        repair_checkpoint(live, slim, DROP, FIT[:1], CONFIRM)


def test_bypass_equals_surgery_before_repair(tiny_siglip_qwen2: Path, tmp_path: Path) -> None:
    """What the repair assumes of its slim model holds on disk: the same next-token distribution."""
    slim_folder = tmp_path / "slim"
    prune_checkpoint(tiny_siglip_qwen2, slim_folder, DROP)
    dense, slim = load(tiny_siglip_qwen2), load(slim_folder)
    prompt = encode(dense, CONFIRM[0])
    with torch.inference_mode(), bypassed(dense, DROP):
        expected = dense.model(input_ids=prompt.input_ids[None], **prompt.extra, use_cache=False).logits
        torch.testing.assert_close(
            slim.model(input_ids=prompt.input_ids[None], **prompt.extra, use_cache=False).logits, expected
        )
