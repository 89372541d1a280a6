"""What a scorer is: facts about it and one function. Import it from `topovlm.choose.scorers`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar, get_args

if TYPE_CHECKING:
    import numpy as np

    from topovlm.topology.barcode import Barcode

Given = TypeVar("Given")
# "states" and "points" are there anyway; others are computed, or asked of the model, once for all scorers.
Need = Literal["states", "points", "barcode", "bypassed", "sensitivity", "elimination"]
# What is kept until the number of layers is known.
_KEPT: frozenset[Need] = frozenset({"states", "barcode"})


def _sees(_settings: Settings) -> str:
    return ""


def _is_ready() -> None:
    return None


@dataclass(frozen=True)
class Settings:
    """What a scorer may depend on besides the states.

    `k` nearest neighbours of the layer graphs; `drop_count` layers go, none of `protected`. `points`: float32
    [layers, points, width], the layers' clouds as --cloud and --token say (None: the states themselves);
    `barcode` of these at this k. `bypassed`: float32 [layers + 1, samples, width], see
    `bypasses.collect_bypassed`; `sensitivity`: float64 [layers], see `sensitivities.collect_sensitivity`;
    `elimination`: float64 [2, layers], see `eliminations.eliminate`.
    """

    k: int = 15
    seed: int = 0
    drop_count: int = 1
    protected: frozenset[int] = frozenset()
    barcode: Barcode | None = None
    points: np.ndarray | None = None
    bypassed: np.ndarray | None = None
    sensitivity: np.ndarray | None = None
    elimination: np.ndarray | None = None

    def needed_barcode(self) -> Barcode:
        """The barcode, for scorers whose `needs` name it."""
        return _given(self.barcode, "barcode")

    def needed_points(self) -> np.ndarray:
        """The clouds, for scorers whose `needs` name them."""
        return _given(self.points, "points")

    def needed_bypassed(self) -> np.ndarray:
        """The last clouds without one layer each, for scorers whose `needs` name them."""
        return _given(self.bypassed, "bypassed")

    def needed_sensitivity(self) -> np.ndarray:
        """How much the answers depend on each layer, for scorers whose `needs` name it."""
        return _given(self.sensitivity, "sensitivity")

    def needed_elimination(self) -> np.ndarray:
        """In which place each layer goes, and at what KL, for scorers whose `needs` name it."""
        return _given(self.elimination, "elimination")


def _given(value: Given | None, need: Need) -> Given:
    if value is None:
        raise LookupError(f"a scorer reads `{need}`: its `needs` do not name it, or nobody has collected it")
    return value


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
    `on_request`: it scores only where it is asked for, since it costs passes of its own or needs a package
    that need not be here. `ready()` raises `MissingToolError` where that is not installed.
    """

    name: str
    paper: str
    why: str
    score: Callable[[np.ndarray, Settings], tuple[np.ndarray, Mapping[str, object]]]
    needs: frozenset[Need] = frozenset({"states"})
    depends_on_count: bool = False
    judged: bool = True
    blind: Callable[[Settings], str] = _sees
    on_request: bool = False
    ready: Callable[[], None] = _is_ready

    def __post_init__(self) -> None:
        unknown = self.needs - set(get_args(Need))
        if unknown:
            raise ValueError(f"scorer {self.name}: needs {', '.join(sorted(unknown))}, which nobody collects")
        if self.depends_on_count and not self.needs <= _KEPT:
            rule = "what depends on how many layers go may need `states` and `barcode` alone"
            raise ValueError(f"scorer {self.name}: {rule}")
