"""One family through every step of the chain, on a tiny random checkpoint with its real processor.

Each check returns what it measured and raises where the step is wrong; `benchmarks.families` makes a table of
them, `tests/families/test_matrix.py` runs them. Oracles are transformers' own code: the processor for
prompts, the stock model for numbers, `generate` for answers.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from PIL import Image
from tests import tiny_families

from topovlm import cli
from topovlm.samples import Sample

LAYERS, DROP = 8, (3, 5)  # not next to each other: what is behind moves by one, then by two
SIZES = ((40, 56), (72, 48), (33, 30), (97, 41), (24, 64))  # width, height in px
NEW_TOKENS = 12
# Two of eight layers go; no timing decides.
_DEPLOY = ["--target", "jetson-orin", "--sparsity", "25%", "--samples", "16", "--eval-samples", "12"]
_DEPLOY += ["--measure-time", "0.2s", "--threads", "1"]


@dataclass(frozen=True)
class Family:
    """One tiny checkpoint and a folder to work in; `pictures`: whether it takes any."""

    name: str
    model: Path
    work: Path

    @property
    def pictures(self) -> bool:
        return self.name not in tiny_families.TEXT_ONLY


def build(name: str, work: Path) -> Family:
    """The checkpoint, made in `work` where it is not there yet."""
    model = work / "model"
    if not (model / "config.json").is_file():
        tiny_families.build(model, name, layers=LAYERS)
    return Family(name, model, work)


def questions(family: Family) -> list[Sample]:
    """One about each of five pictures of other sizes; of a model without pictures, five in words."""
    samples = tiny_families.sample(family.name, len(SIZES))
    if not family.pictures:
        return samples
    rng = np.random.default_rng(7)
    noise = [Image.fromarray(rng.integers(0, 256, (h, w, 3), np.uint8)) for w, h in SIZES]
    return [
        Sample(id=s.id, images=(picture,), prompt=s.prompt, answer=s.answer, group=s.group)
        for s, picture in zip(samples, noise, strict=True)
    ]


Measured = dict[str, float | int | str]


def check_plan(family: Family) -> Measured:
    """The visual tokens that a plan counts are those of the processor's prompt, for every size of picture."""
    import topovlm
    from topovlm.checkpoint.files import read_facts
    from topovlm.checkpoint.live import encode, load

    facts, live = read_facts(family.model), load(family.model)
    for sample in questions(family):
        held = int((encode(live, sample).input_ids == live.image_token_id).sum()) if family.pictures else 0
        size = (sample.images[0].height, sample.images[0].width) if family.pictures else None
        planned = facts.visual_tokens(facts.workload(images=len(sample.images), image_size=size))
        assert planned == held, (sample.id, planned, held)
    record = topovlm.plan(model=family.model, target="jetson-orin", sparsity="25%")
    assert record.verdict != "infeasible"
    return {"visual_tokens": held}


def check_score(family: Family) -> Measured:
    """Hidden states of a padded batch are those of its samples alone; every scorer ranks every layer."""
    from topovlm.checkpoint.live import load
    from topovlm.choose.calibration import collect_states
    from topovlm.choose.scorers import SCORERS

    live, samples = load(family.model), tiny_families.sample(family.name, 6)
    together = collect_states(live, samples, batch_size=3)
    alone = collect_states(live, samples, batch_size=1)
    worst = float(np.abs(together - alone).max() / np.abs(alone).max())
    assert worst < 1e-4, worst
    return {"batch_error": worst, "scorers": len(SCORERS.names())}


def check_prune(family: Family) -> Measured:
    """The pruned checkpoint, reloaded, is the dense model with those layers bypassed; its cache is right."""
    import topovlm

    record = topovlm.prune(family.model, DROP, family.work / "slim")
    found = record.verified
    assert found is not None
    assert found.dense_difference is not None
    assert found.generated_tokens >= 16
    return {
        "bypass_error": found.dense_difference,
        "cache_error": found.cache_difference,
        "tokens": found.generated_tokens,
    }


def check_export(family: Family) -> Measured:
    """The gate of the exporter, with its negative controls, on the pruned checkpoint's graphs."""
    import topovlm

    source = family.work / "slim"
    record = topovlm.export(source if source.is_dir() else family.model, family.work / "onnx")
    rows = [row for row in record.parity if row.control_mask_error is not None]
    controls = [
        value / row.max_logit
        for row in rows
        for value in (row.control_position_error, row.control_mask_error, row.control_picture_error)
        if value is not None
    ]
    assert len({row.prompt_tokens for row in rows}) == 2
    assert all(row.decode_steps >= 8 for row in rows)
    assert not family.pictures or all(row.control_picture_error is not None for row in rows)
    return {
        "logit_error": max(row.max_logit_error / row.max_logit for row in record.parity),
        "weakest_control": min(controls),
        "forms": ", ".join(record.variants),
    }


