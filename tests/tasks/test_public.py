"""Public benchmarks from where they lie: a folder, the hub's cache, the Arrow cache; bad data is named."""

from __future__ import annotations

import io
import json
import os
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from benchmarks.tasks.small import build
from PIL import Image
from pyarrow import parquet

from tests.clips import grey, numbers, write_clip
from topovlm.errors import InputError
from topovlm.evaluation.evaluate import check_samples, folded, score_text
from topovlm.samples import Sample
from topovlm.tasks import TASKS, open_task
from topovlm.tasks.public.dataset import Dataset, read
from topovlm.tasks.public.table import BENCHMARKS, MOST_NEW_TOKENS, VIDEO_BENCHMARKS
from topovlm.tasks.public.task import PublicTask
from topovlm.tasks.public.videos import Clips

AI2D, MMBENCH = BENCHMARKS["ai2d"], BENCHMARKS["mmbench"]
Row = dict[str, Any]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All ten, in the forms of their repositories."""
    folder = tmp_path_factory.mktemp("small")
    build(folder, 24)
    return folder


@pytest.fixture(autouse=True)
def _no_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of this machine's caches is seen."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_DATASETS_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))


def png(shade: int = 0) -> bytes:
    held = io.BytesIO()
    Image.new("RGB", (8, 8), (shade, 0, 0)).save(held, "PNG")
    return held.getvalue()


def diagram(number: int, **changed: Any) -> Row:
    """A row of AI2D."""
    row = {"question": f"What is {number}?", "options": ["a cat", "a dog"], "answer": "1",
           "image": {"bytes": png(number), "path": None}}  # fmt: skip
    return {**row, **changed}


def ai2d(folder: Path, rows: list[Row], name: str = "data/test-00000-of-00001.parquet") -> Path:
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    arrays = {
        "question": pa.array([row["question"] for row in rows], pa.string()),
        "options": pa.array([row["options"] for row in rows], pa.list_(pa.string())),
        "answer": pa.array([row["answer"] for row in rows], pa.string()),
        "image": pa.array([row["image"] for row in rows], image),
    }
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.table(arrays), file, row_group_size=2)
    return file


def asked(task: str, folder: Path | None, split: str = "all", count: int = 999) -> list[Sample]:
    return list(open_task(task, folder).samples(split, count, 0))


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_form_is_read(small: Path, name: str) -> None:
    """Every row of the true schema is a question with options, a right answer, a category and a cluster."""
    data = read(BENCHMARKS[name], small)
    assert len(data.items) == 24
    assert data.unreadable == ()
    for item in data.items:
        assert item.answer in (item.letters or (item.answer,))
        assert item.category
        assert item.cluster
    assert len({item.id for item in data.items}) == 24


@pytest.mark.parametrize("record", BENCHMARKS.values(), ids=lambda record: record.name)
def test_benchmarks_are_tasks(small: Path, record: Any) -> None:
    """Under both protocols: the same questions, right answers right, an empty one unread and wrong."""
    for name in (record.name, f"{record.name}-strict"):
        task = open_task(name, small)
        samples = task.samples("all", 999, 0)
        check_samples(task, samples)
        assert all(sample.load_images() or sample.load_videos() for sample in samples)
        right = [score_text(task, sample, sample.answer or "") for sample in samples]
        empty = [score_text(task, sample, "") for sample in samples]
        assert {outcome.score for outcome in right} == {1.0}
        assert {(outcome.score, outcome.parse) for outcome in empty} == {(0.0, "unparsed")}
    plain, strict = asked(record.name, small), asked(f"{record.name}-strict", small)
    assert [sample.prompt for sample in plain] == [sample.prompt for sample in strict]
    assert {sample.metric for sample in strict} == {"strict"}


@pytest.mark.parametrize("record", VIDEO_BENCHMARKS, ids=lambda record: record.name)
def test_video_benchmarks_show_frames_and_count_what_lacks(small: Path, tmp_path: Path, record: Any) -> None:
    """32 frames by lmms-eval's rule, loose or inside an archive; a clip that is gone, cut off or no video
    leaves its questions out, named and counted. Questions of one clip stay together."""
    shutil.copytree(small, tmp_path / "data")
    task = open_task(record.name, tmp_path / "data")
    samples = task.samples("all", 999, 0)
    (shown,) = samples[0].load_videos()
    assert (len(shown.pictures), shown.total) == (32, 4)
    assert shown.indices == tuple(step * 3 // 31 for step in range(32))
    assert "frames linspace:32" in task.source
    assert len({sample.pixels for sample in samples}) <= len({sample.group for sample in samples})
    home = tmp_path / "data" if record.name == "mvbench" else samples[0].videos[0].file
    lost = {sample.group for sample in samples[:9]}
    _spoil(home, sorted(lost))
    again = open_task(record.name, tmp_path / "data")
    left = again.samples("all", 999, 0)
    assert {sample.group for sample in left} == {sample.group for sample in samples} - lost
    assert f"{24 - len(left)} rows left out" in again.source
    with pytest.raises(InputError, match="neither a file nor in an archive"):
        Clips(record, tmp_path / "data").find(replace(read(record, small).items[0], clip="nowhere"))


def _spoil(home: Path, names: list[str]) -> None:
    """Of these clips one after the other is taken away, cut short and overwritten."""

    def spoiled(place: int, data: bytes) -> bytes | None:
        return (None, data[: len(data) // 2], b"no video at all")[place % 3]

    if home.is_dir():
        for place, name in enumerate(names):
            file = next(home.rglob(name))
            data = spoiled(place, file.read_bytes())
            file.unlink() if data is None else file.write_bytes(data)
        return
    with zipfile.ZipFile(home) as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(home, "w") as archive:
        for name, data in held.items():
            place = next((n for n, one in enumerate(names) if Path(name).stem == Path(one).stem), None)
            kept = data if place is None else spoiled(place, data)
            if kept is not None:
                archive.writestr(name, kept)


def test_a_clip_of_another_folder_is_not_taken(tmp_path: Path) -> None:
    """MVBench's parts number their clips alike: the folder counts, in archives too."""
    with zipfile.ZipFile(tmp_path / "clevrer.zip", "w") as archive:
        archive.writestr("clevrer/video_validation/1.mp4", b"x")
    record = BENCHMARKS["mvbench"]
    clips = Clips(record, tmp_path)
    row = {"video": "1.mp4", "question": "?", "candidates": ["a", "b"], "answer": "a"}
    from topovlm.tasks.public.items import item_of

    assert clips.find(item_of(record, row, "moving_count", 0)).member.endswith("/1.mp4")
    with pytest.raises(InputError, match=r"ssv2_video_mp4/1\.mp4"):
        clips.find(item_of(record, row, "action_antonym", 0))


