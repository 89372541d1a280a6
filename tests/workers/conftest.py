"""A Ray cluster of two nodes on this machine, made once."""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.pipeline import deploying

if importlib.util.find_spec("ray") is None:  # a platform without a wheel
    collect_ignore_glob = ["test_*.py"]


@dataclass(frozen=True)
class Nodes:
    """`workers`: what --workers takes."""

    workers: str


@pytest.fixture(scope="session")
def nodes() -> Iterator[Nodes]:
    """One CPU each: two shards run side by side, on different nodes."""
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    # The class writes a cluster's address where Ray lies by default, and that folder may not be there.
    os.environ["RAY_TMPDIR"] = folder
    (Path(folder) / "ray").mkdir()
    few = {"num_cpus": 1, "object_store_memory": 100 << 20}
    cluster = Cluster(
        initialize_head=True,
        connect=False,
        head_node_args={**few, "include_dashboard": False, "temp_dir": folder},
    )
    try:
        cluster.add_node(**few)
        yield Nodes(f"ray://{cluster.address}")
    finally:
        cluster.shutdown()
        del os.environ["RAY_TMPDIR"]
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return deploying.build_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="session")
def exported(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read-only by convention."""
    from topovlm.exporters.onnx.export import export_onnx

    folder = tmp_path_factory.mktemp("export") / "onnx"
    export_onnx(model, folder)
    return folder