def check_half(family: Family) -> Measured:
    """The same gate on half-precision graphs, which clients feed as they feed the others."""
    import topovlm

    source, out = family.work / "slim", family.work / "onnx-fp16"
    record = topovlm.export(source if source.is_dir() else family.model, out, dtype="fp16")
    assert record.dtype == "fp16"
    return {"logit_error": max(row.max_logit_error / row.max_logit for row in record.parity)}


def check_run(family: Family) -> Measured:
    """The runtime's tokens are those of transformers' `generate`, in every form that was written."""
    return {"tokens": _same_tokens(family, questions(family))}


def check_videos(family: Family) -> Measured:
    """The same about videos: of one, of two, behind a picture, of as many frames as a patch is deep or more;
    planned visual tokens are those of the processor's prompt, or more where it leaves some out of a clip that
    hardly moves. Nothing where the family takes none."""
    from topovlm.checkpoint.files import read_facts
    from topovlm.checkpoint.live import encode, load

    facts = read_facts(family.model)
    if facts.video_token_id is None:
        return {"visual_tokens": 0}
    live = load(family.model)
    for sample in tiny_families.video_samples():
        held = int((encode(live, sample).input_ids == facts.video_token_id).sum())
        sizes = [(len(video.pictures), video.size[::-1]) for video in sample.load_videos()]
        planned = [facts.visual_tokens(facts.workload(video_frames=n, image_size=size)) for n, size in sizes]
        stills = [facts.visual_tokens(facts.workload()) for _ in sample.images]
        same = facts.image_token_id == facts.video_token_id  # then the prompt does not tell them apart
        total = sum(planned) + same * sum(stills)
        sifted = facts.shape.films is not None and facts.shape.films.sifts and sample.id == "slow"
        assert held < total if sifted else held == total, (sample.id, planned, held)
        assert all(facts.most_film_tokens(n) >= tokens for (n, _), tokens in zip(sizes, planned, strict=True))
    return {"tokens": _same_tokens(family, tiny_families.video_samples()), "visual_tokens": held}


def _same_tokens(family: Family, asked: list[Sample]) -> int:
    """How many tokens were compared, of graphs that `export` wrote."""
    from topovlm.checkpoint.live import encode, greedy, load
    from topovlm.runtime.engine import Engine

    source = family.work / "slim"
    live = load(source if source.is_dir() else family.model)
    compared = 0
    expected = [greedy(live, [encode(live, sample)], NEW_TOKENS)[0] for sample in asked]
    for form in Engine(family.work / "onnx").manifest.decoders:
        engine = Engine(family.work / "onnx", variant=form, threads=1)
        for sample, tokens in zip(asked, expected, strict=True):
            found = engine.generate(sample.visuals(), sample.prompt, NEW_TOKENS).token_ids
            assert found == tokens, (form, sample.id, found, tokens)
            compared += len(tokens)
    return compared


def check_deploy(family: Family) -> Measured:
    """`topovlm deploy --sparsity 25%` from the command line, with its report."""
    out, data = family.work / "run", family.work / "questions.jsonl"
    _write_questions(family, data)
    printed = io.StringIO()
    arguments = ["deploy", "--model", str(family.model), "--data", str(data), "-o", str(out), *_DEPLOY]
    arguments += ["--image-size", "48x72"] if family.pictures else []
    with contextlib.redirect_stdout(printed):
        code = cli.main([*arguments, "--json"])
    assert code == 0, (code, printed.getvalue()[-2000:])
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert (out / "report.html").is_file()
    assert report["slim"]["layers"] == LAYERS - len(DROP)
    return {"kept": report["slim"]["layers"]}


def _write_questions(family: Family, file: Path, count: int = 48) -> None:
    rows = []
    for sample in tiny_families.sample(family.name, count, seed=3):
        row: dict[str, Any] = {
            "id": sample.id,
            "prompt": sample.prompt,
            "answer": "yes",
            "group": sample.group,
        }
        for picture in sample.load_images():
            path = file.parent / f"{sample.id}.png"
            picture.save(path)
            row["image"] = path.name
        rows.append(json.dumps(row))
    file.write_text("\n".join(rows) + "\n", encoding="utf-8")


CHECKS: dict[str, Callable[[Family], Measured]] = {
    "plan": check_plan,
    "score": check_score,
    "prune": check_prune,
    "export": check_export,
    "run": check_run,
    "videos": check_videos,
    "half": check_half,
    "deploy": check_deploy,
}


def timed(check: Callable[[Family], Measured], family: Family) -> Measured:
    """What a check measured, and how long it took."""
    start = perf_counter()
    found = check(family)
    return {**found, "seconds": round(perf_counter() - start, 1)}
