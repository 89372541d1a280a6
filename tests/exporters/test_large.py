"""A checkpoint larger than memory is exported from its files, byte for byte as from memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import tiny_families
from topovlm.exporters.onnx.export import export_onnx
from topovlm.families import mapped


@pytest.mark.parametrize(("name", "dtype"), [("llava_next", "fp32"), ("qwen3_vl", "fp16"), ("qwen2", "fp16")])
def test_bytes_are_those_of_an_export_from_memory(
    name: str, dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also weights that the graphs store transposed, joined or in another precision."""
    model = tiny_families.build(tmp_path / "model", name, dtype="bfloat16")
    export_onnx(model, tmp_path / "memory", dtype=dtype)
    made: list[mapped.Mapped] = []
    init = mapped.Mapped.__init__

    def watched(self: mapped.Mapped, *args: object, **kwargs: object) -> None:
        made.append(self)
        init(self, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(mapped.Mapped, "__init__", watched)
    monkeypatch.setattr("topovlm.checkpoint.loading.fits", lambda *_args, **_kwargs: False)
    export_onnx(model, tmp_path / "files", dtype=dtype)
    assert len(made) == 1
    one, other = (sorted((tmp_path / side).rglob("*")) for side in ("memory", "files"))
    assert [path.name for path in one] == [path.name for path in other]
    for left, right in zip(one, other, strict=True):
        assert left.is_dir() or left.read_bytes() == right.read_bytes(), left.name
