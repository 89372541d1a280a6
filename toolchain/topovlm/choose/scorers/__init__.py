"""The scorers by name: ours, one module each, and those of plug-ins (docs/adding-a-scorer.md).

Nothing heavy is imported before a scorer is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from importlib import import_module

from topovlm.choose.scorers.scorer import Need, Scorer, Settings
from topovlm.errors import InputError, explain
from topovlm.registry import Registry

__all__ = ["SCORERS", "STAND_IN", "Need", "Scorer", "Settings", "find_scorer", "needed", "scorers_for"]

# Sees something in any two samples.
STAND_IN = "block-influence"


def _in(module: str) -> Callable[[], Scorer]:
    """`SCORER` of a module of this package, imported when it is asked for."""
    return lambda: import_module(f"{__name__}.{module}").SCORER


SCORERS: Registry[Scorer] = Registry(
    "topovlm.scorers",
    {
        "zigzag": _in("zigzag"),
        "zigzag-seed": _in("zigzag_seed"),
        "block-influence": _in("block_influence"),
        "angular": _in("angular"),
        "rank-average": _in("rank_average"),
        "magnitude": _in("magnitude"),
        "cka": _in("cka"),
        "spread": _in("spread"),
        "persistence": _in("persistence"),
        "bypass-consistency": _in("bypass_consistency"),
        "bypass-zigzag": _in("bypass_zigzag"),
        "fisher": _in("fisher"),
        "greedy": _in("greedy"),
        "depth-prior": _in("depth_prior"),
        "reverse-order": _in("reverse_order"),
        "random": _in("drawn"),
    },
)


def scorers_for(asked: Collection[str] = ()) -> tuple[str, ...]:
    """Scorers that run: those that cost next to nothing, and those that are asked for."""
    return tuple(name for name in SCORERS if name in asked or not find_scorer(name).on_request)


def needed(asked: Collection[str] = ()) -> frozenset[Need]:
    """All that the scorers that run are given beside settings."""
    return frozenset[Need]().union(*(find_scorer(name).needs for name in scorers_for(asked)))


def find_scorer(name: str, field: str = "--scorer") -> Scorer:
    """The scorer of that name. Raises `InputError`: unknown (names the nearest), a plug-in that is none."""
    scorer = SCORERS.find(name, field)
    if not isinstance(scorer, Scorer) or scorer.name != name:
        rule = f"the plug-in holds no topovlm.choose.scorers.Scorer of that name ({type(scorer).__name__})"
        raise InputError(explain(SCORERS.group, name, rule, "Update or remove it"))
    return scorer
