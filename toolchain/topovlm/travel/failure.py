"""Why a model cannot be run: one exception for this machine's runtime and for a board. No packages."""

from __future__ import annotations


class Failure(Exception):
    """`kind` for the program: runtime, provider, graph, memory. `field` = `value`: `rule`, for a person."""

    def __init__(self, kind: str, field: str, value: object, rule: str) -> None:
        super().__init__(f"{field} {value}: {rule}")
        self.kind, self.field, self.value, self.rule = kind, field, value, rule
