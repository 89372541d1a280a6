"""What a scorer is: facts about it and one function. Import it from `topovlm.choose.scorers`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np

    from topovlm.topology.barcode import Barcode

Need = Literal["states", "barcode"]


def _sees(_settings: Settings) -> str:
    return ""


@dataclass(frozen=True)
class Settings:
    """What a scorer may depend on besides the states.

    `k` nearest neighbours of the layer graphs; `drop_count` layers go, none of `protected`; `barcode` of the
    same states at this k.
    """

    k: int = 15
    seed: int = 0
    drop_count: int = 1
    protected: frozenset[int] = frozenset()
    barcode: Barcode | None = None

    def needed_barcode(self) -> Barcode:
        """The barcode, for scorers whose `needs` name it."""
        if self.barcode is None:
            raise LookupError("a scorer reads the barcode, but its `needs` do not name it")
        return self.barcode


@dataclass(frozen=True)
class Scorer:
    """One idea of which layers may go.

    `score(states, settings)` takes float32 [layers, samples, width], the residual stream after each block,
    and gives one finite number per layer, a high one for a layer that may go, and figures for the report
    (texts, numbers, yes or no) by name.

    `why` ends the sentence "layer 7 was dropped: ..." of a layer that this scorer proposed. `paper` is where
    the idea is from. `depends_on_count`: the scores change with how many layers go, or which are protected.
    `judged` is false for one that is true to its paper: no judge changes its set, and no repair follows.
    `blind(settings)` says why these samples show it nothing, in words that follow its name; empty where they
    do. `STAND_IN` then scores in its place, and the report says so.
    """

    name: str
    paper: str
    why: str
    score: Callable[[np.ndarray, Settings], tuple[np.ndarray, Mapping[str, object]]]
    needs: frozenset[Need] = frozenset({"states"})
    depends_on_count: bool = False
    judged: bool = True
    blind: Callable[[Settings], str] = _sees
