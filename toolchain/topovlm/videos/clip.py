"""A video file, or a member of a zip archive, with the rule that says which frames of it are shown."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import IO, TYPE_CHECKING

from topovlm.errors import InputError, explain
from topovlm.plain_files import MEBIBYTE, Stored, open_plain
from topovlm.videos.frames import Frames
from topovlm.videos.kept import Kept
from topovlm.videos.rules import USUAL, FrameRule
from topovlm.videos.span import Span

if TYPE_CHECKING:
    from PIL.Image import Image

FIELD = "video"
_MOST_MEMBER_BYTES = 8192 * MEBIBYTE
_MOST_PICTURE_BYTES = 256 * MEBIBYTE
_IN_MEMORY_BYTES = 64 * MEBIBYTE
_BLOCK_BYTES = MEBIBYTE
_KEPT = Kept(512 * MEBIBYTE)
_MOST_DIGESTS = 2**16


@dataclass(frozen=True)
class Clip:
    """`file`, or `member` of the zip archive `file`. Decoded when it is needed, not before.

    `span`: the part of it that is shown. `rate`: frames a second of a clip that is a folder of pictures (as a
    member, its name ends in a slash); 0 for a video.
    """

    file: Path
    rule: FrameRule = USUAL
    member: str = ""
    span: Span | None = None
    rate: float = 0.0

    @property
    def name(self) -> str:
        return f"{self.file}: {self.member}" if self.member else str(self.file)

    def __str__(self) -> str:
        return self.name

    def absolute(self) -> Clip:
        """The same from any working directory."""
        return replace(self, file=self.file.absolute())

    def frames(self) -> Frames:
        """Decoded now, or kept from before while the file stays as it was.

        Raises `InputError` naming the file, `MissingToolError` without PyAV.
        """
        return _KEPT.get((self, self._written()), lambda: _decoded(self))

    @property
    def digest(self) -> str:
        """`Frames.digest`, remembered while the file stays as it was. Raises as `frames` does."""
        return _digest(self, self._written())

    def _written(self) -> tuple[int, int]:
        """(when it was written in ns, bytes); zeros where it cannot be had: reading says why."""
        try:
            stat = self.file.stat()
        except (OSError, ValueError):
            return 0, 0
        return stat.st_mtime_ns, stat.st_size


@lru_cache(maxsize=_MOST_DIGESTS)
def _digest(clip: Clip, _written: tuple[int, int]) -> str:
    return clip.frames().digest


def _decoded(clip: Clip) -> Frames:
    if not clip.rate:
        from topovlm.videos.decode import chosen_frames

        return chosen_frames(lambda: _opened(clip), clip.rule, clip.span, clip.name)
    from topovlm.videos.numbered import chosen_pictures

    with _pictures(clip) as (names, load):
        return chosen_pictures(names, load, rate=clip.rate, rule=clip.rule, span=clip.span, clip=clip.name)


@contextlib.contextmanager
def _opened(clip: Clip) -> Iterator[IO[bytes]]:
    """Bytes that can be sought in."""
    with open_plain(clip.file, field=FIELD) as file:
        if not clip.member:
            yield file
            return
        with tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES) as copy:
            _unpack(clip, file, copy)
            copy.seek(0)
            yield copy


@contextlib.contextmanager
def _pictures(clip: Clip) -> Iterator[tuple[list[str], Callable[[str], Image]]]:
    """(names of the files beside each other, what loads one of them)."""
    from topovlm.pictures import load_image

    if not clip.member:
        try:
            names = [path.name for path in clip.file.iterdir()]
        except OSError as error:
            raise InputError(explain(FIELD, clip.name, f"cannot be listed ({error.strerror})")) from None
        yield names, lambda name: load_image(clip.file / name)
        return
    with open_plain(clip.file, field=FIELD) as file, _archive_errors(clip), zipfile.ZipFile(file) as archive:
        inside = (name for name in archive.namelist() if name.startswith(clip.member))
        names = [name for name in inside if "/" not in name.removeprefix(clip.member)]
        yield names, lambda name: load_image(_Packed(archive, name))


@dataclass(frozen=True)
class _Packed(Stored):
    """A picture in an archive that is open."""

    archive: zipfile.ZipFile
    member: str

    @property
    def name(self) -> str:
        return f"{self.archive.filename}: {self.member}"

    def read(self) -> bytes:
        if self.archive.getinfo(self.member).file_size > _MOST_PICTURE_BYTES:
            rule = f"has more than {_MOST_PICTURE_BYTES // MEBIBYTE} MiB"
            raise InputError(explain("image", self.name, rule))
        return self.archive.read(self.member)


def _unpack(clip: Clip, file: IO[bytes], copy: IO[bytes]) -> None:
    """A member cannot be read backwards without reading it again from its start: it is copied once."""
    with _archive_errors(clip), zipfile.ZipFile(file) as archive:
        if archive.getinfo(clip.member).file_size > _MOST_MEMBER_BYTES:
            rule = f"has more than {_MOST_MEMBER_BYTES // MEBIBYTE} MiB"
            raise InputError(explain(FIELD, clip.name, rule))
        with archive.open(clip.member) as member:  # which gives no more than its stated size
            shutil.copyfileobj(member, copy, _BLOCK_BYTES)


@contextlib.contextmanager
def _archive_errors(clip: Clip) -> Iterator[None]:
    """Whatever is wrong with an archive is said of this clip in it."""
    try:
        yield
    except KeyError:
        raise InputError(explain(FIELD, clip.name, "is not in the archive")) from None
    # A damaged archive; a compression that is not known; a password.
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError) as error:
        if isinstance(error, InputError):
            raise
        rule = f"cannot be taken out of its archive ({str(error)[:120]})"
        raise InputError(explain(FIELD, clip.name, rule, "Fetch the archive again")) from None
