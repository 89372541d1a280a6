"""Interleaved timing: bookkeeping, stopping, statistics and memory; never a duration."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from tests.runtime.toy_export import IMAGE_ID, WORDS, Toy
from topovlm.errors import InputError
from topovlm.machine.host import resident_bytes
from topovlm.measure.footprint import Footprint, FootprintRequest, measure_footprint
from topovlm.measure.ssh.parcel import Preparer
from topovlm.measure.timing import PHASES, Comparison, TimingRules, compare
from topovlm.measure.timing_workload import Blank, TimingWorkload, synthetic_workload
from topovlm.records import decode, encode
from topovlm.runtime.engine import Engine
from topovlm.stats.robust import paired_ratio, summarise
from topovlm.stats.timing import median_interval, ratio_interval


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Engine]:
    root = tmp_path_factory.mktemp("timing")
    return {
        "dense": Engine(Toy(layers=4).write(root / "dense"), threads=1),
        "slim": Engine(Toy(layers=2).write(root / "slim"), threads=1),
    }


def test_every_engine_once_per_round(engines: dict[str, Engine]) -> None:
    """Raw samples of every phase, one per round; seeded order with each engine once in a round."""
    work = synthetic_workload(engines["dense"], images=2, prompt_tokens=30, new_tokens=4)
    rules = TimingRules(warmup=1, min_rounds=6, max_rounds=6, memory=False, seed=3)
    seen: list[int] = []
    run = compare(engines, work, rules, progress=lambda done, spent: seen.append(done))
    assert seen == [1, 2, 3, 4, 5, 6]
    assert run.rounds == 6
    for name, timing in run.engines.items():
        assert timing.layers == engines[name].manifest.layers
        assert set(timing.samples) == set(PHASES)
        assert all(len(values) == 6 for values in timing.samples.values())
        assert [len(steps) for steps in timing.token_steps] == [3] * 6
        parts = np.array([timing.samples[p] for p in ("vision", "embed", "prefill")]).sum(0)
        np.testing.assert_allclose(timing.samples["ttft"], parts)
        assert np.all(np.array(timing.samples["end_to_end"]) > timing.samples["ttft"])
    pairs = [set(run.order[i : i + 2]) for i in range(0, 12, 2)]
    assert pairs == [{"dense", "slim"}] * 6
    assert len(set(zip(run.order[::2], run.order[1::2], strict=True))) == 2
    assert compare(engines, work, rules).order == run.order


def test_a_file_keeps_a_comparison(engines: dict[str, Engine]) -> None:
    """It is read back as it was, and says what was measured where, on how many tokens."""
    work = synthetic_workload(engines["dense"], images=1, prompt_tokens=20, new_tokens=1)
    rules = TimingRules(warmup=0, min_rounds=3, max_rounds=3, memory=False)
    run = compare(engines, work, rules)
    found = decode(encode(run), Comparison, field="timings", name="x")
    assert found == run
    assert (found.kind, found.stopped) == ("measured", "rounds")
    assert (found.workload.images, found.workload.prefill_tokens, found.workload.prompt_tokens) == (1, 20, 16)
    assert found.environment.versions["onnxruntime"]
    assert "token" not in found.engines["dense"].samples
    assert found.engines["slim"].summary("ttft").count == 3


def test_stopping(engines: dict[str, Engine]) -> None:
    """A loose precision ends a run early; a tight one ends at the time limit with a warning."""
    work = synthetic_workload(engines["dense"], new_tokens=2)
    loose = TimingRules(min_rounds=5, precision=1e6, memory=False)
    assert compare(engines, work, loose).stopped == "precise"
    tight = TimingRules(min_rounds=5, precision=1e-9, time_limit_s=0.05, max_rounds=10**6, memory=False)
    run = compare(engines, work, tight)
    assert run.stopped == "time"
    assert any("narrows it" in text for text in run.warnings)


def test_synthetic_workload_has_the_asked_length(engines: dict[str, Engine]) -> None:
    """Noise prompts have the tokens asked for, the right image tokens, and the template around them."""
    engine = engines["dense"]
    work = synthetic_workload(engine, images=3, prompt_tokens=40, new_tokens=2, seed=5)
    ids = work.prompts[0].ids
    assert len(ids) == 40
    assert (ids == engine.manifest.image_token_id).sum() == work.visual_tokens == 3 * 4
    assert list(ids[[0, -2, -1]]) == [3, 2, 4]
    again = synthetic_workload(engine, images=3, prompt_tokens=40, new_tokens=2, seed=5)
    np.testing.assert_array_equal(again.prompts[0].ids, ids)
    (pixels,) = (run["pixel_values"] for run in work.prompts[0].pictures)
    np.testing.assert_array_equal(again.prompts[0].pictures[0]["pixel_values"], pixels)
    with pytest.raises(InputError, match="prompt_tokens"):
        synthetic_workload(engine, images=3, prompt_tokens=5)


def test_synthetic_words_have_rows_in_the_model(engines: dict[str, Engine]) -> None:
    """A tokenizer with more words than the model has: the others are not drawn, no graph could read them."""
    held = engines["dense"].manifest
    known = 8
    file = replace(held.file, decoder=replace(held.file.decoder, vocab=known))
    blank = Blank.of(Preparer(held.folder), 0)
    assert blank.prompter.tokenizer.get_vocab_size() > known
    bare = len(blank.prompt.ids)
    blank.prompter.manifest = dataclasses.replace(held, file=file)
    assert (blank.filled(300).ids >= known).sum() <= bare


def test_synthetic_words_are_no_marks(engines: dict[str, Engine]) -> None:
    """No word that is drawn stands for a picture or for a video, nor ends an answer."""
    held = engines["dense"].manifest
    video = WORDS.index("ball")
    facts = dataclasses.replace(held.facts, config={**held.facts.config, "video_token_id": video})
    blank = Blank.of(Preparer(held.folder), 0)
    blank.prompter.manifest = dataclasses.replace(held, facts=facts)
    drawn = np.unique(blank.filled(300).ids)
    assert {IMAGE_ID, video}.isdisjoint(drawn)
    assert len(drawn) > len(WORDS) - 4  # all the others


def test_real_prompts_run_in_turn(engines: dict[str, Engine]) -> None:
    """A workload of samples keeps each prompt and reports the range of lengths."""
    engine = engines["dense"]
    prompts = tuple(engine.prepare([], text) for text in ("red", "what colour is the ball"))
    work = TimingWorkload(prompts, 2, images=0, image_size=(8, 8), source="samples")
    facts = work.facts()
    assert facts.prompt_tokens_range == (4, 8)
    assert (facts.images, facts.image_height, facts.visual_tokens) == (0, 0, 0)
    run = compare(engines, work, TimingRules(warmup=0, min_rounds=2, max_rounds=2, memory=False))
    assert "vision" not in run.engines["dense"].samples


def test_footprint_is_of_a_fresh_process(engines: dict[str, Engine]) -> None:
    """Memory comes from a process of its own: a large heap here does not count there."""
    ballast = np.ones(400 * 2**20 // 8)
    folder = str(engines["dense"].manifest.folder)
    found = measure_footprint(FootprintRequest(folder=folder, threads=1, new_tokens=2))
    assert 0 < found.libraries_bytes < found.peak_bytes < resident_bytes(peak=True)
    assert found.peak_bytes < ballast.nbytes
    assert found.model_bytes == found.peak_bytes - found.libraries_bytes
    assert found.load_ms > 0
    with pytest.raises(RuntimeError, match="no such folder"):
        measure_footprint(FootprintRequest(folder="/nonexistent"))


def test_memory_is_part_of_a_comparison(engines: dict[str, Engine]) -> None:
    """With memory on, each engine carries its footprint."""
    work = synthetic_workload(engines["slim"], new_tokens=2)
    rules = TimingRules(warmup=0, min_rounds=2, max_rounds=2)
    run = compare({"slim": engines["slim"]}, work, rules)
    assert isinstance(run.engines["slim"].footprint, Footprint)


def test_statistics_recover_known_samples() -> None:
    """Median, interval, spread, drift and paired ratio of known samples; outliers do not matter."""
    rng = np.random.default_rng(0)
    samples = 10 + rng.normal(0, 0.5, 400)
    samples[::50] += 100
    summary = summarise(samples)
    assert summary.median_ms == pytest.approx(10, abs=0.1)
    assert summary.low_ms < 10.05
    assert summary.high_ms > 9.95
    assert summary.spread_ms == pytest.approx(0.5, rel=0.2)
    assert abs(summary.drift) < 0.02
    assert summarise(np.linspace(10, 11, 90)).drift == pytest.approx(0.0635, abs=0.002)
    slow_rounds = rng.uniform(1, 5, 200)
    ratio = paired_ratio(slow_rounds, 0.6 * slow_rounds * (1 + rng.normal(0, 0.01, 200)))
    assert ratio.low < 0.6 < ratio.high
    assert ratio.high - ratio.low < 0.01


def test_a_handful_of_samples_has_no_interval() -> None:
    """Below six rounds nothing is bounded, one round says nothing at all."""
    assert summarise([5.0]).low_ms == -math.inf
    assert summarise([5.0]).relative_width == 1.0
    assert summarise([4.0, 5.0, 6.0]).relative_width == pytest.approx(0.2)
    ratio = paired_ratio([2.0] * 5, [1.0] * 5)
    assert (ratio.ratio, ratio.high) == (0.5, math.inf)
    assert paired_ratio([2.0] * 6, [1.0] * 6).high == 0.5


def test_the_judge_and_the_report_see_the_same_interval() -> None:
    """A budget is judged on the very intervals that the report shows."""
    rng = np.random.default_rng(3)
    dense, slim = rng.lognormal(2, 0.1, 40), rng.lognormal(1.6, 0.1, 40)
    summary, shown = summarise(slim), median_interval(slim)
    assert (summary.median_ms, summary.low_ms, summary.high_ms) == (shown.value, shown.low, shown.high)
    ratio, between = paired_ratio(dense, slim), ratio_interval(slim, dense)
    assert (ratio.ratio, ratio.low, ratio.high) == (between.value, between.low, between.high)


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    """About 95 of 100 intervals of skewed samples hold the true median."""
    rng = np.random.default_rng(1)
    hits = 0
    for seed in range(200):
        summary = summarise(rng.lognormal(0, 0.3, 40), seed=seed)
        hits += summary.low_ms <= 1.0 <= summary.high_ms
    assert 0.89 <= hits / 200 <= 0.99


def test_rules_are_checked() -> None:
    """Impossible rules are refused."""
    for bad in ({"min_rounds": 0}, {"min_rounds": 9, "max_rounds": 3}, {"time_limit_s": 0.0}, {"warmup": -1}):
        with pytest.raises(InputError):
            TimingRules(**bad)


def test_run_prints_text_and_times(
    engines: dict[str, Engine], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`topovlm run`: the same answer streamed or not on stdout, measured times on stderr."""
    from topovlm.runtime.run import as_json, run_cli

    folder = engines["dense"].manifest.folder
    whole = run_cli(folder, [], "red blue", 6, stream=False)
    out, err = capsys.readouterr()
    assert out == whole.text + "\n"
    assert "measured once" in err
    streamed = run_cli(folder, [], "red blue", 6, quiet=True)
    assert capsys.readouterr() == (out, "")
    assert streamed.token_ids == whole.token_ids
    assert json.loads(json.dumps(as_json(folder, whole)))["kind"] == "measured"