def _hub(home: Path, name: str, revision: str = "main") -> Path:
    """A snapshot in the hub's cache."""
    repo = home / "hub" / f"datasets--{name.replace('/', '--')}"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / revision).write_text("0123456789abcdef")
    snapshot = repo / "snapshots" / "0123456789abcdef"
    snapshot.mkdir(parents=True)
    return snapshot


@pytest.mark.parametrize("name", AI2D.ids)
def test_the_hubs_cache_is_read_under_every_name(tmp_path: Path, name: str) -> None:
    """Offline, through symbolic links as the hub's client makes them; the report names id and revision."""
    blob = ai2d(tmp_path / "blobs", [diagram(n) for n in range(5)])
    file = _hub(tmp_path / "hf", name) / "data" / "test-00000-of-00001.parquet"
    file.parent.mkdir()
    file.symlink_to(blob)
    task = open_task("ai2d", None)
    assert len(task.samples("all", 99, 0)) == 5
    assert f"5 of 3,088 published questions, from {name}, revision 0123456789ab" in task.source
    assert "protocol lmms-eval-0.7.3" in task.source


def test_another_revision_is_another_benchmark(tmp_path: Path) -> None:
    """MVBench's branches cut their clips differently: the one that figures are about is taken, or none."""
    snapshot = _hub(tmp_path / "hf", "OpenGVLab/MVBench")
    (snapshot / "json").mkdir()
    row = {"video": "1.mp4", "question": "?", "candidates": ["a", "b"], "answer": "a"}
    (snapshot / "json" / "moving_count.json").write_text(json.dumps([row]))
    with pytest.raises(InputError, match=r"MVBench is in none of .*refs/video"):
        read(BENCHMARKS["mvbench"])
    (snapshot.parents[1] / "refs" / "video").write_text(snapshot.name)
    assert len(read(BENCHMARKS["mvbench"]).items) == 1


