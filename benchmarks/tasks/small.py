"""A small real benchmark in the forms of the ten, with their schemas: flags, emoji, charts and words.

    python -m benchmarks.tasks small DIR [--questions N]

writes DIR/NAME as each one's repository on the hub is laid out, of the pictures of benchmarks.smol. Clips are
animated pictures under the names that a benchmark gives its clips: they are found, and nothing decodes them.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from benchmarks.tasks.scenes import Choice, Row, cell_of, choice_of, choices_of, clip_of, open_question
from topovlm.reference.scenes import Scene
from topovlm.tasks.public.items import PASS
from topovlm.tasks.public.table import BENCHMARKS

_ROWS_IN_A_GROUP = 8
_LENGTHS = ("short", "medium", "long")
_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def build(folder: Path, questions: int = 40, seed: int = 0) -> dict[str, Path]:
    """Name -> folder of each of the ten."""
    made = {}
    for name, writer in _WRITERS.items():
        home = folder / name
        home.mkdir(parents=True, exist_ok=True)
        writer(home, questions, np.random.default_rng([seed, *name.encode()]))
        made[name] = home
    return made


def _write(file: Path, rows: list[Row], **types: pa.DataType) -> None:
    """`types`: of columns whose type pyarrow would not see from the rows. The schema says which are pictures,
    as that of the hub's files does: `datasets` decodes those."""
    file.parent.mkdir(parents=True, exist_ok=True)
    names = dict.fromkeys(name for row in rows for name in row)
    arrays = {name: pa.array([row.get(name) for row in rows], types.get(name)) for name in names}
    pictures = {name: {"_type": "Image"} for name, kind in types.items() if kind == _IMAGE}
    about = json.dumps({"info": {"features": pictures}})
    table = pa.table(arrays).replace_schema_metadata({"huggingface": about})
    parquet.write_table(table, file, row_group_size=_ROWS_IN_A_GROUP)


