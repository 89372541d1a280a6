"""Published weights through the chain: SmolLM2-135M-Instruct, where the package that ships it can be had."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks import smollm2

import topovlm
from topovlm.exporters.onnx.export import export_onnx
from topovlm.runtime.engine import Engine

QUESTION = smollm2.QUESTIONS[0]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint, dequantised."""
    try:
        return smollm2.write_checkpoint(tmp_path_factory.mktemp("smollm2") / "model")
    except smollm2.NotAvailableError as error:
        pytest.skip(str(error))


def test_a_published_decoder_answers_before_and_after(model: Path, tmp_path: Path) -> None:
    """Planned, pruned by 6 of 30 layers, verified, exported and asked: Paris is still the capital."""
    plan = topovlm.plan(model=model, target="jetson-orin", sparsity="20%")
    assert (plan.verdict, plan.keep_layers) == ("prune", smollm2.LAYERS - smollm2.GONE)
    slim = tmp_path / "slim"
    record = topovlm.prune(model, smollm2.CHOSEN, slim)
    assert record.surgery.kept == tuple(n for n in range(smollm2.LAYERS) if n not in smollm2.CHOSEN)
    for folder in (model, slim):
        out = tmp_path / "onnx"
        written = export_onnx(folder, out, variants=("fused",))
        assert written.facts["fused_attentions"] == (
            smollm2.LAYERS if folder == model else len(record.surgery.kept)
        )
        assert "Paris" in Engine(out).generate([], QUESTION, 24).text


def test_its_layers_are_scored(model: Path, tmp_path: Path) -> None:
    """Every scorer ranks all thirty layers."""
    scores = topovlm.score(model, data=smollm2.write_questions(tmp_path / "q.jsonl", 24), samples=16)
    assert all(sorted(found.order) == list(range(smollm2.LAYERS)) for found in scores.scorers.values())
