"""Content hash of a report: equal for two runs of the same inputs, whether or not one was killed and resumed.

What counts: everything in the document except
1. fields marked volatile in the data model (times of day, wall times, paths, command line, the machine, the
   whole latency and memory measurement, the bound in ms that a relative budget resolved to),
2. the plan's predictions and the text of its floor when its predictor was measured on this machine
   (`plan.predictor == "measured-here"`); the verdict and the number of layers kept always count,
3. the byte size and hash of artefacts that are not reproducible byte for byte (`reproducible: false`), and
   the figures and the wording of verifications (their names and outcomes count).

Numbers are rounded to six significant digits, so that a last-bit difference is no change.
"""

from __future__ import annotations

import hashlib
import typing
from functools import cache

import msgspec

from topovlm.report.document import Artifact, Plan, Report, Verification

_SIGNIFICANT_DIGITS = 6


@cache
def _volatile_fields(cls: type) -> frozenset[str]:
    hints = typing.get_type_hints(cls, include_extras=True)
    return frozenset(
        name
        for name, hint in hints.items()
        for meta in getattr(hint, "__metadata__", ())
        if isinstance(meta, msgspec.Meta) and (meta.extra or {}).get("volatile")
    )


def _skipped(part: msgspec.Struct) -> set[str]:
    skipped = set(_volatile_fields(type(part)))
    if isinstance(part, Plan) and part.predictor == "measured-here":
        skipped |= {"rows", "source", "floor", "floor_text"}
    if isinstance(part, Artifact) and not part.reproducible:
        skipped |= {"bytes", "sha256"}
    if isinstance(part, Verification):
        skipped |= {"detail", "value", "limit"}
    return skipped


def content(value: object) -> object:
    """The part of a document that counts, as plain JSON-able data."""
    if isinstance(value, msgspec.Struct):
        skipped = _skipped(value)
        return {
            name: content(getattr(value, name)) for name in value.__struct_fields__ if name not in skipped
        }
    if isinstance(value, dict):
        return {key: content(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [content(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.{_SIGNIFICANT_DIGITS}g}") + 0.0  # -0.0 and 0.0 are one number
    return value


def content_hash(report: Report) -> str:
    """SHA-256 (hex) over the canonical JSON of `content(report)`."""
    return hashlib.sha256(msgspec.json.encode(content(report), order="sorted")).hexdigest()
