"""A whole deployment with workers is the one without: one report, nothing left behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.pipeline import deploying
from tests.pipeline.test_data import data_file


def test_a_deployment_with_workers_has_the_same_content_hash(model: Path, tmp_path: Path) -> None:
    """On a Ray of our own; and what the one has done serves the other."""
    more = ("--data", str(data_file(tmp_path, 170)), "--eval-samples", "70")
    code, alone = deploying.deploy(model, tmp_path / "alone", *more)
    assert code == 0
    out = tmp_path / "shared"
    words = deploying.arguments(model, out, *more, "--workers", "ray:local")
    done = subprocess.run(
        [sys.executable, "-m", "topovlm", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["content_hash"] == alone["content_hash"]
    assert " ray" not in done.stderr.lower()  # what Ray says is no business of the user
    hidden = [sorted(path.name for path in (run / ".topovlm").iterdir()) for run in (out, tmp_path / "alone")]
    assert hidden[0] == hidden[1]
    code, _ = deploying.deploy(model, out, *more)
    assert code == 0
    assert deploying.stages_run(out) == []
