"""Tests mirror the package; `tests.tiny` builds the small models they share."""
