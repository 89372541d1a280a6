"""The structure that the package promises: rooms on floors, no import that climbs, no circles."""

from __future__ import annotations

from tests import house


def test_every_room_has_a_floor() -> None:
    """A new package or module has its place among the floors before it is imported anywhere."""
    rooms = {house.room_of(module) for module in house.modules() if module}
    assert rooms <= house.FLOOR.keys()


def test_imports_never_climb() -> None:
    """Also not for types alone, and not inside functions."""
    assert house.climbs() == []
