"""Public benchmarks that dense and slim were asked, each under a named protocol."""

from __future__ import annotations

from topovlm.records import Strict
from topovlm.report.document.accuracy import Accuracy
from topovlm.report.document.figures import Count


class Benchmark(Strict, frozen=True, kw_only=True):
    """One benchmark: `name` is that of `--bench`, `protocol` what its answers were read and scored by.

    `asked` of the `available` questions (passes of a circular benchmark counted by themselves) were put to
    the models. `differences`: lines that tell the protocol from the one it is named after.
    """

    name: str
    title: str
    protocol: str
    licence: str
    asked: Count
    available: Count
    answer_tokens: Count
    differences: tuple[str, ...]
    accuracy: Accuracy
