"""Data that change or end while they are read: named, never a crash at question 4,000."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tasks.test_public import ai2d, diagram
from topovlm.errors import InputError
from topovlm.tasks import open_task


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
