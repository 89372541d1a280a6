"""The decoder graph with its key/value cache, which never leaves the device between steps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from topovlm.errors import InputError, explain
from topovlm.runtime.manifest import Manifest
from topovlm.runtime.sessions import ON_CUDA, input_dtypes, open_session

_KNOWN = {"inputs_embeds", "attention_mask", "position_ids", "num_logits_to_keep"}
Cache = list[ort.OrtValue]


class Decoder:
    """One decoder graph; which inputs it has (position ids, fixed batch, types) is read from the graph."""

    def __init__(self, path: Path, manifest: Manifest, providers: Sequence[str], threads: int) -> None:
        self.path = path
        self.session = open_session(path, providers, threads)
        self.dtypes = input_dtypes(self.session)
        self.past_names = [name for name in self.dtypes if name.startswith("past_key_values.")]
        outputs = [node.name for node in self.session.get_outputs()]
        self.present_names = [name.replace("past_key_values.", "present.") for name in self.past_names]
        self.outputs = ["logits", *self.present_names]
        strange = sorted(set(self.dtypes) - _KNOWN - set(self.past_names))
        lacking = sorted(
            ({"inputs_embeds", "attention_mask"} - self.dtypes.keys()) | (set(self.outputs) - set(outputs))
        )
        if strange or lacking:
            rule = f"is not a decoder that this runtime drives (unknown: {strange}; lacking: {lacking})"
            raise InputError(explain("graph", str(path), rule))
        if len(self.past_names) != 2 * manifest.layers:
            rule = f"has {len(self.past_names) // 2} cached layers; {manifest.layers} are declared"
            raise InputError(explain("graph", str(path), rule, "Export again"))
        shapes = {node.name: node.shape for node in self.session.get_inputs()}
        if len(shapes.get("position_ids", (0, 0))) != 2:
            raise InputError(explain("graph", str(path), "position_ids of several rows are not supported"))
        self.past_shapes = [shapes[name] for name in self.past_names]
        self.max_batch = 1 if self.past_shapes and self.past_shapes[0][0] == 1 else None
        # Where the cache is bound to stay; None where the provider works on host memory anyway.
        self.cache_device = "cuda" if self.session.get_providers()[0] in ON_CUDA else None

    def empty_cache(self, batch: int) -> Cache:
        """A cache of no tokens, `[batch, kv_heads, 0, head_dim]` per entry."""
        return [
            ort.OrtValue.ortvalue_from_numpy(np.zeros((batch, shape[1], 0, shape[3]), self.dtypes[name]))
            for name, shape in zip(self.past_names, self.past_shapes, strict=True)
        ]

    def step(self, embeds: np.ndarray, cache: Cache, past: int) -> tuple[np.ndarray, Cache]:
        """`embeds` `[B, S, hidden]` after `past` tokens -> last logits `[B, V]` and the new cache."""
        batch, size = embeds.shape[:2]
        feeds: dict[str, np.ndarray] = {
            "inputs_embeds": embeds,
            "attention_mask": np.ones((batch, past + size), np.int64),
            "position_ids": np.broadcast_to(np.arange(past, past + size), (batch, size)),
            "num_logits_to_keep": np.asarray(1),
        }
        values = {
            name: ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(value, self.dtypes[name]))
            for name, value in feeds.items()
            if name in self.dtypes
        }
        values |= dict(zip(self.past_names, cache, strict=True))
        if self.cache_device is None:
            results = self.session.run_with_ort_values(self.outputs, values)
        else:
            results = self._run_bound(values, self.cache_device)
        return results[0].numpy()[:, -1].astype(np.float32, copy=False), list(results[1:])

    def _run_bound(self, values: dict[str, ort.OrtValue], device: str) -> Sequence[Any]:
        """With outputs bound to the device: otherwise the cache would travel to the host and back."""
        binding = self.session.io_binding()
        for name, value in values.items():
            binding.bind_ortvalue_input(name, value)
        binding.bind_output("logits", "cpu")
        for name in self.present_names:
            binding.bind_output(name, device)
        self.session.run_with_iobinding(binding)
        return binding.get_outputs()
