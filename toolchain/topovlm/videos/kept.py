"""Frames that were decoded last, within a bound of bytes: a clip is looked at, scored and asked about."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

from topovlm.videos.frames import Frames

CHANNELS = 3


class Kept:
    """By key, those used last; at most `most_bytes` of pixels, but the last ones whatever they take."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self._held: OrderedDict[Hashable, Frames] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, decode: Callable[[], Frames]) -> Frames:
        """What is kept of this key, else what `decode` gives now."""
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
                return self._held[key]
        frames = decode()
        with self._lock:
            self._held[key] = frames
            while len(self._held) > 1 and sum(map(_bytes, self._held.values())) > self.most_bytes:
                self._held.popitem(last=False)
        return frames


def _bytes(frames: Frames) -> int:
    """Of the pixels: a picture that is shown several times is held once."""
    wide, high = frames.size
    return len({id(picture) for picture in frames.pictures}) * wide * high * CHANNELS
