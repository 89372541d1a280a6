"""Frames of a video file by PyAV: all decoded in order, none sought, the chosen ones kept.

Seeking lands on different frames by container, codec and library; decoding from the start is exact.
How many frames there are is counted in the packets first, since a header may say nothing or too much; where
decoding finds another number, that one holds, and the clip is decoded again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import IO, TYPE_CHECKING, Any

from topovlm.errors import InputError, MissingToolError, explain
from topovlm.pictures import MOST_PIXELS, to_rgb
from topovlm.videos.frames import Frames
from topovlm.videos.rules import FrameRule
from topovlm.videos.span import Span

if TYPE_CHECKING:
    from PIL.Image import Image

FIELD = "video"
# No playlists nor scripts: FFmpeg would open the files and addresses that they name.
FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,asf,ogg,gif,apng,ivf,nut,mxf,dv,rm,"
    "mpeg,mpegts,mpegvideo,m4v,mjpeg,h264,hevc,av1,obu,yuv4mpegpipe"
)
_MOST_PIXELS_KEPT = 2**31  # 6 GiB as RGB
_QUARTER_TURNS = {90: "ROTATE_90", 180: "ROTATE_180", 270: "ROTATE_270"}
Open = Callable[[], AbstractContextManager[IO[bytes]]]


def pyav() -> Any:
    """The module `av`. Raises `MissingToolError` with what installs it."""
    try:
        import av
    except ImportError:
        rule = "is not installed, and videos are decoded with it"
        raise MissingToolError(explain("av", None, rule, "pip install 'topovlm[video]'")) from None
    return av


def chosen_frames(opened: Open, rule: FrameRule, span: Span | None, name: str) -> Frames:
    """The frames that the rule chooses of the clip, or of its `span`, upright RGB.

    `opened` gives the file's bytes, twice or three times. Raises `InputError` naming the file: not a video,
    no frame, cut off, a codec that is not known, too large, over before the span begins.
    """
    total, fps = _counted(opened, name)
    for _ in range(2):
        shown = span.places(total, fps, name) if span else range(total)
        indices = rule.indices(len(shown), fps)
        kept, found = _decoded(opened, {shown[index] for index in indices}, name)
        if found == total:
            pictures = tuple(kept[shown[index]] for index in indices)
            return Frames.chosen(pictures, indices, fps, len(shown), name)
        if not found:
            raise InputError(explain(FIELD, name, "holds no frame that can be decoded"))
        total = found
    raise InputError(explain(FIELD, name, "decodes to another number of frames each time", "Convert it"))


def _counted(opened: Open, name: str) -> tuple[int, float]:
    """(packets with a frame, frames a second)."""
    with _stream(opened, name) as (container, stream):
        packets = sum(1 for packet in container.demux(stream) if packet.size)
        if not packets:
            raise InputError(explain(FIELD, name, "holds no frame"))
        if packets < stream.frames:
            rule = f"is cut off: {packets} of {stream.frames} frames are there"
            raise InputError(explain(FIELD, name, rule, "Fetch it again"))
        rate = stream.average_rate or stream.guessed_rate
        fps = float(rate) if rate else 0.0
        return packets, fps if fps > 0 else 1.0  # a clip that tells no rate is seen one a second


def _decoded(opened: Open, wanted: Collection[int], name: str) -> tuple[dict[int, Image], int]:
    """(wanted frames by place, how many there are)."""
    kept: dict[int, Image] = {}
    found = pixels = 0
    with _stream(opened, name) as (container, stream):
        stream.thread_type = "AUTO"
        for frame in container.decode(stream):
            if found in wanted:
                pixels += frame.width * frame.height
                if frame.width * frame.height > MOST_PIXELS or pixels > _MOST_PIXELS_KEPT:
                    rule = f"is too large: frame {found} is of {frame.width} x {frame.height} pixels"
                    raise InputError(explain(FIELD, name, rule, "Scale it down, or choose fewer frames"))
                kept[found] = _upright(frame, name)
            found += 1
    return kept, found


def _upright(frame: Any, name: str) -> Image:
    """As a player shows it: telephones film on their side and say so."""
    from PIL import Image

    picture = to_rgb(frame.to_image(), name)
    turn = _QUARTER_TURNS.get(int(frame.rotation) % 360)
    return picture.transpose(getattr(Image.Transpose, turn)) if turn else picture


@contextmanager
def _stream(opened: Open, name: str) -> Iterator[tuple[Any, Any]]:
    """(container, its best video stream); whatever FFmpeg says is about this file."""
    av = pyav()
    options = {"format_whitelist": FORMATS}
    try:
        with opened() as file, av.open(file, "r", options=options, metadata_errors="replace") as container:
            stream = container.streams.best("video")
            if stream is None:
                raise InputError(explain(FIELD, name, "holds no video"))
            if stream.codec_context is None:
                raise InputError(
                    explain(FIELD, name, "is of a codec that is not known", "Convert it to H.264")
                )
            yield container, stream
    except InputError:
        raise
    # PyAV's own errors, and what it raises for a codec or a pixel format that it does not know.
    except (av.FFmpegError, OSError, ValueError, ArithmeticError, LookupError, RuntimeError) as error:
        words = " ".join(str(getattr(error, "strerror", None) or error).split())[:120]
        rule = f"is not a video that can be read to its end ({words or type(error).__name__})"
        raise InputError(explain(FIELD, name, rule, "Convert it to MP4 with H.264")) from None
