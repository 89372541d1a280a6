"""Samples from JSONL: every mistake is named with its file and line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from topovlm.errors import InputError
from topovlm.samples import Sample, read_jsonl


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one good picture, one cut short and one that is no picture."""
    Image.new("L", (8, 6), 128).save(tmp_path / "good.png")
    whole = (tmp_path / "good.png").read_bytes()
    (tmp_path / "short.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.png").write_text("not a picture")
    return tmp_path


def write(folder: Path, *records: object) -> Path:
    path = folder / "data.jsonl"
    path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in records))
    return path


GOOD = {"image": "good.png", "prompt": "What is it?"}


def test_reads_samples_with_defaults(folder: Path) -> None:
    """One picture or several, relative to the file; missing fields get defaults; blank lines are skipped."""
    full = {"image": ["good.png", "good.png"], "prompt": "Same?", "answer": "yes", "id": "b", "chance": 0.5}
    first, second = read_jsonl(write(folder, GOOD, "", full))
    assert (first.id, first.answer, first.metric, first.group) == ("line-1", None, "exact", "good.png")
    assert (second.id, second.answer, second.chance, len(second.images)) == ("b", "yes", 0.5, 2)
    assert [image.mode for image in second.load_images()] == ["RGB", "RGB"]
    assert first.load_images()[0].size == (8, 6)


def test_the_category_has_an_older_name(folder: Path) -> None:
    """`family` is read as before; `category` is its name now, and both at once are a contradiction."""
    new, old, plain = read_jsonl(write(folder, {**GOOD, "category": "a"}, {**GOOD, "family": "b"}, GOOD))
    assert [sample.category for sample in (new, old, plain)] == ["a", "b", "user"]


def test_text_only_samples_are_fine(folder: Path) -> None:
    """A question without a picture is a sample."""
    assert read_jsonl(write(folder, {"prompt": "Hello?"}))[0].load_images() == []


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"image": "absent.png", "prompt": "?"}, "absent.png.*does not exist"),
        ({"image": "short.png", "prompt": "?"}, "short.png.*is not a picture"),
        ({"image": "text.png", "prompt": "?"}, "text.png.*is not a picture"),
        ({"image": ".", "prompt": "?"}, "is a folder"),
        ("{broken", "not JSON"),
        ("[" * 100_000, "nested too deeply"),
        ({**GOOD, "family": "a", "category": "b"}, "family = 'a'.*give one of them"),
        ({**GOOD, "category": 3}, "category = 3: must be a string"),
        ("[1, 2]", "a JSON object is needed, this is a list"),
        ({"image": "good.png"}, "prompt = None: is missing"),
        ({"image": "good.png", "prompt": "  "}, "prompt.*is empty"),
        ({"image": "good.png", "prompt": 5}, "prompt = 5: must be a string"),
        ({"image": 5, "prompt": "?"}, "image = 5: must be a path"),
        ({"image": ["good.png", None], "prompt": "?"}, "must be a path or a list"),
        ({**GOOD, "answer": 3}, "answer = 3: must be a string"),
        ({**GOOD, "chance": 1.5}, "chance = 1.5: must be a number"),
        ({**GOOD, "chance": True}, "chance = True: must be a number"),
        ({**GOOD, "anwser": "x"}, "unknown field = 'anwser'"),
        ({**GOOD, "id": "line-1"}, "id = 'line-1': is already at .*data.jsonl:1"),
    ],
)
def test_a_bad_line_is_named(folder: Path, bad: object, words: str) -> None:
    """The message starts with file:line and says what is wrong."""
    path = write(folder, GOOD, bad)
    with pytest.raises(InputError, match=words) as raised:
        read_jsonl(path)
    assert str(raised.value).startswith(f"{path}:2: ")


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xff\xfe\x00"])
def test_an_empty_or_binary_file_is_refused(tmp_path: Path, content: bytes) -> None:
    """No samples and no UTF-8 are bad input, not an empty run."""
    path = tmp_path / "data.jsonl"
    path.write_bytes(content)
    with pytest.raises(InputError, match="--data"):
        read_jsonl(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """The path that does not exist is in the message."""
    with pytest.raises(InputError, match=r"nothing\.jsonl.*does not exist"):
        read_jsonl(tmp_path / "nothing.jsonl")


def test_pictures_are_opened_late(folder: Path) -> None:
    """With check_images off a broken picture is found when it is needed, and still named by line."""
    (sample,) = read_jsonl(write(folder, {"image": "short.png", "prompt": "?"}), check_images=False)
    with pytest.raises(InputError, match=r"data\.jsonl:1.*short\.png"):
        sample.load_images()


def test_in_memory_pictures_become_rgb() -> None:
    """Pictures that are not files are converted, not opened; transparency is laid on white."""
    (image,) = Sample("a", (Image.new("RGBA", (2, 2)),), "?").load_images()
    assert image.mode == "RGB"
    assert image.getpixel((0, 0)) == (255, 255, 255)


def test_calibration_sees_the_picture_that_the_runtime_sees(tmp_path: Path) -> None:
    """A photograph taken sideways is turned upright by its EXIF tag, a transparent one laid on white."""
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to view
    Image.new("RGB", (8, 6), (200, 0, 0)).save(tmp_path / "turned.png", exif=exif)
    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    (sample,) = read_jsonl(write(tmp_path, {"image": ["turned.png", "clear.png"], "prompt": "?"}))
    turned, clear = sample.load_images()
    assert turned.size == (6, 8)
    assert clear.getpixel((1, 1)) == (255, 255, 255)


def test_only_newlines_end_a_line(tmp_path: Path) -> None:
    """Separators that JSON allows inside strings, other systems' line ends and a byte order mark."""
    prompt = "one\u2028two\u0085three\u2029four"
    lines = [json.dumps({"prompt": prompt}, ensure_ascii=False), json.dumps({"prompt": "next"})]
    path = tmp_path / "data.jsonl"
    path.write_bytes(("\ufeff" + "\r\n".join(lines) + "\r\n").encode())
    assert [sample.prompt for sample in read_jsonl(path)] == [prompt, "next"]
