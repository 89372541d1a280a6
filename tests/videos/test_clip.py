"""Frames out of files: the right ones, upright, from any container; files that are no good are named."""

from __future__ import annotations

import random
import wave
import zipfile
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from PIL import Image

from tests.clips import grey, numbers, write_clip
from topovlm.errors import InputError
from topovlm.samples import Sample, read_jsonl
from topovlm.videos import decode
from topovlm.videos.clip import Clip
from topovlm.videos.frames import Frames
from topovlm.videos.kept import Kept
from topovlm.videos.rules import FrameRule
from topovlm.videos.span import Span

FOUR = FrameRule("linspace", 4)


@pytest.mark.parametrize(
    ("name", "codec", "pixels"),
    [
        ("a.mp4", "libx264", "yuv420p"),
        ("a.mkv", "libx264", "yuv420p"),
        ("a.avi", "mpeg4", "yuv420p"),
        ("a.webm", "libvpx-vp9", "yuv420p"),
        ("a.mkv", "ffv1", "yuv444p"),
        ("a.mov", "mjpeg", "yuvj420p"),
        ("a.ts", "libx264", "yuv420p"),
        ("a.MP4", "libx265", "yuv420p"),
    ],
)
def test_the_frames_of_the_rule(tmp_path: Path, name: str, codec: str, pixels: str) -> None:
    """Each frame tells its number: neither the container nor frames out of order change which are chosen."""
    clip = Clip(write_clip(tmp_path / name, 50, codec=codec, pixels=pixels), FOUR)
    frames = clip.frames()
    assert numbers(frames.pictures) == [0, 16, 32, 49] == list(frames.indices)
    assert (frames.total, frames.size) == (50, (32, 24))
    assert frames.seconds == pytest.approx((0, 1.6, 3.2, 4.9), rel=0.01)


@pytest.mark.parametrize(
    ("start", "end", "shown"),
    [
        (1.0, 3.0, [10, 16, 23, 30]),
        (2.24, 2.36, [22, 22, 23, 24]),  # the nearest frames
        (-1.0, 1.5, [0, 5, 10, 15]),
        (4.5, 99.0, [45, 46, 47, 49]),  # stated longer than it is
        (0.0, 4.9, [0, 16, 32, 49]),  # all of it
        (1.0, 1.0, [10, 10, 10, 10]),
    ],
)
def test_a_part_of_a_clip(tmp_path: Path, start: float, end: float, shown: list[int]) -> None:
    """The rule chooses among the part's frames, which are counted from its first: as if it were cut out."""
    frames = Clip(write_clip(tmp_path / "a.mp4", 50), FOUR, span=Span(start, end)).frames()
    assert numbers(frames.pictures) == shown
    assert [index + shown[0] for index in frames.indices] == shown
    assert frames.total == shown[-1] - shown[0] + 1
    assert frames.seconds[0] == 0


def test_a_part_that_is_not_there(tmp_path: Path) -> None:
    """Behind the clip's end, or before its own beginning."""
    path = write_clip(tmp_path / "a.mp4", 50)
    with pytest.raises(InputError, match=r"a\.mp4.*is over after 5 s, and seconds 5 to 7"):
        Clip(path, FOUR, span=Span(5, 7)).frames()
    for start, end in ((2, 1), (-3, -1), (float("nan"), 1), (0, float("inf"))):
        with pytest.raises(InputError, match="seconds of a clip"):
            Span(start, end)


@pytest.mark.parametrize("packed", [False, True])
def test_a_folder_of_pictures(tmp_path: Path, packed: bool) -> None:
    """Number n is the frame of second n / rate; the rest of the folder is passed over."""
    folder = tmp_path / "clip"
    folder.mkdir()
    for number in range(1, 31):
        grey(number).save(folder / f"{number:05d}.png")
    (folder / "index.txt").write_text("not a picture")
    clip = Clip(folder, FOUR, rate=3.0)
    if packed:
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            for path in folder.iterdir():
                archive.write(path, f"tvqa/clip/{path.name}")
            archive.write(folder / "00001.png", "tvqa/clip/more/00001.png")
        clip = Clip(tmp_path / "a.zip", FOUR, "tvqa/clip/", rate=3.0)
    whole, part = clip.frames(), replace(clip, span=Span(2, 5)).frames()
    assert numbers(whole.pictures) == [1, 10, 20, 30]
    assert numbers(part.pictures) == [6, 9, 12, 15]
    assert (whole.total, part.total, part.seconds) == (30, 10, (0, 1, 2, 3))
    with pytest.raises(InputError, match="is over after 10 s"):
        replace(clip, span=Span(11, 12)).frames()
    for name in ("00007.png", "00031.png"):
        (folder / name).write_bytes(b"no picture")
    if not packed:
        with pytest.raises(InputError, match=r"00031\.png"):
            clip.frames()
        (folder / "00031.png").unlink()
        with pytest.raises(InputError, match="holds no picture"):
            Clip(tmp_path, FOUR, rate=3.0).frames()
        with pytest.raises(InputError, match=r"nowhere.*cannot be listed"):
            Clip(tmp_path / "nowhere", FOUR, rate=3.0).frames()


