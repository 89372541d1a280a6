"""Lower bounds are promises: what an old library would let a model's files do, ours may not."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

_REPOSITORY = Path(__file__).resolve().parents[2]
# The first release without a known hole: what a lower one allows.
_FIRST_SOUND = {
    "onnxruntime": (1, 24, 1),  # files outside of the model's folder, and addresses, as a model's data
    "jinja2": (3, 1, 6),  # a template leaves the sandbox through |attr('format')
    "onnx": (1, 22),  # CVE-2026-27489 and others: files outside of the model's folder; CVE-2026-44512
    "pillow": (13,),  # CVE-2026-112403: a JPEG writes past a buffer
    "torch": (2, 13),  # CVE-2025-3000, CVE-2026-4538
    "transformers": (5, 3),  # CVE-2026-5241: a config switches the model's own code on
    "scikit-learn": (1, 5),  # CVE-2024-5206
    "ray": (2, 55),  # CVE-2025-62593, CVE-2026-27482, CVE-2026-32981: of its dashboard
    "pytest": (9, 0, 3),  # CVE-2025-71176
}


def _stated() -> dict[str, tuple[int, ...]]:
    project = tomllib.loads((_REPOSITORY / "pyproject.toml").read_text())["project"]
    stated = {}
    for requirement in [*project["dependencies"], *project["optional-dependencies"]["test"]]:
        found = re.match(r"([A-Za-z0-9._-]+)>=([0-9.]+)", requirement)
        assert found, f"{requirement} has no lower bound"
        stated[found[1]] = tuple(map(int, found[2].split(".")))
    return stated


@pytest.mark.parametrize("name", sorted(_FIRST_SOUND))
def test_a_bound_admits_no_release_with_a_known_hole(name: str) -> None:
    """pyproject.toml lets no release in that is known to be unsound."""
    assert _stated()[name] >= _FIRST_SOUND[name]


def test_constraints_hold_every_dependency_at_its_bound() -> None:
    """What CI installs as the lowest versions are the bounds as stated, all of them."""
    script = _REPOSITORY / ".ci" / "lowest.py"
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    printed = dict(line.partition(";")[0].split("==") for line in done.stdout.splitlines())
    assert {
        name: tuple(map(int, version.strip().split("."))) for name, version in printed.items()
    } == _stated()


def _graph(path: Path, where: str, count: int = 4096) -> None:
    """A graph that adds one to its constant, which lies `where`."""
    weights = TensorProto(name="weights", data_type=TensorProto.FLOAT, dims=[count])
    for key, value in (("location", where), ("offset", "0"), ("length", str(4 * count))):
        weights.external_data.add(key=key, value=value)
    weights.data_location = TensorProto.EXTERNAL
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, [count])
    told = helper.make_tensor_value_info("y", TensorProto.FLOAT, [count])
    node = helper.make_node("Add", ["x", "weights"], ["y"])
    graph = helper.make_graph([node], "graph", [given], [told], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())


_LOAD = """
import sys, onnxruntime
try:
    onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
except Exception:
    sys.exit(9)
"""


@pytest.mark.parametrize(
    ("where", "code"),
    [
        ("weights.bin", 0),
        ("../secret.bin", 9),
        ("deep/../../secret.bin", 9),
        ("*/_ORT_MEM_ADDR_/*", 9),
        ("{absolute}", 9),
    ],
)
def test_onnx_runtime_reads_only_the_folder_of_the_model(tmp_path: Path, where: str, code: int) -> None:
    """A graph's data are files beside it; a path that leads out, or an address, is refused, not read."""
    folder = tmp_path / "model"
    (folder / "deep").mkdir(parents=True)
    for path in (tmp_path / "secret.bin", folder / "weights.bin"):
        np.ones(4096, np.float32).tofile(path)
    _graph(folder / "graph.onnx", where.format(absolute=tmp_path / "secret.bin"))
    done = subprocess.run([sys.executable, "-c", _LOAD, str(folder / "graph.onnx")], check=False)
    assert done.returncode == code


def test_onnx_reads_only_the_folder_of_the_model(tmp_path: Path) -> None:
    """The same of the library that our exporter reads graphs with."""
    folder = tmp_path / "model"
    folder.mkdir()
    np.ones(4096, np.float32).tofile(tmp_path / "secret.bin")
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    for where in ("../secret.bin", "link.bin"):
        _graph(folder / "graph.onnx", where)
        with pytest.raises(onnx.checker.ValidationError):
            onnx.load(folder / "graph.onnx")


@pytest.mark.parametrize(
    "text",
    [
        "{% set f = '{0.__init__.__globals__}' | attr('format') %}{{ f(cycler) }}",
        "{{ ('{0.__init__.__globals__}' | attr('format'))(cycler) }}",
        "{{ '{0.__class__}'.format(1) }}",
        "{{ cycler.__init__.__globals__ }}",
    ],
)
def test_a_template_stays_in_its_sandbox(text: str) -> None:
    """A chat template reaches no attribute with underscores, by whatever filter."""
    from jinja2.exceptions import SecurityError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    try:
        rendered = ImmutableSandboxedEnvironment().from_string(text).render()
    except SecurityError:
        return
    assert "__" not in rendered
    assert "class" not in rendered
