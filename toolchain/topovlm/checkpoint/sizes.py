"""What a checkpoint takes in memory, from the headers of its files. No torch."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from topovlm.checkpoint.files import Checkpoint
from topovlm.machine.host import MOST_OF_MEMORY

ITEM_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class Sizes:
    """Numbers, not bytes: of the largest decoder layer, of all layers, and of what lies around them; of that,
    a table of words that is not the head's too is `looked_up` row by row where the model is in parts."""

    largest_layer: int
    layers: int
    around: int
    looked_up: int = 0

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> Sizes:
        found: Counter[int | None] = Counter()
        for name, entry in checkpoint.tensors.items():
            found[checkpoint.layer_of(name)] += entry.elements
        around = found.pop(None, 0)
        decoder = checkpoint.facts.shape.decoder
        words = (decoder.vocab, decoder.hidden)
        tables = [
            name
            for name, entry in checkpoint.tensors.items()
            if tuple(entry.shape) == words and checkpoint.layer_of(name) is None
        ]
        looked_up = decoder.head_params if len(tables) > 1 else 0
        return cls(max(found.values(), default=0), found.total(), around, looked_up)

    @property
    def parameters(self) -> int:
        return self.layers + self.around

    def loaded_bytes(self, dtype: str, free_bytes: int | None, copies: int = 1) -> int:
        """What the model holds while it computes in `dtype`: all of it where `copies` take less than most of
        what is free, else what lies around the layers and two of these (`families.mapped`)."""
        item = ITEM_BYTES[dtype]
        whole = self.parameters * item
        if free_bytes is None or copies * whole <= MOST_OF_MEMORY * free_bytes:
            return whole
        return (self.around - self.looked_up + 2 * self.largest_layer) * item
