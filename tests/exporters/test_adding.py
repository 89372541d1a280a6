"""docs/adding-an-exporter.md, carried out: its module and its entry point, and nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import tiny
from tests.pipeline import deploying
from topovlm import cli
from topovlm.exporters import EXPORTERS

PAGE = Path(__file__).parents[2] / "docs" / "adding-an-exporter.md"


def block(language: str) -> str:
    """The page's only block in that language."""
    (found,) = re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return str(found)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's two blocks as an installed package: a module, and the entry point in its metadata."""
    site = tmp_path / "site"
    facts = site / "npz_exporter-0.1.dist-info"
    facts.mkdir(parents=True)
    (site / "npz_exporter.py").write_text(block("python"), encoding="utf-8")
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: npz-exporter\nVersion: 0.1\n")
    # An installer turns the table of pyproject.toml into this file.
    entry = re.fullmatch(r'\[project\.entry-points\."(.+)"\]\n(\w+) = "(.+)"\n', block("toml"))
    assert entry is not None
    (facts / "entry_points.txt").write_text(f"[{entry[1]}]\n{entry[2]} = {entry[3]}\n")
    monkeypatch.syspath_prepend(site)
    monkeypatch.setattr(EXPORTERS, "_made", {})


@pytest.mark.usefixtures("installed")
def test_the_new_format_is_deployed_and_reported(tmp_path: Path) -> None:
    """Chosen with --format: its folder, artefact, check and limit are in the report; left out, it goes."""
    model, out = deploying.build_model(tmp_path / "model"), tmp_path / "out"
    code, found = deploying.deploy(model, out, "--format", "onnx,npz")
    assert (code, found["verdict"]) == (0, "prune")
    held = np.load(out / "npz" / "weights.npz")
    layers = {match[1] for name in held.files if (match := re.search(r"model\.layers\.(\d+)\.", name))}
    assert len(layers) == found["keep_layers"] < found["total_layers"]
    report = json.loads((out / "report.json").read_text())
    (artifact,) = [row for row in report["artifacts"] if row["format"] == "npz"]
    assert (artifact["path"], artifact["model"], artifact["loads_in"]) == (
        "npz/weights.npz",
        "slim",
        ["NumPy"],
    )
    assert artifact["bytes"] == (out / "npz" / "weights.npz").stat().st_size
    (check,) = [row for row in report["verifications"] if row["name"] == "npz = checkpoint"]
    assert (check["passed"], check["value"], check["limit"]) == (True, 0, 0)
    assert any("no forward pass" in limit for limit in report["provenance"]["limits"])

    assert deploying.deploy(model, out, "--format", "onnx,npz")[0] == 0
    assert deploying.stages_run(out) == []

    assert deploying.deploy(model, out)[0] == 0
    assert not (out / "npz").exists()
    report = json.loads((out / "report.json").read_text())
    assert [row for row in report["artifacts"] if row["format"] == "npz"] == []


@pytest.mark.usefixtures("installed")
def test_the_new_format_refuses_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its own check, with exit code 2 and one sentence; no run directory is left."""
    model, out = tiny.build(tmp_path / "model", layers=8, dtype="bfloat16"), tmp_path / "out"
    arguments = deploying.arguments(model, out, "--format", "onnx,npz")
    assert cli.main(arguments) == 2
    assert "NumPy does not have" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("formats", "words"),
    [("onnx,npy", "Did you mean npz"), ("npz", "must contain onnx"), ("npz,tensorrt", "must contain onnx")],
)
def test_the_new_name_is_one_of_the_formats(
    formats: str, words: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Suggested when it is mistyped; the run is measured with the graphs, so they are needed too."""
    assert (
        cli.main(["deploy", "--target", "jetson-orin", "--format", formats, "-o", str(tmp_path / "x")]) == 2
    )
    assert words in capsys.readouterr().err


def test_a_plug_in_that_does_not_load_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Asking for it is bad input (2); `doctor` lists it, and every other command works."""
    facts = tmp_path / "broken-1.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1\n")
    (facts / "entry_points.txt").write_text("[topovlm.exporters]\nbroken = no_such_module:EXPORTER\n")
    monkeypatch.syspath_prepend(tmp_path)
    asked = ["deploy", "--target", "jetson-orin", "--format", "onnx,broken", "-o", str(tmp_path / "x")]
    assert cli.main(asked) == 2
    assert "the plug-in no_such_module:EXPORTER does not load" in capsys.readouterr().err
    assert cli.main(["doctor", "--json"]) == 0
    rows: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["packages"]
    assert [row["state"] for row in rows if row["name"] == "broken"] == ["conflict"]


def test_the_measured_one_comes_first() -> None:
    """Whatever order was typed, and it cannot be left out."""
    from topovlm.errors import InputError
    from topovlm.exporters import choose

    assert choose(["tensorrt", "onnx", "onnx"], "--format") == ("onnx", "tensorrt")
    with pytest.raises(InputError, match="must contain onnx"):
        choose(["tensorrt"], "--format")


def test_names_of_the_run_directory_are_not_free() -> None:
    """A plug-in named like a stage or a folder of ours is not seen: it would take its place."""
    from topovlm.pipeline.stages import fixed_stages

    taken = {stage.name for stage in fixed_stages()}
    taken |= {output for stage in fixed_stages() for output in stage.outputs if "." not in output}
    assert taken - {"onnx"} <= EXPORTERS.reserved
