"""Data that are damaged, odd or change while they are read: named, never a crash at question 4,000."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from benchmarks.tasks.small import build
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from tests.runtime.toy_export import Toy
from tests.tasks.test_public import ai2d, diagram, png
from topovlm import cli
from topovlm.errors import InputError
from topovlm.evaluation.evaluate import check_samples
from topovlm.tasks import open_task
from topovlm.tasks.public.dataset import read
from topovlm.tasks.public.items import Item, item_of
from topovlm.tasks.public.prompts import PROMPTS
from topovlm.tasks.public.record import Benchmark
from topovlm.tasks.public.table import BENCHMARKS, VIDEO_BENCHMARKS
from topovlm.tasks.public.videos import Clips


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    build(folder, 8)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported folder, which is never asked."""
    return Toy().write(tmp_path_factory.mktemp("toy") / "onnx")


def test_a_table_that_is_replaced_is_named(tmp_path: Path) -> None:
    """A shorter file in its place, or none: the picture is no longer there; a new look sees the new file."""
    file = ai2d(tmp_path, [diagram(n) for n in range(6)])
    samples = open_task("ai2d", tmp_path).samples("all", 99, 0)
    assert samples[5].load_images()[0].getpixel((0, 0)) == (5, 0, 0)
    ai2d(tmp_path, [diagram(7)])
    with pytest.raises(InputError, match=r"group 2, row 1, image.*|cannot be read any more"):
        samples[5].load_images()
    fresh = open_task("ai2d", tmp_path).samples("all", 99, 0)
    assert fresh[0].load_images()[0].getpixel((0, 0)) == (7, 0, 0)
    file.unlink()
    with pytest.raises(InputError, match="no longer there"):
        fresh[0].load_images()


