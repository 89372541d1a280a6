"""A decoder graph in parts answers as it does whole."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest

from tests import tiny_families
from topovlm.checkpoint.live import load
from topovlm.exporters.onnx import sessions
from topovlm.exporters.onnx.export import export_onnx
from topovlm.exporters.onnx.parity import STEPS, check_graphs
from topovlm.exporters.onnx.parts import Parts
from topovlm.exporters.onnx.prompts import make_questions
from topovlm.exporters.onnx.sessions import WHOLE, Asked, Broken, open_graphs
from topovlm.runtime.runtime_file import decoder_keys, read_runtime_file

FAMILIES = ("qwen3_vl", "gemma3", "llava_next", "smollm3")


@pytest.fixture(scope="module", params=FAMILIES)
def folders(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A checkpoint and its export, weights beside the graphs."""
    room = tmp_path_factory.mktemp("parts")
    model = tiny_families.build(room / "model", request.param, layers=5)
    export_onnx(model, room / "onnx", single_file_bytes=1)
    return model, room / "onnx"


@pytest.mark.parametrize("layers_at_once", [1, 2, 5])
def test_parts_answer_as_the_whole(
    folders: tuple[Path, Path], layers_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every form, alone and in a padded batch, also with inputs that are broken on purpose."""
    _, export = folders
    content = read_runtime_file(export)
    prompts = [question.prompt for question in make_questions(export, STEPS)]
    forced = [np.arange(5, 5 + STEPS), np.arange(20, 20 + STEPS)]
    for key in decoder_keys(content):
        whole = open_graphs(export, content, key)
        asked = [Asked((prompts[0],), (forced[0],), how) for how in (WHOLE, Broken(shift_positions=1))]
        asked.append(Asked((prompts[1],), (forced[1],), Broken(hide=(1, 3)), kept=3))
        if whole.dynamic_batch:
            asked.append(Asked(tuple(prompts), tuple(forced)))
        monkeypatch.setattr(sessions, "fits", lambda _: False)
        file = export / content.graphs[key]
        size = layers_at_once * (file.with_name(f"{file.name}_data").stat().st_size // 5)
        monkeypatch.setattr(sessions, "_part_bytes", functools.partial(int, size))
        parts = open_graphs(export, content, key)
        monkeypatch.undo()
        assert isinstance(parts.decoder, Parts)
        assert len(parts.decoder.bounds) >= -(-5 // layers_at_once)
        for one, other in zip(whole.answers(asked), parts.answers(asked), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-4 * np.abs(one).max())


def test_the_gate_passes_what_it_passes_whole(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And its negative controls are seen."""
    model, export = folders
    monkeypatch.setattr(sessions, "fits", lambda _: False)
    rows = check_graphs(load(model), export)
    assert {row.graph for row in rows} == set(decoder_keys(read_runtime_file(export)))
    assert all(row.control_mask_error is None or row.control_mask_error > row.limit for row in rows)
