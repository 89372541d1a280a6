"""Weights that stay in their files while nothing computes with them.

A checkpoint loaded in its stored precision is mapped, not read: its parameters are views of the files. `held`
brings those of some modules into memory, in the precision and on the device that compute, and gives them back
afterwards. So a pass that goes through the decoder layer by layer has one layer in memory, whatever the size
of the model, with transformers' own modules and names.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import mmap
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import torch
from torch import nn

_DONTNEED, _WILLNEED = 4, 3  # of Linux's madvise


class Weights(Protocol):
    """Where the parameters of a model are. `held`: within the block they can be used.

    `dtype`, `device`: what they are brought to; None where they stay as they are. `looked_up`: ids of
    parameters that are read row by row, from where they lie.
    """

    dtype: torch.dtype | None
    device: torch.device | None

    @property
    def looked_up(self) -> Collection[int]: ...

    def held(self, parameters: Iterable[nn.Parameter]) -> contextlib.AbstractContextManager[None]: ...

    def ahead(self, parameters: Iterable[nn.Parameter]) -> None:
        """They are wanted soon: reading may begin."""


class InMemory:
    """Nothing to do: all parameters are in memory for good."""

    dtype: torch.dtype | None = None
    device: torch.device | None = None
    looked_up: Collection[int] = ()

    def held(self, _parameters: Iterable[nn.Parameter]) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def ahead(self, _parameters: Iterable[nn.Parameter]) -> None:
        """Nothing is read."""


_KNOWN: WeakKeyDictionary[nn.Module, Mapped] = WeakKeyDictionary()


def weights_of(model: nn.Module) -> Weights:
    """Where the parameters of a loaded model are."""
    return _KNOWN.get(model) or InMemory()


class Mapped:
    """Parameters of `model`, mapped on the CPU, which computes as `dtype` on `device`.

    The modules `units` (decoder blocks, the head) hold their own when they run, the whole model holds
    `around`: who runs it more than once holds these for longer. A table of words, `embedding`, stays where it
    is: it may be a gigabyte, and a prompt takes some rows of it. `rounded_to`: a type that weights are
    rounded to before they are computed with. `staged`: what makes the copy that is brought to the device, of
    weights that are wanted soon, while others compute: for a GPU, pinned memory, from which its copies run
    beside its kernels; None: the kernel reads ahead.
    """

    def __init__(
        self,
        model: Any,
        *,
        units: Iterable[nn.Module],
        around: Sequence[nn.Parameter],
        embedding: nn.Module,
        dtype: torch.dtype,
        device: torch.device,
        files: Iterable[Path],
        staged: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> None:
        _KNOWN[model] = self
        self._stage = torch.Tensor.pin_memory if staged is None and device.type == "cuda" else staged
        self._staged: dict[int, Future[torch.Tensor]] = {}
        self._stager = ThreadPoolExecutor(1, thread_name_prefix="weights")
        self.dtype: torch.dtype | None = dtype
        self.rounded_to: torch.dtype | None = None
        self.device: torch.device | None = device
        self._counts: dict[int, int] = {}
        self._files = _addresses({str(file.resolve()) for file in files})
        self._stored = {id(parameter): parameter.data for parameter in model.parameters()}
        units = list(units)
        self.looked_up: frozenset[int] = self._looked_up_in(embedding, units)
        for unit in units:
            self._held_by(unit, list(unit.parameters()))
        for whole in {model, model.base_model}:
            self._held_by(whole, [one for one in around if id(one) not in self.looked_up])

    @contextlib.contextmanager
    def held(self, parameters: Iterable[nn.Parameter]) -> Iterator[None]:
        taken: list[nn.Parameter] = []
        try:
            for parameter in parameters:
                taken.append(parameter)
                self._take(parameter)
            yield
        finally:
            for parameter in taken:
                self._give_back(parameter)

    def ahead(self, parameters: Iterable[nn.Parameter]) -> None:
        for parameter in parameters:
            if self._counts.get(id(parameter)) or id(parameter) in self._staged:
                continue
            if self._stage is None:
                self._advise(parameter.data, _WILLNEED)
            else:
                stored = self._stored[id(parameter)]
                self._staged[id(parameter)] = self._stager.submit(self._stage, stored)

    def _take(self, parameter: nn.Parameter) -> None:
        count = self._counts.get(id(parameter), 0)
        self._counts[id(parameter)] = count + 1
        if count == 0:
            stored = self._stored[id(parameter)]
            staged = self._staged.pop(id(parameter), None)
            parameter.data = self._brought(stored if staged is None else staged.result())
            if parameter.data.data_ptr() != stored.data_ptr():  # a copy: the file's pages have served
                self._advise(stored, _DONTNEED)

    def _brought(self, stored: torch.Tensor) -> torch.Tensor:
        """As it is computed with."""
        exact = stored if self.rounded_to is None else stored.to(self.rounded_to)
        # The device converts, and half travels.
        return exact.to(self.device, non_blocking=True).to(self.dtype)

    def _give_back(self, parameter: nn.Parameter) -> None:
        count = self._counts.get(id(parameter), 0) - 1
        self._counts[id(parameter)] = max(0, count)
        if count == 0:
            parameter.data = self._stored[id(parameter)]
            self._advise(parameter.data, _DONTNEED)

    def _looked_up_in(self, table: nn.Module, units: Iterable[nn.Module]) -> frozenset[int]:
        """Rows are brought as they are found. Not where the head has the table too, and brings all of it, nor
        where the lookup computes: it would, in another precision."""
        shared = {id(parameter) for unit in units for parameter in unit.parameters()}
        if type(table) is not nn.Embedding or id(table.weight) in shared:
            return frozenset()

        def to_the_table(_module: nn.Module, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            return tuple(ids.to(table.weight.device) for ids in args)

        def brought(_module: nn.Module, _args: object, rows: torch.Tensor) -> torch.Tensor:
            return rows if self._counts.get(id(table.weight)) else self._brought(rows)

        table.register_forward_pre_hook(to_the_table)
        table.register_forward_hook(brought)
        return frozenset({id(table.weight)})

    def _advise(self, tensor: torch.Tensor, advice: int) -> None:
        """Tell the kernel about the pages of a tensor; one that lies in no file has no other copy."""
        first, last = tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes
        if any(begin <= first and last <= end for begin, end in self._files):
            begin = first // mmap.PAGESIZE * mmap.PAGESIZE
            _libc().madvise(ctypes.c_void_p(begin), ctypes.c_size_t(last - begin), advice)

    def _held_by(self, module: nn.Module, parameters: Sequence[nn.Parameter]) -> None:
        """Whenever the module runs, they are in memory."""

        def take(_module: nn.Module, _args: object) -> None:
            for parameter in parameters:
                self._take(parameter)

        def give_back(_module: nn.Module, _args: object, _output: object) -> None:
            for parameter in parameters:
                self._give_back(parameter)

        module.register_forward_pre_hook(take)
        module.register_forward_hook(give_back, always_call=True)


def _addresses(files: Collection[str]) -> list[tuple[int, int]]:
    """Where these files are mapped in this process, as Linux tells; elsewhere nobody knows."""
    found = []
    with contextlib.suppress(OSError), open("/proc/self/maps", encoding="utf-8", errors="replace") as lines:
        for line in lines:
            begin, _, end = line.partition(" ")[0].partition("-")
            if line.partition("/")[1] and line[line.index("/") :].rstrip("\n") in files:
                found.append((int(begin, 16), int(end, 16)))
    return found


@functools.cache
def _libc() -> Any:
    return ctypes.CDLL(None)
