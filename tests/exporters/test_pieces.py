"""Kept pieces: the same bytes from memory, from disk and traced anew; broken ones are made again."""

from __future__ import annotations

import dataclasses
import importlib
import sys
from pathlib import Path

import onnx_ir as ir
import pytest

from topovlm.checkpoint.loading import load_model
from topovlm.exporters.onnx import decoder, pieces
from topovlm.exporters.onnx.export import export_onnx
from topovlm.exporters.protocol import ExportRecord

Exported = tuple[Path, ExportRecord]


def _model(name: str) -> ir.Model:
    value = ir.Value(name="x", shape=ir.Shape(["n", 2]), type=ir.TensorType(ir.DataType.FLOAT))
    node = ir.node("Relu", [value])
    node.outputs[0].name = name
    graph = ir.Graph([value], node.outputs, nodes=[node], opset_imports={"": 18}, name=name)
    return ir.Model(graph, ir_version=10)


@pytest.fixture
def empty(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache on disk and in memory."""
    monkeypatch.setenv("TOPOVLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(pieces, "_memory", {})
    return tmp_path / "cache" / "traced"


def _count(calls: list[int]) -> dict[str, ir.Model]:
    calls.append(1)
    return {"a": _model("a"), "b": _model("b")}


def test_made_once_then_read_from_memory_and_disk(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new process finds on disk what an old one made, shapes and names included."""
    calls: list[int] = []
    first = pieces.remembered("facts", ("a", "b"), lambda: _count(calls))
    assert pieces.remembered("facts", ("a", "b"), lambda: _count(calls)) is first
    monkeypatch.setattr(pieces, "_memory", {})
    again = pieces.remembered("facts", ("a", "b"), lambda: _count(calls))
    assert len(calls) == 1
    assert [str(m.graph) for m in again.values()] == [str(m.graph) for m in first.values()]
    assert [folder for folder in empty.iterdir() if folder.name.startswith(".")] == []


def test_other_facts_are_made_anew(empty: Path) -> None:
    """Facts and names are part of the key."""
    calls: list[int] = []
    for facts in ("one", "two", "one"):
        pieces.remembered(facts, ("a", "b"), lambda: _count(calls))
    assert len(calls) == 2
    assert len(list(empty.iterdir())) == 2


def test_another_mask_is_traced_anew(
    empty: Path, tiny_siglip_qwen2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a family's record says of masks and positions is a part of the key, as the configuration is."""
    model = load_model(tiny_siglip_qwen2, dtype="float32", attention_kind="eager")
    plain = decoder.trace_decoder(model)
    rules = dataclasses.replace(plain.rules, mask="prefix")
    monkeypatch.setattr(decoder, "rules_of", lambda _: rules)
    names = {value.name for value in decoder.trace_decoder(model).prelude.graph.inputs}
    assert "block_ids" in names - {value.name for value in plain.prelude.graph.inputs}


def test_another_module_is_traced_anew(empty: Path) -> None:
    """A family's own module for pictures is a part of the key: its name, and the file it is written in."""
    calls: list[int] = []
    for kind in (Path, ir.Model, Path, None):
        pieces.remembered("facts", ("a", "b"), lambda: _count(calls), kind)
    assert len(calls) == 3


def test_a_module_whose_base_was_changed_is_traced_anew(
    empty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a class takes over from another file is a part of the key, too."""
    calls: list[int] = []
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "own_tower.py").write_text("from base_tower import Base\nclass Own(Base): pass\n")
    for text in ("class Base: sides = 2\n", "class Base: sides = 33\n"):
        (tmp_path / "base_tower.py").write_text(text)
        for module in ("own_tower", "base_tower"):
            sys.modules.pop(module, None)
        importlib.invalidate_caches()
        pieces._source.cache_clear()
        own = importlib.import_module("own_tower").Own
        pieces.remembered("facts", ("a", "b"), lambda: _count(calls), own)
    assert len(calls) == 2


def test_broken_files_are_made_again(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cut file costs a trace, not an error."""
    calls: list[int] = []
    pieces.remembered("facts", ("a", "b"), lambda: _count(calls))
    file = next(empty.glob("*/a.onnx"))
    file.write_bytes(file.read_bytes()[:20])
    monkeypatch.setattr(pieces, "_memory", {})
    pieces.remembered("facts", ("a", "b"), lambda: _count(calls))
    assert len(calls) == 2


def test_switched_off_or_unwritable_changes_nothing(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`off` writes nothing; a file where the folder should be is passed over."""
    calls: list[int] = []
    monkeypatch.setenv("TOPOVLM_CACHE", "off")
    pieces.remembered("facts", ("a", "b"), lambda: _count(calls))
    assert not empty.exists()
    empty.parent.write_text("a file")
    monkeypatch.setenv("TOPOVLM_CACHE", str(empty.parent))
    monkeypatch.setattr(pieces, "_memory", {})
    pieces.remembered("facts", ("a", "b"), lambda: _count(calls))
    assert len(calls) == 2


def test_folder_made_from_kept_pieces_is_the_same_to_the_byte(
    siglip_export: Exported, tiny_siglip_qwen2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through memory and through disk: what was exported first comes out again."""
    monkeypatch.setenv("TOPOVLM_CACHE", str(tmp_path / "cache"))
    held = dict(pieces._memory)
    for key, models in held.items():
        pieces._write(tmp_path / "cache" / "traced" / key, models)
        assert pieces._read(tmp_path / "cache" / "traced" / key, tuple(models)) is not None
    monkeypatch.setattr(pieces, "_memory", {})
    assert export_onnx(tiny_siglip_qwen2, tmp_path / "again").files == siglip_export[1].files
    assert set(pieces._memory) <= set(held)  # under the keys of the first time, so read and not traced
