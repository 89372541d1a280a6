"""A whole deployment with workers is the one without: one report, nothing left behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.pipeline import deploying
from tests.workers.conftest import Nodes


def test_a_deployment_with_workers_has_the_same_content_hash(
    model: Path, nodes: Nodes, tmp_path: Path
) -> None:
    """On a Ray of our own and on a cluster; and a record of the one serves the other."""
    more = ("--eval-samples", "130", "--samples", "40")
    code, alone = deploying.deploy(model, tmp_path / "alone", *more)
    assert code == 0
    for workers in ("ray:local", nodes.workers):
        out = tmp_path / workers.partition(":")[2].strip("/").replace(":", "-")
        words = deploying.arguments(model, out, *more, "--workers", workers)
        done = subprocess.run(
            [sys.executable, "-m", "topovlm", *words], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["content_hash"] == alone["content_hash"]
        assert "ray" not in done.stderr.lower().replace(str(out).lower(), "")
        hidden = {path.name for path in (out / ".topovlm").iterdir()}
        assert hidden == {path.name for path in (tmp_path / "alone" / ".topovlm").iterdir()}
    code, again = deploying.deploy(model, out, *more)
    assert code == 0
    assert deploying.stages_run(out) == []
