"""Where a question's clip is: a file below the dataset's folder, or a member of one of its zip archives."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

from topovlm.errors import InputError, explain
from topovlm.tasks.public.items import Item
from topovlm.tasks.public.record import Benchmark, Videos
from topovlm.videos.clip import Clip
from topovlm.videos.rules import FrameRule


class Clips:
    """The clips of one dataset's folder, with the benchmark's rule for frames. Archives are listed once, none
    is unpacked."""

    def __init__(self, record: Benchmark, root: Path) -> None:
        assert record.videos is not None
        self._videos: Videos = record.videos
        self._root = root
        self._rule = FrameRule.parse(record.videos.frames)
        self._members: dict[str, Clip] | None = None

    def find(self, item: Item) -> Clip:
        """Raises `InputError` naming the clip that is nowhere."""
        names = [f"{item.clip}{suffix}" for suffix in self._videos.suffixes]
        for folder in (*self._videos.folders, "", "video", "videos"):
            for name in names:
                if (self._root / folder / name).is_file():
                    return Clip(self._root / folder / name, self._rule)
        if self._members is None:
            self._members = dict(self._archived())
        for name in names:
            for end in _ends(name, 2 if self._videos.by_config else 1):
                if end in self._members:
                    return self._members[end]
        rule = "is neither a file nor in an archive of the dataset's folder"
        raise InputError(explain("video", names[0], rule, "Fetch the dataset's videos, too"))

    def _archived(self) -> Iterator[tuple[str, Clip]]:
        """Members by every end of their names."""
        for archive in sorted(self._root.rglob("*.zip")):
            try:
                with zipfile.ZipFile(archive) as file:
                    members = [member for member in file.namelist() if not member.endswith("/")]
            except (zipfile.BadZipFile, OSError) as error:
                rule = f"is no archive that can be read ({error})"
                raise InputError(explain("video", str(archive), rule, "Fetch it again")) from None
            for member in members:
                for end in _ends(member, 1):
                    yield end, Clip(archive, self._rule, member)


def _ends(name: str, least: int) -> list[str]:
    """The name and what its first folders leave of it: `least` parts, for one may be in two folders."""
    parts = name.split("/")
    return ["/".join(parts[start:]) for start in range(max(1, len(parts) - least + 1))]