def _row(video: str, **more: Any) -> Row:
    return {"video": video, "question": "?", "candidates": ["a", "b"], "answer": "a", **more}


def _main_of_mvbench(root: Path) -> None:
    """As revision `main` lays it out: whole clips and seconds, some in archives, one a folder of pictures."""
    rows = {
        "action_sequence": [_row("1.mp4", start=1.0, end=3.0), _row("1.mp4", start=2.0, end=9.0)],
        "action_localization": [_row("1.mp4", start=9.0, end=9.5), _row("1.mp4", end=2.0)],
        "episodic_reasoning": [_row("friends_1", start=2, end=5)],
        "action_antonym": [_row("7.webm")],
        "moving_count": [_row("1.mp4", start=0, end=1)],  # no part of these says so: it is nothing here
    }
    (root / "json").mkdir(parents=True)
    for part, held in rows.items():
        (root / "json" / f"{part}.json").write_text(json.dumps(held))
    clip = write_clip(root / "clip.mp4", 50).read_bytes()
    for folder in ("sta/sta_video", "data0613/clevrer/video_validation"):
        (root / "video" / folder).mkdir(parents=True)
        (root / "video" / folder / "1.mp4").write_bytes(clip)
    with zipfile.ZipFile(root / "video" / "star.zip", "w") as archive:
        archive.writestr("data0613/star/Charades_v1_480/1.mp4", clip)
    with zipfile.ZipFile(root / "video" / "tvqa.zip", "w") as archive:
        for number in range(1, 31):
            grey(number).save(root / "one.jpg", quality=100)
            archive.write(root / "one.jpg", f"tvqa/frames_fps3_hq/friends_1/{number:05d}.jpg")
    (root / "video" / "ssv2_video").mkdir()
    write_clip(root / "video" / "ssv2_video" / "7.webm", 50, codec="libvpx-vp9")


def test_whole_clips_are_shown_from_start_to_end(tmp_path: Path) -> None:
    """MVBench's `main`: the part that the row names under our own protocol. lmms-eval 0.7.3 knows no seconds
    and reads the clips that the authors cut: of these there are none, and it says so."""
    _main_of_mvbench(tmp_path / "mvbench")
    task = open_task("mvbench-strict", tmp_path)
    shown = {sample.id: sample.load_videos()[0] for sample in task.samples("all", 99, 0)}
    first_and_last = {
        name.removeprefix("mvbench-"): tuple(numbers(frames.pictures))[:: len(frames.pictures) - 1]
        for name, frames in shown.items()
    }
    assert first_and_last == {
        "action_sequence-00000": (10, 30),
        "action_sequence-00001": (20, 49),
        "episodic_reasoning-00000": (6, 15),
        "action_antonym-00000": (0, 49),
        "moving_count-00000": (0, 49),
    }
    assert all(len(frames.pictures) == 32 for frames in shown.values())
    assert "2 rows left out, the first: " in task.source
    assert "is over after 5 s" in task.source
    assert "(of 3 whole clips, those between the row's start and end)" in task.source
    assert [s.group for s in task.samples("all", 99, 0)][:2] == ["star/Charades_segment/1.mp4"] * 2
    theirs = open_task("mvbench", tmp_path)
    assert [sample.id for sample in theirs.samples("all", 99, 0)] == ["mvbench-moving_count-00000"]
    assert "is not of revision video, which lmms-eval reads" in theirs.source


