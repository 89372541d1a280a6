"""The decoder graph of an exported folder, checked against what the folder says of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnxruntime as ort

from topovlm.errors import InputError, explain
from topovlm.runtime.manifest import Manifest
from topovlm.runtime.sessions import explained, open_session
from topovlm.travel.ort_graphs import OrtDecoder

_KNOWN = {"inputs_embeds", "attention_mask", "position_ids", "block_ids"}
Cache = list[Any]  # of OrtValue


class DecoderSession(OrtDecoder):
    """One decoder graph; which inputs it has (position ids, fixed batch, types) is read from the graph.

    Raises `InputError` for a graph that this runtime does not drive, or of another depth than declared.
    """

    def __init__(self, path: Path, manifest: Manifest, providers: Sequence[str], threads: int) -> None:
        self.path = path
        with explained():
            super().__init__(ort, open_session(path, providers, threads))
        outputs = {node.name for node in self.session.get_outputs()}
        strange = sorted(
            name
            for name in set(self.dtypes) - _KNOWN - set(self.past_names)
            if not name.startswith("deepstack_embeds.")
        )
        lacking = sorted(
            ({"inputs_embeds", "attention_mask"} - self.dtypes.keys()) | (set(self.outputs) - outputs)
        )
        if strange or lacking:
            rule = f"is not a decoder that this runtime drives (unknown: {strange}; lacking: {lacking})"
            raise InputError(explain("graph", str(path), rule))
        if len(self.past_names) != 2 * manifest.layers:
            rule = f"has {len(self.past_names) // 2} cached layers; {manifest.layers} are declared"
            raise InputError(explain("graph", str(path), rule, "Export again"))
        sizes = manifest.file.decoder
        self._check_sizes({"kv_heads": (1, sizes.kv_heads), "head_dim": (3, sizes.head_dim)})
        shapes = {node.name: node.shape for node in self.session.get_inputs()}
        rows = manifest.file.decoder.rows
        axes = len(shapes.get("position_ids", "BS" if rows == 1 else "RBS"))
        if axes != (2 if rows == 1 else 3):
            rule = f"has position_ids of {axes} axes; {rows} rows are declared"
            raise InputError(explain("graph", str(path), rule, "Export again"))
        self.max_batch = 1 if self.past_shapes and self.past_shapes[0][0] == 1 else None

    def _check_sizes(self, declared: Mapping[str, tuple[int, int]]) -> None:
        """`declared`: axis of the cache, and its length by the manifest, by name."""
        for name, (axis, size) in declared.items():
            found = {shape[axis] for shape in self.past_shapes} - {size}
            if found:
                rule = f"has {name} {found.pop()}; {size} is declared"
                raise InputError(explain("graph", str(self.path), rule, "Export again"))
