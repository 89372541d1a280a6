"""Residual streams that do not fit into memory lie in a file while nothing computes with them."""

from __future__ import annotations

import contextlib
import mmap
import tempfile
import weakref

import torch


class Spill:
    """Gives tensors back as they are up to `most_bytes` of them at a time, others as views of a file.

    The file has no name: it goes with the last view, however the process ends. It lies where temporary files
    do; pages that are not read are not in memory.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes, self._held_bytes = most_bytes, 0

    def __call__(self, tensor: torch.Tensor) -> torch.Tensor:
        """The same numbers. One that is not on the processor, or is empty, stays."""
        size = tensor.nbytes
        if size == 0 or tensor.device.type != "cpu":
            return tensor
        if self._held_bytes + size <= self._most_bytes:
            self._held_bytes += size
            weakref.finalize(tensor, self._gone, size)
            return tensor
        return _in_a_file(tensor)

    def _gone(self, size: int) -> None:
        self._held_bytes -= size


def _in_a_file(tensor: torch.Tensor) -> torch.Tensor:
    with tempfile.TemporaryFile() as file:
        file.truncate(tensor.nbytes)
        pages = mmap.mmap(file.fileno(), tensor.nbytes)
    found = torch.frombuffer(pages, dtype=tensor.dtype).view(tensor.shape)
    found.copy_(tensor)
    with contextlib.suppress(AttributeError, OSError):  # where the system has no such advice, it pages anyway
        pages.madvise(mmap.MADV_DONTNEED)  # of a shared mapping: what was written stays in the file
    return found