def _ai2d(home: Path, count: int, rng: np.random.Generator) -> None:
    """Two questions of a picture where there are two."""
    rows: list[Row] = []
    while len(rows) < count:
        scene, _ = choice_of(rng, "flag", "emoji")
        rows += [
            {
                "question": one.question,
                "options": one.options,
                "answer": str(one.place),
                "image": cell_of(scene),
            }
            for one in choices_of(scene)
        ]
    _write(home / "data" / "test-00000-of-00002.parquet", rows[: count // 2], image=_IMAGE)
    _write(home / "data" / "test-00001-of-00002.parquet", rows[count // 2 : count], image=_IMAGE)


def _chartqa(home: Path, count: int, rng: np.random.Generator) -> None:
    rows = []
    for number in range(count):
        scene, asked = open_question(rng, "chart", "table_value", "table_extreme")
        kind = "human_test" if number % 2 else "augmented_test"
        rows.append({"type": kind, "question": asked.prompt, "answer": asked.answer, "image": cell_of(scene)})
    _write(home / "data" / "test-00000-of-00001.parquet", rows, image=_IMAGE)


def _mathvista(home: Path, count: int, rng: np.random.Generator) -> None:
    """In turn: a choice, a whole number, a decimal number."""
    rows = []
    for number in range(count):
        kind = ("text", "integer", "float")[number % 3]
        row: Row = {"choices": None, "precision": None, "unit": None}
        if kind == "text":
            scene, choice = choice_of(rng, "word", "emoji")
            row |= {
                "question": choice.question,
                "choices": choice.options,
                "answer": choice.options[choice.place],
            }
        else:
            scene, asked = open_question(rng, "chart", "table_value" if kind == "float" else "table_above")
            row |= {"question": asked.prompt, "answer": asked.answer}
        if kind == "float":
            row |= {"answer": f"{float(row['answer']):.1f}", "precision": 1.0}
        rows.append(
            {
                **row,
                "pid": str(number + 1),
                "image": f"images/{number + 1}.png",
                "decoded_image": cell_of(scene),
                "question_type": "multi_choice" if kind == "text" else "free_form",
                "answer_type": kind,
                "query": row["question"],
                "metadata": {"task": "figure question answering", "split": "testmini", "skills": ["reading"]},
            }
        )
    file = home / "data" / "testmini-00000-of-00001-0123abcd.parquet"
    _write(file, rows, decoded_image=_IMAGE, choices=pa.list_(pa.string()), precision=pa.float64(),
           unit=pa.string())  # fmt: skip


def _mmmu(home: Path, count: int, rng: np.random.Generator) -> None:
    subjects = ("Art", "Biology", "Music")
    rows = []
    for number in range(count):
        row: Row = {"image_1": None, "image_2": None}
        if number % 4:
            scene, choice = choice_of(rng, "word", "flag", "emoji")
            row |= {"question": f"<image 1> {choice.question}", "options": str(choice.options),
                    "answer": "ABCD"[choice.place], "question_type": "multiple-choice"}  # fmt: skip
        else:
            scene, asked = open_question(rng, "word", "word_read", "word_length")
            row |= {"question": f"{asked.prompt} <image 1>", "options": "[]", "answer": asked.answer,
                    "question_type": "open"}  # fmt: skip
        row["image_1"] = cell_of(scene)
        rows.append({"id": f"validation_{subjects[number % 3]}_{number + 1}", **row, "explanation": ""})
    cells = {f"image_{number}": _IMAGE for number in range(1, 8)}
    rows = [{**dict.fromkeys(cells), **row} for row in rows]
    _write(home / "data" / "validation-00000-of-00001.parquet", rows, **cells)


def _blink(home: Path, count: int, rng: np.random.Generator) -> None:
    """Two pictures: which of them shows a kind of thing?"""
    configs = ("Counting", "Visual_Similarity")
    for place, config in enumerate(configs):
        rows = []
        for number in range(count * place // 2, count * (place + 1) // 2):
            kinds: list[str] = []
            while len(set(kinds)) < 2:
                pair = [choice_of(rng, "emoji") for _ in range(2)]
                kinds = [choice.options[choice.place] for _, choice in pair]
            right = int(rng.integers(2))
            question = f"Which picture shows: {kinds[right]}?"
            choices = ["the first image", "the second image"]
            listed = "".join(f"\n({letter}) {text}" for letter, text in zip("AB", choices, strict=True))
            pictures = {f"image_{n + 1}": cell_of(scene) for n, (scene, _) in enumerate(pair)}
            rows.append({"idx": f"val_{config}_{number + 1}", "question": question, "sub_task": config,
                         **pictures, "image_3": None, "image_4": None, "choices": choices,
                         "answer": f"({'AB'[right]})", "explanation": "",
                         "prompt": f"{question}\nSelect from the following choices.{listed}"})  # fmt: skip
        cells = {f"image_{number}": _IMAGE for number in range(1, 5)}
        _write(home / config / "val-00000-of-00001.parquet", rows, **cells)


def _mmbench(home: Path, count: int, rng: np.random.Generator) -> None:
    """Every question in four passes, its options turned round."""
    rows: list[Row] = []
    for number in range(-(-count // 4)):
        scene, choice = choice_of(rng, "emoji", "odd_one")
        image = cell_of(scene)
        for turn in range(4):
            options = choice.options[turn:] + choice.options[:turn]
            cells = dict(zip("ABCD", options, strict=True))
            answer = "ABCD"[(choice.place - turn) % 4]
            rows.append({"index": number + turn * PASS, "question": choice.question, "hint": "nan", **cells,
                         "answer": answer, "category": "identity", "L2-category": "coarse_perception",
                         "image": image, "source": "small", "comment": "nan", "split": "dev"})  # fmt: skip
    rows.sort(key=lambda row: row["index"])
    _write(home / "en" / "dev-00000-of-00001.parquet", rows, image=_IMAGE)


def _five(rng: np.random.Generator) -> tuple[Scene, Choice]:
    scene, choice = choice_of(rng, "emoji", "word")
    return scene, Choice(choice.question, [*choice.options, "none of these"], choice.place)


def _lettered(options: list[str]) -> list[str]:
    return [f"{letter}. {text}" for letter, text in zip("ABCDE", options, strict=False)]


def _egoschema(home: Path, count: int, rng: np.random.Generator) -> None:
    """Clips in an archive, as on the hub."""
    rows = []
    with zipfile.ZipFile(home / "videos_chunked_01.zip", "w") as archive:
        for number in range(count):
            scene, choice = _five(rng)
            name = f"{number:08x}-0000-4000-8000-000000000000"
            archive.writestr(f"videos/{name}.mp4", clip_of(scene))
            rows.append({"question_idx": str(number), "question": choice.question, "video_idx": name,
                         "option": _lettered(choice.options), "answer": str(choice.place)})  # fmt: skip
    _write(home / "Subset" / "test-00000-of-00001.parquet", rows)


def _mvbench(home: Path, count: int, rng: np.random.Generator) -> None:
    """A JSON for each of two of its tasks, loose clips."""
    for task, folder in (
        ("action_antonym", "ssv2_video_mp4"),
        ("object_existence", "clevrer/video_validation"),
    ):
        rows = []
        for number in range(count // 2):
            scene, choice = choice_of(rng, "emoji", "flag")
            clip = home / folder / f"{number}.mp4"
            clip.parent.mkdir(parents=True, exist_ok=True)
            clip.write_bytes(clip_of(scene))
            rows.append({"video": clip.name, "question": choice.question, "candidates": choice.options,
                         "answer": choice.options[choice.place]})  # fmt: skip
        (home / "json").mkdir(exist_ok=True)
        (home / "json" / f"{task}.json").write_text(json.dumps(rows), encoding="utf-8")


def _nextqa(home: Path, count: int, rng: np.random.Generator) -> None:
    """Three questions of a clip."""
    rows = []
    with zipfile.ZipFile(home / "videos.zip", "w") as archive:
        for number in range(count):
            scene, choice = _five(rng)
            video = 4_000_000_000 + number // 3
            if number % 3 == 0:
                archive.writestr(f"NExTVideo/{video}.mp4", clip_of(scene))
            cells = {f"a{k}": text for k, text in enumerate(choice.options)}
            rows.append({"video": video, "frame_count": 4, "width": 96, "height": 96, "qid": number % 3,
                         "question": choice.question, "answer": choice.place, "type": "CW",
                         **cells})  # fmt: skip
    _write(home / "MC" / "test-00000-of-00001.parquet", rows)


def _videomme(home: Path, count: int, rng: np.random.Generator) -> None:
    rows = []
    with zipfile.ZipFile(home / "videos_chunked_01.zip", "w") as archive:
        for number in range(count):
            scene, choice = choice_of(rng, "emoji", "flag", "word")
            video = f"clip{number // 3:04d}"
            if number % 3 == 0:
                archive.writestr(f"data/{video}.mp4", clip_of(scene))
            rows.append({"video_id": f"{number // 3:03d}", "duration": _LENGTHS[number // 3 % 3],
                         "domain": "Knowledge", "sub_category": "Geography", "url": "", "videoID": video,
                         "question_id": f"{number // 3:03d}-{number % 3 + 1}",
                         "task_type": "Object Recognition", "question": choice.question,
                         "options": _lettered(choice.options), "answer": "ABCD"[choice.place]})  # fmt: skip
    _write(home / "videomme" / "test-00000-of-00001.parquet", rows)


_WRITERS: dict[str, Callable[[Path, int, np.random.Generator], None]] = {
    "ai2d": _ai2d,
    "mathvista": _mathvista,
    "chartqa": _chartqa,
    "mmmu": _mmmu,
    "blink": _blink,
    "mmbench": _mmbench,
    "egoschema": _egoschema,
    "mvbench": _mvbench,
    "nextqa": _nextqa,
    "videomme": _videomme,
}
assert _WRITERS.keys() == BENCHMARKS.keys()