def test_clips_that_are_cut_are_shown_whole(tmp_path: Path) -> None:
    """Revision `video` keeps the seconds beside its clips: these are cut by them, and go first."""
    root = tmp_path / "mvbench"
    _main_of_mvbench(root)
    (root / "star" / "Charades_segment").mkdir(parents=True)
    write_clip(root / "star" / "Charades_segment" / "1.mp4", 5)
    for name in ("mvbench", "mvbench-strict"):
        sample = asked(name, tmp_path)[0]
        assert sample.load_videos()[0].total == 5


def test_our_own_protocol_finds_main_after_video(tmp_path: Path) -> None:
    """In the hub's cache, where lmms-eval's protocol sees revision `video` alone."""
    snapshot = _hub(tmp_path / "hf", "OpenGVLab/MVBench")
    _main_of_mvbench(snapshot)
    assert len(asked("mvbench-strict", None)) == 5
    with pytest.raises(InputError, match=r"MVBench is in none of .*refs/video"):
        asked("mvbench", None)
    cut = snapshot.with_name("fedcba9876543210")
    (cut / "json").mkdir(parents=True)
    (cut / "json" / "moving_count.json").write_text(json.dumps([_row("1.mp4")]))
    (cut / "clevrer" / "video_validation").mkdir(parents=True)
    write_clip(cut / "clevrer" / "video_validation" / "1.mp4", 7)
    (snapshot.parents[1] / "refs" / "video").write_text(cut.name)
    for name in ("mvbench", "mvbench-strict"):
        assert [sample.load_videos()[0].total for sample in asked(name, None)] == [7]


def test_the_arrow_cache_is_read_too(tmp_path: Path) -> None:
    """What `datasets` left: a stream of record batches with the same cells."""
    home = tmp_path / "hf" / "datasets" / "lmms-lab___ai2d" / "default" / "0.0.0" / "abc"
    home.mkdir(parents=True)
    table = parquet.read_table(ai2d(tmp_path / "x", [diagram(n) for n in range(7)]))
    with pa.ipc.new_stream(str(home / "ai2d-test.arrow"), table.schema) as stream:
        for batch in table.to_batches(max_chunksize=3):
            stream.write_batch(batch)
    samples = asked("ai2d", None)
    assert [sample.load_images()[0].getpixel((0, 0)) for sample in samples] == [(n, 0, 0) for n in range(7)]


def test_a_folder_given_goes_first_and_hides_the_caches(tmp_path: Path) -> None:
    """What the user names is what is used, or nothing is."""
    ai2d(_hub(tmp_path / "hf", AI2D.ids[0]), [diagram(n) for n in range(5)])
    ai2d(tmp_path / "own" / "ai2d", [diagram(1)])
    assert len(asked("ai2d", None)) == 5
    assert len(asked("ai2d", tmp_path / "own")) == 1
    assert len(asked("ai2d", tmp_path / "own" / "ai2d" / "data" / "test-00000-of-00001.parquet")) == 1
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"AI2D is in none of .*empty"):
        asked("ai2d", tmp_path / "empty")


def test_missing_data_name_the_places_and_the_command(tmp_path: Path) -> None:
    """Every id's place in both caches; the command fetches today's, of the right revision."""
    with pytest.raises(InputError) as error:
        asked("ai2d", None)
    for name in AI2D.ids:
        assert str(tmp_path / "hf" / "hub" / f"datasets--{name.replace('/', '--')}") in str(error.value)
        assert str(tmp_path / "hf" / "datasets" / name.replace("/", "___")) in str(error.value)
    assert "hf download --repo-type dataset lmms-lab-encoder/ai2d`" in str(error.value)
    with pytest.raises(InputError, match="--revision video"):
        read(BENCHMARKS["mvbench"])


