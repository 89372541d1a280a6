"""How the kernels of this package are compiled.

Compiled code is cached on disk beside the module, or in the user's cache folder where the module's folder is
read-only, and kernels release the interpreter lock so that plain threads run them side by side.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

F = TypeVar("F", bound=Callable[..., Any])

# What kernels take and return. Numba compiles for what it is called with and does not look at annotations.
Whole = int | np.int64
Flags = NDArray[np.uint8]
Ints = NDArray[np.int32]
Longs = NDArray[np.int64]
Words = NDArray[np.uint64]
Floats = NDArray[np.floating[Any]]

# Typed, because numba compiles a function once more for every literal that it is called with.
NONE: Whole = np.int64(-1)
ZERO: Whole = np.int64(0)
ONE: Whole = np.int64(1)


def kernel(function: F) -> F:
    """Compile `function` on first use: without the interpreter lock, cached on disk if possible."""
    try:
        return cast(F, njit(cache=True, nogil=True)(function))
    except RuntimeError:  # numba found no folder to write its cache to: compile in every process
        return cast(F, njit(nogil=True)(function))
