"""Results of shards in a folder, by content: a run that was killed finds those that were done.

The folder may come from elsewhere: a file is numbers or texts, never code, and one whose bytes are not those
that its first line names is as good as none.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from topovlm import artifacts, json_text

if TYPE_CHECKING:
    from topovlm.workers.jobs import Result


def user_folder(name: str) -> Path | None:
    """This user's cache of that name; TOPOVLM_CACHE says where, or `off`: None."""
    named = os.environ.get("TOPOVLM_CACHE", "")
    if named.lower() == "off":
        return None
    if named:
        return Path(named).expanduser() / name
    from platformdirs import user_cache_path

    return user_cache_path("topovlm") / name


_MAGIC = b"\x93NUMPY"


def packed(result: Result) -> bytes:
    """Texts as JSON, numbers as numpy's own format."""
    if isinstance(result, list):
        return json.dumps(result).encode()
    import numpy as np

    buffer = io.BytesIO()
    np.save(buffer, result, allow_pickle=False)
    return buffer.getvalue()


def unpacked(data: bytes) -> Result:
    """Raises ValueError for bytes that are neither."""
    if not data.startswith(_MAGIC):
        texts = json_text.parse(data)
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise ValueError("no list of texts")
        return texts
    import numpy as np

    found: np.ndarray = np.load(io.BytesIO(data), allow_pickle=False)
    return found


def write(folder: Path, key: str, result: Result) -> None:
    """Whole or not at all."""
    data = packed(result)
    artifacts.write_bytes(folder / key, hashlib.sha256(data).hexdigest().encode() + b"\n" + data)


def read(folder: Path, key: str) -> Result | None:
    """None where it is not there, torn or changed."""
    try:
        digest, _, data = (folder / key).read_bytes().partition(b"\n")
        if hashlib.sha256(data).hexdigest().encode() == digest:
            return unpacked(data)
    except (OSError, ValueError):
        pass
    return None