def test_rate_and_repeated_frames(tmp_path: Path) -> None:
    """A rate that is no whole number; a clip shorter than the rule's number."""
    frames = Clip(write_clip(tmp_path / "a.mp4", 3, fps=Fraction(30000, 1001)), FOUR).frames()
    assert numbers(frames.pictures) == [0, 0, 1, 2]
    assert frames.fps == pytest.approx(29.97, abs=0.01)


def test_a_member_of_an_archive(tmp_path: Path) -> None:
    """Packed or stored, the same frames as the file's; nothing is unpacked beside it."""
    file = write_clip(tmp_path / "a.mp4", 20)
    digests = {Clip(file, FOUR).frames().digest}
    for kind in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(tmp_path / f"{kind}.zip", "w", kind) as archive:
            archive.write(file, "videos/a.mp4")
        digests.add(Clip(tmp_path / f"{kind}.zip", FOUR, "videos/a.mp4").frames().digest)
    assert len(digests) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.zip", "8.zip", "a.mp4"]


def test_turned_by_its_matrix(tmp_path: Path) -> None:
    """A clip filmed on its side is shown upright, as a picture with an EXIF tag is."""
    left = Image.new("RGB", (64, 32), "black")
    left.paste("white", (0, 0, 32, 32))
    data = write_clip(tmp_path / "a.mp4", [left] * 3).read_bytes()
    identity = b"\0\1\0\0" + bytes(12) + b"\0\1\0\0" + bytes(12) + b"\x40\0\0\0"
    quarter = bytes(4) + b"\0\1\0\0" + bytes(4) + b"\xff\xff\0\0" + bytes(16) + b"\x40\0\0\0"
    start = data.index(b"tkhd")
    place = data.index(identity, start)
    (tmp_path / "b.mp4").write_bytes(data[:place] + quarter + data[place + len(quarter) :])
    (frame, *_) = Clip(tmp_path / "b.mp4").frames().pictures
    assert frame.size == (32, 64)
    top, bottom = (frame.getpixel((16, y))[0] for y in (8, 56))
    assert top > 200
    assert bottom < 50  # turned clockwise


def cut(path: Path) -> Path:
    data = write_clip(path, 40, container={"movflags": "faststart"}).read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    return path