def _spoilt(file: Path, how: str) -> None:
    whole = file.read_bytes()
    if how == "cut off":
        file.write_bytes(whole[: len(whole) * 2 // 3])
    elif how == "empty":
        file.write_bytes(b"")
    elif how == "a hole in the middle":
        hole = len(whole) // 2
        file.write_bytes(whole[: hole - 200] + b"\xff" * 400 + whole[hole + 200 :])
    else:
        file.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")


@pytest.mark.parametrize("how", ["cut off", "empty", "a hole in the middle", "a pointer to the file"])
def test_a_damaged_parquet_ends_with_its_name(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    """Exit code 2 from the command line, the file in the sentence, before a model is opened."""
    rows = [diagram(n, image={"bytes": png(n) + bytes(4000), "path": None}) for n in range(8)]
    file = ai2d(tmp_path, rows)
    table = parquet.read_table(file)
    parquet.write_table(table, file, compression="none", row_group_size=2, write_page_checksum=True)
    _spoilt(file, how)
    code = cli.main(["eval", str(model), "--bench", "ai2d", "--bench-data", str(tmp_path)])
    said = capsys.readouterr().err
    assert code == 2
    assert "Traceback" not in said
    assert "test-00000-of-00001.parquet" in said
    assert "damaged or cut off" in said


def test_a_cut_arrow_stream_is_named(tmp_path: Path) -> None:
    """As `datasets` leaves it when it is killed."""
    table = parquet.read_table(ai2d(tmp_path / "x", [diagram(n) for n in range(8)]))
    file = tmp_path / "ai2d-test.arrow"
    with pa.ipc.new_stream(str(file), table.schema) as stream:
        for batch in table.to_batches(max_chunksize=2):
            stream.write_batch(batch)
    file.write_bytes(file.read_bytes()[:-700])
    with pytest.raises(InputError, match=r"ai2d-test\.arrow.*cannot be read to its end"):
        read(BENCHMARKS["ai2d"], file)


TEXTS = {
    "right to left": "\u05de\u05d4 \u202eabc\u202c \u0645\u0627",
    "emoji with joiners": "👩‍👩‍👧‍👦 🏳️‍🌈",
    "a line separator": "one\u2028two\u2029three",
    "a byte order mark": "\ufeffWhat?",
    "combining marks": "e\u0301" * 200 + "Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢",
    "controls": "What\x00 is\x1b[31m this\x07?",
    "private use": "\ue000\U0010fffd",
    "a long text": "why " * 5000,
}


@pytest.mark.parametrize("kind", TEXTS)
def test_any_text_is_asked_as_it_is(tmp_path: Path, kind: str) -> None:
    """In questions and options, of parquet and JSON: the prompt holds it, the right answer is right."""
    text = TEXTS[kind]
    row = diagram(1, question=text, options=[f"{text} 1", f"{text} 2"])
    ai2d(tmp_path / "table", [row])
    (tmp_path / "1.png").write_bytes(png(1))
    (tmp_path / "test.json").write_text(json.dumps([{**row, "image": "1.png"}]), encoding="utf-8")
    for place in (tmp_path / "table", tmp_path / "test.json"):
        for name in ("ai2d", "ai2d-strict"):
            task = open_task(name, place)
            (sample,) = task.samples("all", 9, 0)
            check_samples(task, [sample])
            assert text in task.prompt(sample)
            assert task.score(sample, "B").score == 1
            assert task.score(sample, "A").score == 0


def test_text_that_is_no_unicode_is_named(tmp_path: Path) -> None:
    """Half a surrogate in JSON, Latin-1 in a CSV, NUL in a TSV."""
    (tmp_path / "1.png").write_bytes(png(1))
    rows = [diagram(n, image="1.png") for n in range(2)]
    text = json.dumps(rows).replace("What is 0?", "half \\ud83d of it")
    (tmp_path / "test.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"test\.json|row 0"):
        open_task("ai2d", tmp_path / "test.json").samples("all", 1, 0)
    (tmp_path / "test.csv").write_bytes(
        "question,options,answer,image\nÜber,\"['a', 'b']\",1,1.png\n".encode("latin-1")
    )
    with pytest.raises(InputError, match=r"test\.csv.*UTF-8"):
        read(BENCHMARKS["ai2d"], tmp_path / "test.csv")


@pytest.mark.parametrize("record", BENCHMARKS.values(), ids=list(BENCHMARKS))
def test_two_thousand_options_or_one_are_left_out_in_every_form(record: Benchmark, small: Path) -> None:
    """Lists, lists as text: the row is left out by name, whatever the benchmark."""
    if record.options_form not in ("list", "list as text"):
        return  # columns are counted by the record, open questions have none
    row = _rows(record, small)[0]
    for options in ([f"{n}. o" for n in range(2000)], ["A. o"]):
        made = str(options) if record.options_form == "list as text" else options
        with pytest.raises(InputError, match=record.options[0]):
            item_of(record, {**row, record.options[0]: made}, record.configs[0], 0)


def _rows(record: Benchmark, small: Path) -> list[dict[str, Any]]:
    """Rows as the reader hands them on."""
    from topovlm.tasks.public.places import find
    from topovlm.tasks.public.rows import rows

    place = find(record, small)
    return [dict(row) for table in place.tables for row in rows(record, table.path)]


CELLS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.binary(max_size=4)
    | st.lists(st.none() | st.integers() | st.text(max_size=3) | st.lists(st.integers()), max_size=4)
    | st.dictionaries(st.text(max_size=3), st.integers(), max_size=2)
    | st.sampled_from(["A", "(A)", "0", "-1", "7", "1e400", "nan", "['a']", "[", "<image 9>", "../x", "/x"])
)  # fmt: skip


@pytest.mark.parametrize("record", BENCHMARKS.values(), ids=list(BENCHMARKS))
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_cell_is_asked_or_refused(record: Benchmark, small: Path, data: st.DataObject) -> None:
    """Some cells of a good row replaced by anything: a question with a right answer, or one sentence."""
    row = _good(record, small)
    for column in data.draw(st.sets(st.sampled_from(sorted(row)), min_size=1, max_size=3)):
        if column not in record.pictures:
            row[column] = data.draw(CELLS)
    try:
        item: Item = item_of(record, row, record.configs[0], 0)
        asked = PROMPTS[record.prompt](item)
    except InputError:
        return
    assert asked.strip()
    assert item.answer in (item.letters or (item.answer,))
    assert 0 <= item.chance < 1


_GOOD: dict[str, dict[str, Any]] = {}


def _good(record: Benchmark, small: Path) -> dict[str, Any]:
    if record.name not in _GOOD:
        _GOOD[record.name] = _rows(record, small)[0]
    return dict(_GOOD[record.name])


@pytest.mark.parametrize("record", VIDEO_BENCHMARKS, ids=lambda record: record.name)
def test_clips_that_are_missing_or_in_a_broken_archive_are_named(
    record: Benchmark, small: Path, tmp_path: Path
) -> None:
    """The clip's own name and what to fetch; an archive that is cut off by the archive's."""
    items = read(record, small).items
    with pytest.raises(InputError, match=r"neither a file nor in an archive.*Fetch the dataset's videos"):
        Clips(record, tmp_path).find(items[0])
    with zipfile.ZipFile(tmp_path / "videos_chunked_01.zip", "w") as archive:
        archive.writestr("videos/other.mp4", bytes(2000))
    whole = (tmp_path / "videos_chunked_01.zip").read_bytes()
    (tmp_path / "videos_chunked_01.zip").write_bytes(whole[:-40])
    with pytest.raises(InputError, match=r"videos_chunked_01\.zip.*is no archive that can be read"):
        Clips(record, tmp_path).find(items[0])


def test_nothing_usable_ends_with_the_first_reason(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2; a table without rows says so."""
    ai2d(tmp_path, [diagram(n, answer="9") for n in range(3)])
    words = ["eval", str(model), "--bench", "ai2d", "--bench-data", str(tmp_path)]
    assert cli.main(words) == 2
    assert "row 0: answer = '9': is none of the 2 options" in capsys.readouterr().err
    ai2d(tmp_path, [])
    assert cli.main(words) == 2
    assert "the tables hold no row" in capsys.readouterr().err
