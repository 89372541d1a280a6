"""Nothing is sent anywhere by what we load."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    "module", ["topovlm.runtime.engine", "topovlm.exporters.onnx.sessions", "topovlm.cli"]
)
def test_onnx_runtime_is_told_to_send_nothing_before_it_is_loaded(module: str, tmp_path: Path) -> None:
    """From 1.29 on its wheels keep a session of what they send in the folder for temporary files."""
    code = (
        f"import {module}, os, onnxruntime\n"
        "assert os.environ['ORT_DISABLE_TELEMETRY'] == '1'\n"
        "onnxruntime.get_available_providers()"
    )
    env = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**env, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / ".ses").exists()