def headless(path: Path) -> Path:
    data = write_clip(path, 40).read_bytes()  # its index stands at the end
    path.write_bytes(data[: len(data) // 2])
    return path


def empty(path: Path) -> Path:
    return write_clip(path, 0)


def sound(path: Path) -> Path:
    with wave.open(str(path.with_suffix(".wav")), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(1600))
    with av.open(str(path.with_suffix(".wav"))) as source, av.open(str(path), "w") as made:
        stream = made.add_stream("aac", rate=8000)
        for frame in source.decode(audio=0):
            made.mux(stream.encode(frame))
        made.mux(stream.encode(None))
    return path


def odd(path: Path) -> Path:
    """A codec that nobody knows."""
    data = write_clip(path, 5).read_bytes()
    path.write_bytes(data.replace(b"avc1", b"zzz9"))
    return path


def words(path: Path) -> Path:
    path.write_text("not a video, whatever it is called")
    return path


def playlist(path: Path) -> Path:
    """Which FFmpeg would follow to other files."""
    other = write_clip(path.with_name("other.ts"), 5)
    path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{other}\n#EXT-X-ENDLIST\n")
    return path


def nothing(path: Path) -> Path:
    return path


def folder(path: Path) -> Path:
    path.mkdir()
    return path


BAD: dict[Callable[[Path], Path], str] = {
    cut: "cut off|read to its end",
    headless: "read to its end",
    empty: "no frame|no video|read to its end",
    sound: "no video",
    odd: "codec|read to its end",
    words: "read to its end",
    playlist: "read to its end",
    nothing: "does not exist",
    folder: "is a folder",
}


@pytest.mark.parametrize("make", BAD, ids=lambda make: make.__name__)
def test_what_is_no_good_is_named(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    """By file and by line of the data; never another error than `InputError`."""
    path = make(tmp_path / "bad.mp4")
    with pytest.raises(InputError, match=BAD[make]) as caught:
        Clip(path).frames()
    assert "bad.mp4" in str(caught.value)
    data = tmp_path / "data.jsonl"
    data.write_text('{"video": "bad.mp4", "prompt": "What?"}\n')
    with pytest.raises(InputError, match=r"data.jsonl:1: .*bad.mp4"):
        read_jsonl(data)


@pytest.mark.parametrize("damage", ["member", "archive", "bytes"])
def test_archives_that_are_no_good(tmp_path: Path, damage: str) -> None:
    """A member that is not there, a file that is no archive, a member whose bytes changed."""
    path = tmp_path / "videos.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(write_clip(tmp_path / "a.mp4", 20), "a.mp4")
    if damage == "archive":
        path.write_bytes(b"PK nothing")
    if damage == "bytes":
        data = bytearray(path.read_bytes())
        data[100:140] = bytes(40)
        path.write_bytes(bytes(data))
    with pytest.raises(InputError, match=r"videos\.zip"):
        Clip(path, member="b.mp4" if damage == "member" else "a.mp4").frames()


def test_damage_is_named_or_played_past(tmp_path: Path) -> None:
    """Whatever the length at which a download stopped, whichever bytes changed."""
    whole = write_clip(tmp_path / "a.mkv", 20).read_bytes()
    drawn = random.Random(5)
    damaged = [whole[:length] for length in range(0, len(whole), 197)]
    for _ in range(20):
        place = drawn.randrange(len(whole) - 60)
        damaged.append(whole[:place] + drawn.randbytes(60) + whole[place + 60 :])
    path = tmp_path / "bad.mkv"
    named = 0
    for data in damaged:
        path.write_bytes(data)
        try:
            assert len(Clip(path, FOUR).frames().pictures) == 4
        except InputError as error:
            named += 1
            assert "bad.mkv" in str(error)  # noqa: PT017
    assert 0 < named < len(damaged)


@pytest.fixture
def decodes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Clips that are decoded from here on, by name, each time anew."""
    seen: list[str] = []
    plain = decode.chosen_frames

    def watched(*words: Any) -> Frames:
        seen.append(Path(words[-1]).name)
        return plain(*words)

    monkeypatch.setattr(decode, "chosen_frames", watched)
    return seen


def test_a_clip_is_decoded_once(tmp_path: Path, decodes: list[str]) -> None:
    """For its line, its digest and every model that is asked; anew by another rule, and once it changed."""
    names = [write_clip(tmp_path / f"{k}.mp4", 5 + k).name for k in range(3)]
    lines = [f'{{"video": "{name}", "frames": "linspace:4", "prompt": "What?"}}\n' for name in names]
    (tmp_path / "data.jsonl").write_text("".join(lines))
    for _ in range(2):
        samples = read_jsonl(tmp_path / "data.jsonl")
        shown = [sample.load_videos()[0] for sample in samples]
    assert [one.pixels for one in samples] == [(frames.digest,) for frames in shown]
    assert decodes == names
    Clip(tmp_path / "0.mp4", FrameRule("floor", 4)).frames()
    write_clip(tmp_path / "1.mp4", 30)
    assert read_jsonl(tmp_path / "data.jsonl")[1].load_videos()[0].total == 30
    assert decodes == [*names, "0.mp4", "1.mp4"]


def test_frames_are_kept_within_a_bound() -> None:
    """Those used last, by the bytes of their pixels, repeated ones counted once; one alone is kept anyhow."""
    kept, made = Kept(2 * 8 * 8 * 3), list[str]()

    def ask(key: str, number: int = 1) -> None:
        def decode() -> Frames:
            made.append(key)
            return Frames.of([Image.new("RGB", (8, 8)) for _ in range(number)])

        kept.get(key, decode)

    for key in ("a", "b", "a", "c", "a", "b"):  # "b" was used longest ago when "c" came
        ask(key)
    assert made == ["a", "b", "c", "b"]
    ask("long", 9)
    ask("long", 9)
    ask("a")
    assert made[4:] == ["long", "a"]
    one = Image.new("RGB", (8, 8))
    kept.get("same", lambda: Frames((one,) * 9, (0,) * 9, 1.0, 1))
    ask("a")
    assert made[6:] == []


def test_lines_of_data(tmp_path: Path) -> None:
    """`video` and `frames` of a line; one clip, however it is spelled or stored, is one group."""
    write_clip(tmp_path / "a.mp4", 20)
    (tmp_path / "copy.mp4").write_bytes((tmp_path / "a.mp4").read_bytes())
    (tmp_path / "data.jsonl").write_text(
        '{"video": "a.mp4", "frames": "floor:5", "prompt": "What?"}\n'
        '{"video": ["./a.mp4", "copy.mp4"], "prompt": "How?"}\n'
    )
    one, two = read_jsonl(tmp_path / "data.jsonl", frames=FOUR)
    (shown,) = one.load_videos()
    assert shown.indices == (0, 4, 8, 12, 16)
    assert [video.indices for video in two.load_videos()] == [(0, 6, 12, 19)] * 2
    assert one.group == two.group != ""
    (tmp_path / "data.jsonl").write_text('{"video": "a.mp4", "frames": "some", "prompt": "What?"}\n')
    with pytest.raises(InputError, match=r"data.jsonl:1: frames = 'some'"):
        read_jsonl(tmp_path / "data.jsonl")


def test_frames_given_as_pictures() -> None:
    """A sample may hold the frames; they are what is shown, after its pictures."""
    frames = Frames.of([grey(1), grey(2)], fps=2.0)
    sample = Sample("a", (grey(9),), "What?", videos=(frames,))
    assert (sample.load_images(), sample.load_videos()) == ([grey(9)], [frames])
    assert frames.seconds == (0.0, 0.5)
    with pytest.raises(InputError, match="nothing to see"):
        Frames.of([])
    with pytest.raises(InputError, match="sizes"):
        Frames.of([grey(1), grey(1, (8, 8))])
