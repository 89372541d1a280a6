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
from tests.runtime.toy_export import Toy
from topovlm import cli
from topovlm.checkpoint.live import encode, greedy, load
from topovlm.errors import InputError
from topovlm.runtime.engine import Engine
from topovlm.samples import Sample
from topovlm.videos.clip import Clip
from topovlm.videos.rules import FrameRule

CLIPS = "egoschema,mvbench,nextqa-strict,videomme"
TIMED = ("--frames", "4", "--image-size", "32x32", "--threads", "1", "--measure-time", "0.2s", "--json")


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that takes videos, deployed by questions about clips (its dense graphs are `baseline`), and one
    that takes none; a clip; the benchmarks in small."""
    room = tmp_path_factory.mktemp("videos")
    _deploy(tiny_families.build(room / "model", "qwen2_5_vl", layers=3), room)
    Toy().write(room / "pictures")
    write_clip(room / "clip.mp4", [tiny_families.tiny.picture(k, 80).resize((96, 64)) for k in range(12)])
    build(room / "small", 6)
    return room


def ask(*words: str) -> tuple[int, str, str]:
    """(exit code, stdout, stderr)."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.main(list(words))
    return code, out.getvalue(), err.getvalue()


def _deploy(model: Path, room: Path) -> None:
    with (room / "data.jsonl").open("w") as file:
        for number in range(16):
            frames = [tiny_families.tiny.picture(number + k, 40).resize((32, 24)) for k in range(6)]
            clip = write_clip(room / f"{number}.mp4", frames)
            row = {"video": clip.name, "frames": f"linspace:{3 + number % 3}", "prompt": "What?"}
            row["answer"] = "yes"
            file.write(json.dumps(row) + "\n")
    words = ("--data", str(room / "data.jsonl"), "--samples", "8", "--eval-samples", "4", *TIMED)
    words = (*words, "--sparsity", "25%", "--scorer", "block-influence", "--target", "jetson-orin")
    code, _, err = ask("deploy", "--model", str(model), *words, "-o", str(room / "out"))
    assert code == 0, err
    (room / "baseline").symlink_to(room / "out" / "baseline")


def test_clips_choose_layers_and_are_reported(room: Path) -> None:
    """A deployment from clips of the user's, its workload a video."""
    report = json.loads((room / "out" / "report.json").read_text())
    assert report["workload"]["video_frames"] == 4
    assert report["accuracy"]["overall"]["n"] == 4
    assert "4 frames of 32×32 px" in (room / "out" / "report.md").read_text()


@pytest.mark.parametrize("frames", ["4", "inner:3", "fps:2"])
def test_a_clip_is_asked_about(room: Path, frames: str) -> None:
    """The answer is torch's about the same frames."""
    live = load(room / "model")
    clip = Clip(room / "clip.mp4", FrameRule.parse(frames))
    (expected,) = greedy(live, [encode(live, Sample("a", (), "What is it?", videos=(clip,)))], 8)
    words = ("--video", str(room / "clip.mp4"), "--frames", frames, "--prompt", "What is it?")
    code, out, _ = ask("run", str(room / "baseline"), *words, "--max-new-tokens", "8", "--json")
    assert code == 0
    assert json.loads(out)["token_ids"] == expected


@pytest.mark.parametrize(
    ("folder", "more", "said"),
    [
        ("pictures", ("--video", "clip.mp4"), "this model takes no videos"),
        ("baseline", ("--video", "nowhere.mp4"), "nowhere.mp4': does not exist"),
        ("baseline", ("--video", "clip.mp4", "--frames", "best:4"), "no rule for choosing frames"),
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
    words = ("eval", str(room / "baseline"), "--bench", CLIPS, "--bench-data", str(room / "small"))
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
    code, _, err = ask("eval", str(room / "pictures"), *words)
    assert code == 2
    assert "this model takes no videos" in " ".join(err.split())


def test_a_plan_counts_frames(room: Path, tiny_clip_llama: Path) -> None:
    """`--frames` is what the processor makes of a video of that size; the tower sees moment after moment."""
    model = room / "model"
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
        topovlm.plan(model=tiny_clip_llama, frames=4, **rest)


def test_frames_are_timed(room: Path, tmp_path: Path) -> None:
    """A profile of the workload with a video."""
    file = tmp_path / "p.json"
    code, _, err = ask("profile", "--model", str(room / "model"), *TIMED, "-o", str(file))
    assert code == 0, err
    timed = json.loads(file.read_text())["workload"]
    assert (timed["video_frames"], timed["images"]) == (4, 0)
