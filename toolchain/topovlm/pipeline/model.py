"""The dense model of a run: read once, when a stage asks for it, and given back before memory is measured."""

from __future__ import annotations

import functools
import gc
from typing import TYPE_CHECKING, Any

from topovlm.checkpoint.files import Checkpoint

if TYPE_CHECKING:
    from topovlm.checkpoint.live import Live


class DenseModel:
    """Nothing is read before it is asked for. `loads` counts how often the weights were.

    What does not fit into memory stays in its files, and is computed with layer by layer.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self.loads = 0
        self._processor: Any = None
        self._live: Live | None = None

    @property
    def processor(self) -> Any:
        """The model's own processor: templates, tokens, pictures. Raises `InputError`."""
        if self._processor is None:
            from topovlm.checkpoint.processors import load_processor

            self._processor = load_processor(self.checkpoint.folder)
        return self._processor

    @functools.cached_property
    def computing(self) -> str:
        """The type that layers are scored and judged in: `checkpoint.computing`."""
        from topovlm.checkpoint.computing import computing

        return computing(self.checkpoint)

    @property
    def live(self) -> Live:
        """The model, computing in that type. Raises `InputError`, and `TooLargeError` when not even a layer
        at a time fits."""
        if self._live is None:
            self._live = self._loaded(self.computing)
        return self._live

    @property
    def exact(self) -> Live:
        """The model, computing in float32: what a copy of it is verified against."""
        return self.live if self.computing == "float32" else self._loaded("float32")

    def _loaded(self, dtype: str) -> Live:
        from topovlm.checkpoint.live import load

        self.loads += 1
        return load(self.checkpoint, dtype=dtype, processor=self.processor)

    def release(self) -> None:
        """Give the weights back; the next one who asks reads them again."""
        self._live = None
        gc.collect()
