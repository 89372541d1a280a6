"""Videos on the command line: a clip and public benchmarks with clips are asked about; the rest is named."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import pytest
from benchmarks.tasks.small import build

import topovlm
from tests import tiny_families
from tests.clips import write_clip
from topovlm import cli
from topovlm.checkpoint.live import encode, greedy, load
from topovlm.errors import InputError
from topovlm.exporters.onnx.export import export_onnx
from topovlm.runtime.engine import Engine
from topovlm.samples import Sample
from topovlm.videos.clip import Clip
from topovlm.videos.rules import FrameRule

CLIPS = "egoschema,mvbench,nextqa-strict,videomme"


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that takes videos, and one that takes none, exported; a clip; the benchmarks in small."""
    room = tmp_path_factory.mktemp("videos")
    for name in ("qwen2_5_vl", "internvl"):
        export_onnx(tiny_families.build(room / f"{name}-model", name, layers=4), room / name)
    write_clip(room / "clip.mp4", [tiny_families.tiny.picture(k, 80).resize((96, 64)) for k in range(12)])
    build(room / "small", 6)
    return room


def ask(*words: str) -> tuple[int, str, str]:
    """(exit code, stdout, stderr)."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.main(list(words))
    return code, out.getvalue(), err.getvalue()


@pytest.mark.parametrize("frames", ["4", "inner:3", "fps:2"])
def test_a_clip_is_asked_about(room: Path, frames: str) -> None:
    """The answer is torch's about the same frames."""
    live = load(room / "qwen2_5_vl-model")
    clip = Clip(room / "clip.mp4", FrameRule.parse(frames))
    (expected,) = greedy(live, [encode(live, Sample("a", (), "What is it?", videos=(clip,)))], 8)
    words = ("--video", str(room / "clip.mp4"), "--frames", frames, "--prompt", "What is it?")
    code, out, _ = ask("run", str(room / "qwen2_5_vl"), *words, "--max-new-tokens", "8", "--json")
    assert code == 0
    assert json.loads(out)["token_ids"] == expected


@pytest.mark.parametrize(
    ("folder", "more", "said"),
    [
        ("internvl", ("--video", "clip.mp4"), "this model takes no videos"),
        ("qwen2_5_vl", ("--video", "nowhere.mp4"), "nowhere.mp4': does not exist"),
        ("qwen2_5_vl", ("--video", "clip.mp4", "--frames", "best:4"), "no rule for choosing frames"),
    ],
)
def test_what_cannot_be_shown_is_refused(room: Path, folder: str, more: tuple[str, ...], said: str) -> None:
    """Exit code 2 and a sentence."""
    paths = [str(room / word) if word.endswith(".mp4") else word for word in more]
    code, _, err = ask("run", str(room / folder), *paths, "--prompt", "What is it?")
    assert code == 2
    assert said in " ".join(err.split())


def test_benchmarks_with_clips_are_asked_and_answers_kept(
    room: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All four; again, no model is opened. One whose clip is broken is counted; the others are asked."""
    clip = next((room / "small").rglob("ssv2_video_mp4/*.mp4"))
    clip.write_bytes(clip.read_bytes()[:100])
    words = ("eval", str(room / "qwen2_5_vl"), "--bench", CLIPS, "--bench-data", str(room / "small"))
    words = (*words, "--limit", "6", "--answers", str(tmp_path / "answers"), "--threads", "1", "--json")
    code, out, err = ask(*words)
    assert code == 0, err
    found: list[dict[str, Any]] = json.loads(out)["benchmarks"]
    assert [one["name"] for one in found] == CLIPS.split(",")
    assert all(one["accuracy"]["overall"]["n"] > 0 for one in found)
    assert all("frames linspace:32" in one["accuracy"]["sample_source"] for one in found)
    assert "1 rows left out" in found[1]["accuracy"]["sample_source"]
    monkeypatch.setattr(Engine, "__init__", None)  # to open one would fail
    assert ask(*words)[1] == out


def test_a_model_without_videos_is_not_asked_benchmarks_with_clips(room: Path) -> None:
    """Exit code 2 before anything runs."""
    words = ("--bench", "nextqa", "--bench-data", str(room / "small"), "--threads", "1")
    code, _, err = ask("eval", str(room / "internvl"), *words)
    assert code == 2
    assert "this model takes no videos" in " ".join(err.split())


def test_a_plan_counts_frames(room: Path) -> None:
    """`--frames` is what the processor makes of a video of that size; the tower sees moment after moment."""
    model = room / "qwen2_5_vl-model"
    live, rest = load(model), {"target": "jetson-orin", "sparsity": "25%", "image_size": (48, 64)}
    vision_ms = []
    for number in (4, 8):
        record = topovlm.plan(model=model, frames=number, **rest)
        sample = Sample("a", (), "?", videos=(tiny_families.video(1, number, (64, 48)),))
        held = int((encode(live, sample).input_ids == live.visual_token_ids[1]).sum())
        assert (record.workload.visual_tokens, record.workload.video_frames) == (held, number)
        vision_ms.append(record.rows[0].vision_ms.value)
    assert vision_ms[1] > vision_ms[0]  # of so small a tower, most is overhead
    with pytest.raises(InputError, match=r"--frames = 4: this model takes no videos"):
        topovlm.plan(model=room / "internvl-model", frames=4, **rest)


def test_frames_are_timed(room: Path, tmp_path: Path) -> None:
    """A profile of the workload with a video; a deployment with its report, from clips of the user's."""
    model = str(room / "qwen2_5_vl-model")
    words = ("--frames", "4", "--image-size", "32x32", "--threads", "1", "--measure-time", "0.2s", "--json")
    code, _, err = ask("profile", "--model", model, *words, "-o", str(tmp_path / "p.json"))
    assert code == 0, err
    timed = json.loads((tmp_path / "p.json").read_text())["workload"]
    assert (timed["video_frames"], timed["images"]) == (4, 0)
    with (tmp_path / "data.jsonl").open("w") as file:
        for number in range(16):
            frames = [tiny_families.tiny.picture(number + k, 80).resize((64, 48)) for k in range(6)]
            clip = write_clip(tmp_path / f"{number}.mp4", frames)
            row = {"video": clip.name, "frames": f"linspace:{3 + number % 3}", "prompt": "What?"}
            row["answer"] = "yes"
            file.write(json.dumps(row) + "\n")
    more = ("--data", str(tmp_path / "data.jsonl"), "--samples", "8", "--eval-samples", "8")
    more = (*more, "--sparsity", "25%", "--target", "jetson-orin", "-o", str(tmp_path / "out"))
    code, _, err = ask("deploy", "--model", model, *more, *words)
    assert code == 0, err
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["workload"]["video_frames"] == 4
    assert report["accuracy"]["overall"]["n"] == 8
    assert "4 frames of 32×32 px" in (tmp_path / "out" / "report.md").read_text()
