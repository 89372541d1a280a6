"""What --workers takes, and what it says where there are none."""

from __future__ import annotations

import socket
import subprocess
import sys
import time

import pytest

from topovlm.config import resolve
from topovlm.errors import InputError, MissingToolError
from topovlm.workers import kept
from topovlm.workers.address import parse_address
from topovlm.workers.pool import HERE, open_pool

_HIDDEN = """
import sys
sys.modules["ray"] = None
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "ray":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Hide())
del sys.modules["ray"]
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name == "ray" else find(name, package)
from topovlm import cli
sys.exit(cli.main(sys.argv[1:]))
"""


def test_addresses() -> None:
    """A Ray of our own, or host and port; IPv6 in brackets."""
    assert parse_address("ray:local").host is None
    found = parse_address("ray://[::1]:6379")
    assert (found.host, found.port) == ("::1", 6379)
    assert resolve({"workers": "ray://head.example:6379"}).workers == "ray://head.example:6379"
    assert open_pool(None) is HERE


@pytest.mark.parametrize(
    "text", ["ray", "ray://", "ray://head", "local", "ray://a b:1", "ray://h:99999", "4"]
)
def test_other_addresses_are_refused(text: str) -> None:
    """With what can be given instead."""
    with pytest.raises(InputError, match=r"--workers = .*Give ray:local, or ray://host:port"):
        resolve({"workers": text})


def test_nobody_answers() -> None:
    """Known at once, and before anything is written."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening
        began = time.monotonic()
        with pytest.raises(MissingToolError, match=r"does not answer .*refused"):
            open_pool(f"ray://127.0.0.1:{taken.getsockname()[1]}")
    assert time.monotonic() - began < 10


def test_somebody_else_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray itself would wait for ever for a port that takes connections and is no cluster's."""
    from topovlm.workers import ray_cluster

    monkeypatch.setattr(ray_cluster, "_JOINS_S", 6.0)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        with pytest.raises(MissingToolError, match="gives no answer of a Ray cluster within 6 s"):
            open_pool(f"ray://127.0.0.1:{listening.getsockname()[1]}")


def test_without_ray(tmp_path) -> None:  # type: ignore[no-untyped-def]
    """Exit code 5 and the extra to install; nothing is written."""
    out = tmp_path / "out"
    words = [
        "deploy",
        "--target",
        "jetson-orin",
        "--sparsity",
        "25%",
        "--workers",
        "ray:local",
        "-o",
        str(out),
    ]
    done = subprocess.run(
        [sys.executable, "-c", _HIDDEN, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 5, done.stderr
    assert "pip install 'topovlm[ray]'" in done.stderr
    assert not out.exists()


def test_kept_results_hold_no_code(tmp_path) -> None:  # type: ignore[no-untyped-def]
    """Numbers and texts come back as they were; what is torn, changed or pickled does not."""
    import pickle

    import numpy as np

    numbers = np.arange(6, dtype=np.float32).reshape(2, 3)
    kept.write(tmp_path, "a", numbers)
    kept.write(tmp_path, "b", ["x", "ü"])
    found = kept.read(tmp_path, "a")
    assert isinstance(found, np.ndarray)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, numbers)
    assert kept.read(tmp_path, "b") == ["x", "ü"]
    assert kept.read(tmp_path, "c") is None
    whole = (tmp_path / "a").read_bytes()
    for damaged in (whole[:-1], whole[:70] + b"\0" + whole[71:], b"", pickle.dumps([1])):
        (tmp_path / "a").write_bytes(damaged)
        assert kept.read(tmp_path, "a") is None
