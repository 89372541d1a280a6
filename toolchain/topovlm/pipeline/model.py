"""The dense model of a run: read once, when a stage asks for it, and given back before memory is measured."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

from topovlm.checkpoint.files import Checkpoint

if TYPE_CHECKING:
    from topovlm.checkpoint.live import Live


class DenseModel:
    """Nothing is read before it is asked for. `loads` counts how often the weights were."""

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

    @property
    def live(self) -> Live:
        """The model in memory, float32. Raises `InputError`, and `TooLargeError` when it does not fit."""
        if self._live is None:
            from topovlm.checkpoint.live import load

            self._live = load(self.checkpoint, processor=self.processor)
            self.loads += 1
        return self._live

    def release(self) -> None:
        """Give the weights back; the next one who asks reads them again."""
        self._live = None
        gc.collect()
