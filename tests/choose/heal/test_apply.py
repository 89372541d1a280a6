"""Healing on disk: written when it helps, byte for byte untouched when it does not, resumed when killed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests import tiny, tiny_families
from topovlm.checkpoint.live import encode, greedy, load
from topovlm.checkpoint.surgery import prune_checkpoint
from topovlm.checkpoint.verify import verify_checkpoint
from topovlm.choose.heal.apply import heal_checkpoint
from topovlm.choose.heal.state import Kept
from topovlm.choose.heal.train import Clock, Recipe
from topovlm.choose.judge import Judge
from topovlm.errors import InputError

DROP = [2, 4]
TEACH, WATCHED, CONFIRM = tiny.samples(20, seed=1), tiny.samples(4, seed=3), tiny.samples(8, seed=2)


def ticking(seconds: float = 1.0, stops_after: int | None = None) -> Clock:
    """A clock that goes on by so much with every reading; the process is killed at one reading too many."""
    reads: Iterator[int] = itertools.count()

    def clock() -> float:
        read = next(reads)
        if read == stops_after:
            raise KeyboardInterrupt
        return seconds * read

    return clock


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return {name: value for file in folder.glob("*.safetensors") for name, value in load_file(file).items()}


def kl_on_disk(dense_folder: Path, slim_folder: Path) -> float:
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
    ("family", "dtype", "shard", "head"),
    [("siglip-qwen2", "float16", "5GB", False), ("clip-llama", "bfloat16", "60KB", True)],
)
def test_the_written_checkpoint_has_the_reported_kl(
    family: str, dtype: str, shard: str, head: bool, tmp_path: Path
) -> None:
    """Reloaded from disk, in its own precision. What lies beside the cuts differs, and no table of words."""
    dense = tiny.build(tmp_path / "dense", family, dtype=dtype, max_shard_size=shard)
    slim = tmp_path / "slim"
    prune_checkpoint(dense, slim, DROP)
    before, files = tensors(slim), sorted(path.name for path in slim.iterdir())
    report = heal_checkpoint(
        dense,
        slim,
        DROP,
        TEACH,
        held_out=WATCHED,
        confirm=CONFIRM,
        duration_s=40,
        max_new_tokens=4,
        clock=ticking(),
    )
    assert report.kept
    assert report.steps > 20
    assert report.held_out_best < report.held_out_before
    assert report.kl_after < report.kl_before
    assert kl_on_disk(dense, slim) == pytest.approx(report.kl_after, rel=1e-3)
    after = tensors(slim)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    decoder, beside = "language_model.model", (1, 2, 3)  # layers 1, 3 and 5 of the dense model
    whole = {name for name in before if name.startswith(tuple(f"{decoder}.layers.{n}." for n in beside))}
    outside = {f"{decoder}.norm.weight", *(["language_model.lm_head.weight"] if head else [])}
    # Biases of keys shift all scores of a query alike, and move nothing.
    assert changed | {name for name in whole if name.endswith("k_proj.bias")} == whole | outside
    assert (report.layers, report.head) == ((1, 3, 5), head)
    assert report.parameters == sum(before[name].numel() for name in whole | outside)
    assert {value.dtype for value in after.values()} == {getattr(torch, dtype)}
    assert sorted(path.name for path in slim.iterdir()) == files
    assert "## Healing" in (slim / "README.md").read_text()
    verify_checkpoint(slim)


@pytest.mark.parametrize("recipe", [Recipe(rate=30.0), Recipe(rate=1e-9)])
def test_no_help_no_change(recipe: Recipe, tiny_clip_llama: Path, tmp_path: Path) -> None:
    """Steps that ruin the model, and steps that round to nothing: every byte stays."""
    slim = tmp_path / "slim"
    prune_checkpoint(tiny_clip_llama, slim, [3])
    before = {path.name: path.read_bytes() for path in slim.iterdir()}
    report = heal_checkpoint(
        tiny_clip_llama,
        slim,
        [3],
        TEACH[:8],
        held_out=WATCHED[:2],
        confirm=CONFIRM[:2],
        duration_s=12,
        max_new_tokens=2,
        recipe=recipe,
        clock=ticking(),
    )
    assert not report.kept
    assert report.steps > 0
    assert {path.name: path.read_bytes() for path in slim.iterdir()} == before


def test_a_killed_training_ends_with_the_same_bytes(tiny_siglip_qwen2: Path, tmp_path: Path) -> None:
    """As one that nobody killed; the time that was spent counts. A state of something else is not taken."""
    live, written, reports = load(tiny_siglip_qwen2), [], []

    def heal(name: str, clock: Clock, kept: Kept | None = None) -> None:
        if not (tmp_path / name).exists():
            prune_checkpoint(tiny_siglip_qwen2, tmp_path / name, DROP)
        reports.append(
            heal_checkpoint(
                live,
                tmp_path / name,
                DROP,
                TEACH,
                held_out=WATCHED,
                confirm=CONFIRM,
                duration_s=600,
                max_new_tokens=2,
                clock=clock,
                kept=kept,
            )
        )
        written.append((tmp_path / name / "model.safetensors").read_bytes())

    heal("whole", ticking(20.0))
    state = tmp_path / "state"
    with pytest.raises(KeyboardInterrupt):
        heal("killed", ticking(20.0, stops_after=17), Kept(state, "this"))
    assert state.is_file()
    one_less = round(reports[0].seconds / 20)  # readings than a training from the beginning needs
    (tmp_path / "copy").write_bytes(state.read_bytes())
    with pytest.raises(KeyboardInterrupt):
        heal("other", ticking(20.0, stops_after=one_less), Kept(tmp_path / "copy", "that"))
    heal("killed", ticking(20.0, stops_after=one_less), Kept(state, "this"))
    assert written[0] == written[1]
    assert reports[0] == reports[1]


def test_a_model_that_computes_in_half_precision_is_healed(tmp_path: Path) -> None:
    """Masters are float32 all the same: single steps would be lost between two numbers of bfloat16."""
    dense, slim = tiny.build(tmp_path / "dense", dtype="bfloat16"), tmp_path / "slim"
    prune_checkpoint(dense, slim, DROP)
    live = load(dense, dtype="bfloat16")
    report = heal_checkpoint(
        live,
        slim,
        DROP,
        TEACH,
        held_out=WATCHED,
        confirm=CONFIRM,
        duration_s=40,
        max_new_tokens=4,
        clock=ticking(),
    )
    assert report.dtype == "bfloat16"
    assert report.kl_before == pytest.approx(Judge(live, CONFIRM, max_new_tokens=4).kl(DROP), rel=0.1)
    assert report.kept
    assert kl_on_disk(dense, slim) < 0.9 * report.kl_before


def test_mismatched_folders_and_too_few_samples_are_refused(tiny_siglip_qwen2: Path, tmp_path: Path) -> None:
    """The pruned model must be the dense one less the layers named; samples of three kinds are needed."""
    slim = tmp_path / "slim"
    prune_checkpoint(tiny_siglip_qwen2, slim, DROP)
    live = load(tiny_siglip_qwen2)
    with pytest.raises(InputError, match="6 less 1"):
        heal_checkpoint(live, slim, [2], TEACH, held_out=WATCHED, confirm=CONFIRM, duration_s=1)
    for teach, held_out, confirm in (([], WATCHED, CONFIRM), (TEACH, [], CONFIRM), (TEACH, WATCHED, [])):
        with pytest.raises(InputError, match="too few"):
            heal_checkpoint(live, slim, DROP, teach, held_out=held_out, confirm=confirm, duration_s=1)


@pytest.mark.parametrize("name", ["qwen3_vl_moe", "gemma3", "paligemma"])
def test_other_kinds_of_decoders_are_healed(name: str, tmp_path: Path) -> None:
    """Experts with features of pictures added between layers, sandwich norms with windows, prompts that see
    themselves whole: what the student is before it learns is what the judge makes of it."""
    dense = tiny_families.build(tmp_path / "dense", name)
    live, slim, drop = load(dense), tmp_path / "slim", [3, 5]
    prune_checkpoint(dense, slim, drop)
    teach, held_out, confirm = (
        tiny_families.sample(name, count, seed=seed) for count, seed in ((14, 1), (2, 3), (4, 2))
    )
    report = heal_checkpoint(
        live,
        slim,
        drop,
        teach,
        held_out=held_out,
        confirm=confirm,
        duration_s=30,
        max_new_tokens=4,
        clock=ticking(),
    )
    assert report.kl_before == pytest.approx(Judge(live, confirm, max_new_tokens=4).kl(drop), rel=1e-4)
    assert report.kept
    assert report.layers == (2, 4, 6)
    verify_checkpoint(slim)
