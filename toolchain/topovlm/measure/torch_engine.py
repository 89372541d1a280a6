"""A checkpoint that runs on torch, eager, behind the interface that timing asks of an exported one.

For machines where torch is what there is: a GPU without a GPU build of ONNX Runtime. Timings are of stock
transformers code with its default attention; what ships is faster or slower, so a profile says `torch-cuda`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import nn

from topovlm.checkpoint.live import Live
from topovlm.errors import InputError, explain
from topovlm.families.torch_parts import cache_name
from topovlm.runtime.engine import Generation
from topovlm.runtime.manifest import Manifest
from topovlm.runtime.prompt import Prompter
from topovlm.runtime.sessions import RunsOn
from topovlm.towers.vision import vision_of
from topovlm.travel.prompts import Prompt


@dataclass(frozen=True)
class _Weights:
    """What stands for the decoder graph in a profile."""

    path: Path
    dtype: np.dtype[Any]


class TorchEngine:
    """The first `depth` - 1 decoder layers of a loaded model and its last one, as slices of a graph are.

    `manifest`: of the model's export, for prompts and pictures. Engines of several depths share the model, so
    they run one after the other, never at the same time. Raises `InputError` for an impossible depth.
    """

    variant = "eager"

    def __init__(self, live: Live, manifest: Manifest, depth: int) -> None:
        family = live.parts.family
        if family.mask != "causal" or family.tied_first:
            rule = "has pictures that see themselves whole, or that join deeper layers: not timed on torch"
            raise InputError(explain("model_type", family.model_type, rule, "Profile its exported graphs"))
        if not 2 <= depth <= live.layers:
            rule = f"must lie between 2 and the {live.layers} layers of the model"
            raise InputError(explain("depth", depth, rule))
        self.manifest = replace(manifest, layers=depth)
        self.prompter = Prompter(self.manifest)
        self.threads = torch.get_num_threads()
        self.providers_used = {"decoder": [f"torch-{live.device.type}"]}
        self.runs_on = RunsOn(f"torch-{live.device.type}", live.device.type)
        dtype = np.dtype(str(live.model.dtype).removeprefix("torch."))
        self.decoder = _Weights(min(live.folder.glob("*.safetensors")), dtype)
        self._live = live
        self._vision: Any = vision_of(live.parts) if live.parts.family.tokens else None
        blocks: list[Any] = list(live.blocks)
        self._last = blocks[-1]
        self._blocks = nn.ModuleList([*blocks[: depth - 1], self._last])
        self._stack: Any = live.parts.stack
        self._cache_name = cache_name(live.parts.stack)
        self._places: list[Any] = [part for part in self._last.modules() if hasattr(part, "layer_idx")]

    @torch.inference_mode()
    def generate_prepared(
        self, prompt: Prompt, max_new_tokens: int = 32, *, stop_at_eos: bool = True
    ) -> Generation:
        """Greedy tokens with the time of each phase, in wall ms, the device waited for after each."""
        from transformers import DynamicCache

        live, device = self._live, self._live.device
        whole = live.blocks, self._stack.config.num_hidden_layers, live.layers - 1
        self._set_stack(self._blocks, len(self._blocks), len(self._blocks) - 1)
        try:
            ids = torch.as_tensor(prompt.ids, device=device)[None]
            started = self._now()
            features = self._features(prompt)
            seen = self._now()
            embeds = live.parts.embedding(torch.where(ids == (prompt.image_token_id or -1), 0, ids))
            if features is not None:
                embeds[ids == prompt.image_token_id] = features
            embedded = self._now()
            cache = DynamicCache()
            places = torch.as_tensor(prompt.positions, device=device).unsqueeze(-2)
            tokens, marks = [self._next(embeds, places, cache)], [self._now()]
            while len(tokens) < max_new_tokens and not (
                stop_at_eos and tokens[-1] in self._live.eos_token_ids
            ):
                last = torch.tensor([[tokens[-1]]], device=device)
                place = torch.full_like(places[..., :1], prompt.next_position + len(tokens) - 1)
                tokens.append(self._next(live.parts.embedding(last), place, cache))
                marks.append(self._now())
        finally:
            self._set_stack(*whole)
        return Generation(
            token_ids=tokens,
            text=self.prompter.decode(tokens),
            stopped="eos" if tokens[-1] in self._live.eos_token_ids else "length",
            preprocess_ms=0.0,
            vision_ms=(seen - started) * 1e3 if features is not None else 0.0,
            embed_ms=(embedded - seen) * 1e3,
            prefill_ms=(marks[0] - embedded) * 1e3,
            token_ms=[(b - a) * 1e3 for a, b in pairwise(marks)],
            prompt_tokens=len(prompt.ids),
        )

    def _features(self, prompt: Prompt) -> torch.Tensor | None:
        """Rows of all pictures `[tokens, hidden]`."""
        runs = []
        for feeds in prompt.pictures:
            given = {name: torch.as_tensor(value, device=self._live.device) for name, value in feeds.items()}
            dtype = self._live.model.dtype
            found = self._vision(**{n: x.to(dtype) if x.is_floating_point() else x for n, x in given.items()})
            features = found if isinstance(found, torch.Tensor) else found[0]
            runs.append(features.reshape(-1, features.shape[-1]))
        return torch.cat(runs) if runs else None

    def _next(self, embeds: torch.Tensor, places: torch.Tensor, cache: Any) -> int:
        given = {"inputs_embeds": embeds, "position_ids": places, self._cache_name: cache}
        hidden = self._stack(**given, use_cache=True).last_hidden_state
        return int(self._live.head(hidden[:, -1]).argmax())

    def _set_stack(self, blocks: nn.ModuleList, layers: int, last_index: int) -> None:
        """Let the model run with these blocks; the last one's place in the cache follows."""
        setattr(self._stack, self._live.parts.decoder.blocks, blocks)
        self._stack.config.num_hidden_layers = layers
        for part in self._places:
            part.layer_idx = last_index

    def _now(self) -> float:
        if self._live.device.type == "cuda":
            torch.cuda.synchronize()
        return perf_counter()
