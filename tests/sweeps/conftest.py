"""A tiny model and one finished sweep of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.pipeline import deploying
from tests.sweeps import sweeping


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return deploying.build_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="session")
def finished(model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, dict[str, Any]]:
    """Directory, exit code and document. Read-only by convention."""
    out = tmp_path_factory.mktemp("sweep") / "out"
    return (out, *sweeping.sweep(model, out))