def test_pictures_beside_a_text_table(tmp_path: Path) -> None:
    """JSON, JSONL and CSV name pictures by their paths; lists may be written as text."""
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "1.png").write_bytes(png(9))
    row = {
        "question": "Was ist das? 猫か犬か",
        "options": ["a cat", "a dog"],
        "answer": "1",
        "image": "p/1.png",
    }
    (tmp_path / "test.json").write_text(json.dumps([row]), encoding="utf-8")
    (tmp_path / "test.jsonl").write_text(json.dumps(row) + "\n\n", encoding="utf-8")
    (tmp_path / "test.csv").write_text(
        "question,options,answer,image\nWas ist das? 猫か犬か,\"['a cat', 'a dog']\",1,p/1.png\n", "utf-8"
    )
    found = [asked("ai2d", tmp_path / f"test.{kind}") for kind in ("json", "jsonl", "csv")]
    assert found[0] == found[1] == found[2]
    assert found[0][0].load_images()[0].getpixel((0, 0)) == (9, 0, 0)


BAD: Mapping[str, tuple[Row, str]] = {
    "an answer outside the options": ({"answer": "7"}, "answer = '7': is none of the 2 options"),
    "a hidden answer": ({"answer": "hidden"}, "is none of the 2 options"),
    "no answer": ({"answer": None}, "answer = None: is missing"),
    "one option": ({"options": ["a dog"], "answer": "0"}, "is the only option"),
    "no options": ({"options": []}, "has no options"),
    "two thousand options": ({"options": [f"o{n}" for n in range(2000)]}, "2000: is the number of options"),
    "no question": ({"question": " "}, "question = ' ': is empty"),
    "no picture": ({"image": None}, "has no picture"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_rows_are_left_out_by_name(tmp_path: Path, kind: str) -> None:
    """The others are asked; the source in the report counts the rows left out and shows the first."""
    changed, words = BAD[kind]
    ai2d(tmp_path, [diagram(0), diagram(1, **changed), diagram(2)])
    task = open_task("ai2d", tmp_path)
    assert len(task.samples("all", 99, 0)) == 2
    assert "1 rows left out, the first: data/test-00000-of-00001.parquet: row 1: " in task.source
    assert words in task.source
    ai2d(tmp_path, [diagram(1, **changed)])
    with pytest.raises(InputError, match=r"no question of AI2D can be used: .*row 0: .*"):
        asked("ai2d", tmp_path)


def test_lists_that_are_none_are_left_out(tmp_path: Path) -> None:
    """Text that is no list, one that never ends, brackets without end."""
    (tmp_path / "1.png").write_bytes(png())
    rows = [
        diagram(n, options=text, image="1.png") for n, text in enumerate(("[", "[" * 200_000, "{1: 2}", "7"))
    ]
    (tmp_path / "test.json").write_text(json.dumps([*rows, diagram(9, image="1.png")]))
    task = open_task("ai2d", tmp_path)
    assert len(task.samples("all", 9, 0)) == 1
    assert "4 rows left out" in task.source


def test_a_broken_picture_is_found_before_any_model_runs(tmp_path: Path) -> None:
    """Not at question 4,000: every picture is decoded when questions are drawn."""
    ai2d(tmp_path, [diagram(0), diagram(1, image={"bytes": png()[:45], "path": None}), diagram(2)])
    task = open_task("ai2d", tmp_path)
    assert len(task.samples("all", 99, 0)) == 2
    assert "1 rows left out" in task.source
    assert "group 0, row 1, image: is broken" in task.source.replace("'", "")


def test_a_damaged_table_is_named(tmp_path: Path) -> None:
    """Cut off, of something else, or of another benchmark."""
    file = ai2d(tmp_path, [diagram(n) for n in range(6)])
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"test-00000-of-00001\.parquet.*cannot be read to its end"):
        asked("ai2d", tmp_path)
    parquet.write_table(pa.table({"question": ["?"], "label": [1]}), file)
    with pytest.raises(InputError, match=r"has no column options, which AI2D has.*question, label"):
        asked("ai2d", tmp_path)
    file.unlink()
    (tmp_path / "test.json").write_text("[1]")
    with pytest.raises(InputError, match="a row must be an object, this is a int"):
        asked("ai2d", tmp_path)


def test_clusters_stay_whole(tmp_path: Path) -> None:
    """Questions about one picture are drawn together, and stand on one side of choosing and measuring."""
    rows = [diagram(n // 3, question=f"{n}?") for n in range(60)]
    ai2d(tmp_path, rows)
    task = open_task("ai2d", tmp_path)
    drawn = task.samples("all", 10, 5)
    assert len(drawn) == 9
    assert [len([s for s in drawn if s.group == one.group]) for one in drawn] == [3] * 9
    assert [s.id for s in drawn] == [s.id for s in task.samples("all", 10, 5)]
    assert {s.id for s in drawn} != {s.id for s in task.samples("all", 10, 6)}
    sides = [{s.group for s in task.samples(split, 999, 0)} for split in ("calibration", "test")]
    assert not sides[0] & sides[1]
    assert len(sides[0] | sides[1]) == 20
    assert all(sides)


def test_mmbench_counts_a_question_when_all_its_passes_are_right(small: Path) -> None:
    """Four passes are one question; a wrong or unread one makes it wrong; chance is that of all four."""
    task = open_task("mmbench", small)
    samples = task.samples("all", 999, 0)
    assert (len(samples), len({sample.group for sample in samples})) == (24, 6)
    right = [score_text(task, sample, sample.answer or "") for sample in samples]
    questions = folded(task, right)
    assert [one.score for one in questions] == [1.0] * 6
    assert {one.chance for one in questions} == {0.25**4}
    spoilt = [replace(right[0], score=0.0, parse="unparsed"), *right[1:]]
    scores = {one.id: (one.score, one.parse) for one in folded(task, list(spoilt))}
    assert scores.pop(f"mmbench-{right[0].group}") == (0.0, "unparsed")
    assert set(scores.values()) == {(1.0, "parsed")}


def test_a_pass_without_its_first_is_no_question(small: Path, tmp_path: Path) -> None:
    """lmms-eval counts questions by their first passes."""
    table = parquet.read_table(small / "mmbench" / "en" / "dev-00000-of-00001.parquet")
    (tmp_path / "en").mkdir()
    parquet.write_table(table.slice(1), tmp_path / "en" / "dev-00000-of-00001.parquet")
    data: Dataset = read(MMBENCH, tmp_path)
    assert len(data.items) == 20
    assert "whose first is not there" in data.unreadable[0]


def test_the_page_says_what_the_records_say() -> None:
    """docs/benchmarks.md: a row for each, with its count and its chance; every difference has its line."""
    page = (Path(__file__).parents[2] / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    rows = {line.split("`")[1]: line for line in page.splitlines() if line.startswith("| `")}
    assert set(rows) == set(BENCHMARKS)
    for name, record in BENCHMARKS.items():
        assert f"| {record.count:,}" in rows[name]
        chance = f"{100 * record.chance:g} %" if record.chance else "0"
        assert f"| {chance} |" in rows[name] or "about 0" in rows[name]
        assert record.title.partition(",")[0] in page
    assert f"after {MOST_NEW_TOKENS} tokens" in page
    cut = [record for record in BENCHMARKS.values() if record.new_tokens > MOST_NEW_TOKENS]
    assert {record.name for record in cut} == {"blink", "mmbench", "nextqa", "mathvista"}


def test_names_and_protocols() -> None:
    """Two names each; longest answers are the record's, up to a bound."""
    for name in BENCHMARKS:
        assert {name, f"{name}-strict"} <= set(TASKS.names())
    task = TASKS["ai2d-strict"](None)  # opened by `open_task` it would be read
    assert isinstance(task, PublicTask)
    assert (task.name, task.protocol, task.answer_tokens) == ("ai2d-strict", "strict", 16)
    blink = TASKS["blink"](None)
    assert isinstance(blink, PublicTask)
    assert blink.answer_tokens == 128


def test_a_stored_picture_travels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To a worker with another working directory: by its absolute place."""
    import pickle

    from topovlm.workers.jobs import Shard

    ai2d(tmp_path / "own", [diagram(3)])
    monkeypatch.chdir(tmp_path)
    shard = Shard(tuple(asked("ai2d", Path("own"))))
    sent = pickle.dumps(shard.leaving())
    os.chdir("/")
    assert pickle.loads(sent).samples[0].load_images()[0].getpixel((0, 0)) == (3, 0, 0)
