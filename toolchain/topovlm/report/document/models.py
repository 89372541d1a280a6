"""The two models, what was written of them, and what was checked of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Literal

from topovlm.records import Strict
from topovlm.report.document.figures import VOLATILE, Count, Which

Rule = Literal["at most", "more than", "equal to"]
_RULES: dict[Rule, Callable[[float, float], bool]] = {
    "at most": lambda value, limit: value <= limit,
    "more than": lambda value, limit: value > limit,
    "equal to": lambda value, limit: value == limit,
}


class Artifact(Strict, frozen=True, kw_only=True):
    """One file or folder that the run wrote (or read); `path` is relative to the run directory.

    `format` is the name that its exporter gives it, `title` the same in words. `checked` says that the checks
    of this run loaded or ran these very files; what was only written claims nothing.
    """

    path: str
    format: str
    model: Which
    bytes: Count
    sha256: str
    title: str = ""
    checked: bool = False
    reproducible: bool = (
        True  # False: same inputs need not give the same bytes (hash not part of the content)
    )
    loads_in: tuple[str, ...] = ()  # e.g. "transformers", "transformers.js"

    @property
    def words(self) -> str:
        """What it is, for people."""
        return self.title or self.format


class Verification(Strict, frozen=True, kw_only=True):
    """One check of an artefact that a stranger would otherwise have to repeat, or a fact that goes with it.

    A check is made by `check`: its outcome is its value against its limit, and nothing else. Without a `rule`
    it is a fact: listed, and never counted as passed or failed (`passed` is None).
    """

    name: str  # e.g. "reload", "cached = uncached", "ONNX parity", "negative control: shifted position"
    model: Which
    rule: Rule | None = None
    value: float | None = None  # e.g. worst absolute logit error
    limit: float | None = None
    passed: bool | None = None
    detail: str = ""

    def __post_init__(self) -> None:
        if self.passed is not _outcome(self.rule, self.value, self.limit):
            raise ValueError(f"the outcome of {self.name!r} is not what its value and limit say")


def _outcome(rule: Rule | None, value: float | None, limit: float | None) -> bool | None:
    if rule is None:
        return None
    if value is None or limit is None:
        return False  # a check without a figure has shown nothing
    return math.isfinite(value) and math.isfinite(limit) and _RULES[rule](value, limit)


def check(
    name: str, model: Which, value: float | None, rule: Rule, limit: float, *, detail: str = ""
) -> Verification:
    """A check whose outcome is `value` `rule` `limit`; a missing value fails."""
    passed = _outcome(rule, value, limit)
    return Verification(
        name=name, model=model, rule=rule, value=value, limit=limit, passed=passed, detail=detail
    )


def fact(name: str, model: Which, detail: str, value: float | None = None) -> Verification:
    """Something seen while checking that no limit was set for."""
    return Verification(name=name, model=model, value=value, detail=detail)


class Model(Strict, frozen=True, kw_only=True):
    """Facts of one model: dense (as given) or slim (as shipped)."""

    name: str
    architecture: str
    layers: Count
    parameters: Count
    decoder_parameters: Count
    weight_bytes: Count
    weights_sha256: str
    hidden_size: Count | None = None
    path: Annotated[str, VOLATILE] = ""
