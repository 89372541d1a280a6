"""Where a question's clip is: a file below the dataset's folder, or a member of one of its zip archives."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from topovlm.errors import InputError, explain
from topovlm.tasks.public.items import Item, number_of
from topovlm.tasks.public.record import Benchmark, Uncut, Videos
from topovlm.videos.clip import Clip
from topovlm.videos.numbered import is_picture
from topovlm.videos.rules import FrameRule
from topovlm.videos.span import Span


class Clips:
    """The clips of one dataset's folder, with the benchmark's rule for frames. Archives are listed once, none
    is unpacked.

    `uncut`: clips of the revision that keeps them whole are taken, too, from the row's `start` to its `end`.
    """

    def __init__(self, record: Benchmark, root: Path, *, uncut: bool = False) -> None:
        assert record.videos is not None
        self._name = record.name
        self._revision = record.revision
        self._videos: Videos = record.videos
        self._takes_uncut = uncut
        self._root = root
        self._rule = FrameRule.parse(record.videos.frames)
        self._members: dict[str, Clip] | None = None

    def find(self, item: Item) -> Clip:
        """Raises `InputError` naming the clip that is nowhere, or that this protocol does not read."""
        names = [f"{item.clip}{suffix}" for suffix in self._videos.suffixes]
        found = self._at(names)
        if found is not None:
            return found
        for one in self._videos.uncut:
            if item.clip.startswith(f"{one.cut}/"):
                found = self._at([f"{one.folder}{name.removeprefix(one.cut)}" for name in names], one.rate)
                if found is not None:
                    return self._part(found, one, item)
        rule = "is neither a file nor in an archive of the dataset's folder"
        raise InputError(explain("video", names[0], rule, "Fetch the dataset's videos, too"))

    def _part(self, clip: Clip, uncut: Uncut, item: Item) -> Clip:
        if not self._takes_uncut:
            rule = f"is not of revision {self._revision}, which lmms-eval reads"
            remedy = f"Fetch that one, or ask {self._name}-strict"
            raise InputError(explain("video", clip.name, rule, remedy))
        return replace(clip, span=_span(item)) if uncut.bounded else clip

    def _at(self, names: Iterable[str], rate: float = 0.0) -> Clip | None:
        """The first of these names that is there; `rate`: as a folder of pictures."""
        for folder in (*self._videos.folders, "", "video", "videos"):
            for name in names:
                path = self._root / folder / name
                if path.is_dir() if rate else path.is_file():
                    return Clip(path, self._rule, rate=rate)
        if self._members is None:
            self._members = dict(self._archived())
        for name in names:
            for end in _ends(f"{name}/" if rate else name, 2 if self._videos.by_config else 1):
                if end in self._members:
                    return replace(self._members[end], rate=rate)
        return None

    def _archived(self) -> Iterator[tuple[str, Clip]]:
        """Members by every end of their names; of pictures, the folders that they are in."""
        for archive in sorted(self._root.rglob("*.zip")):
            try:
                with zipfile.ZipFile(archive) as file:
                    members = file.namelist()
            except (zipfile.BadZipFile, OSError) as error:
                rule = f"is no archive that can be read ({error})"
                raise InputError(explain("video", str(archive), rule, "Fetch it again")) from None
            clips = (f"{m.rpartition('/')[0]}/" if is_picture(m) else m for m in members if m[-1:] != "/")
            for member in dict.fromkeys(clips):
                for end in _ends(member, 1):
                    yield end, Clip(archive, self._rule, member)


def _span(item: Item) -> Span:
    start, end = (number_of(item.fields.get(name)) for name in ("start", "end"))
    if start is None or end is None:
        missing = "start" if start is None else "end"
        rule = "must be a second: the clip is whole, and the question is about a part of it"
        raise InputError(explain(missing, item.fields.get(missing), rule))
    return Span(start, end)


def _ends(name: str, least: int) -> list[str]:
    """The name and what its first folders leave of it: `least` parts, for one may be in two folders.

    A folder's name ends in a slash, which is no part.
    """
    parts = name.removesuffix("/").split("/")
    slash = name[len(name.removesuffix("/")) :]
    return ["/".join(parts[start:]) + slash for start in range(max(1, len(parts) - least + 1))]
