"""Where a predicted figure comes from, in the words that a plan prints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

ORIGIN = {
    "seen": "fitted to published rows",
    "kin": "borrowed from the board's family",
    "far": "borrowed from other families or runtimes",
}
# Level -> how a plan puts it; the rest are finer than what a reader asks for.
_WORDS = {
    "family": "family {}",
    "board": "board {}",
    "memory": "memory {}",
    "runtime": "runtime {}",
    "format": "weights {} (runtime/bits)",
}


def missing_rows(unseen: Sequence[str]) -> tuple[str, ...]:
    """Levels without rows, in words, the widest alone: who misses a runtime misses its formats too."""
    by_level: dict[str, str] = {}
    for each in unseen:
        level, _, name = each.partition("=")
        if level in _WORDS and not (level == "family" and "/" in name):
            by_level.setdefault(level, name)
    if "runtime" in by_level:
        by_level.pop("format", None)
    if "family" in by_level:
        by_level.pop("memory", None)
    return tuple(words.format(by_level[level]) for level, words in _WORDS.items() if level in by_level)


def describe(
    origins: Mapping[str, str],
    missing: Mapping[str, Sequence[str]],
    runtime: tuple[str, str],
    measurements: int,
) -> str:
    """`vision, decode: fitted to ...; prefill: borrowed from ...; no rows of: ...; for edge-llm 0.10`.

    `origins`, `missing`: by phase; `runtime`: name and version; `measurements`: a user's own, taken in.
    """
    alike = _phases_by_words((origin, phase) for phase, origin in origins.items())
    parts = [f"{', '.join(phases)}: {origin}" for origin, phases in alike.items()]
    lacking = _phases_by_words((each, phase) for phase, some in missing.items() for each in some)
    if lacking:
        said = [
            each if len(phases) == len(origins) else f"{each} ({', '.join(phases)})"
            for each, phases in lacking.items()
        ]
        parts.append(f"no rows of: {', '.join(said)}")
    name, version = runtime
    parts.append(f"for {name} {version}" if version else f"for {name}, of no stated version")
    if measurements:
        parts.append(
            "corrected by a measurement of yours" + (f" ({measurements})" if measurements > 1 else "")
        )
    return "; ".join(parts)


def _phases_by_words(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for words, phase in pairs:
        found.setdefault(words, []).append(phase)
    return found
