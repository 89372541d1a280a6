"""The exported graphs in ONNX Runtime, driven directly: what parity needs and the product's runtime hides."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from topovlm.runtime.runtime_file import RuntimeFile

FloatType = Literal["float32", "float16"]


@dataclass(frozen=True)
class OpenGraphs:
    """Vision, embedding and one decoder graph, loaded."""

    vision: Any
    embed: Any
    decoder: Any
    image_token_id: int
    float_type: FloatType
    dynamic_batch: bool

    def run(
        self,
        input_ids: np.ndarray,
        pixels: np.ndarray,
        forced: np.ndarray,
        *,
        shift_positions: int = 0,
        hide_slot: int | None = None,
    ) -> np.ndarray:
        """Prefill `input_ids` `[S]`, then a cached step per token of `forced` `[T]`; logits `[S + T, vocab]`.

        Negative controls: `shift_positions` moves the cached steps, `hide_slot` masks a slot.
        """
        embeds = self._prompt_embeds(input_ids, pixels)[None]
        positions = np.arange(len(input_ids), dtype=np.int64)[None]
        mask = np.ones((1, len(input_ids)), np.int64)
        if hide_slot is not None:
            mask[0, hide_slot] = 0
        logits: np.ndarray = self._decode(embeds, mask, positions, forced[None], shift_positions)[0]
        return logits

    def greedy(self, input_ids: np.ndarray, pixels: np.ndarray, steps: int) -> np.ndarray:
        """The first `steps` greedy tokens `[steps]`, whatever they are."""
        tokens = np.zeros(0, np.int64)
        for _ in range(steps):
            logits = self.run(input_ids, pixels, tokens)
            tokens = np.append(tokens, logits[-1].argmax())
        return tokens

    def run_batch(
        self, prompts: list[np.ndarray], pixels: list[np.ndarray], forced: list[np.ndarray]
    ) -> list[np.ndarray]:
        """Several prompts in one batch, padded on the left; each row's logits without its padding."""
        longest = max(map(len, prompts))
        embeds, masks, positions = [], [], []
        for ids, pictures in zip(prompts, pixels, strict=True):
            row = self._prompt_embeds(ids, pictures)
            pad = longest - len(ids)
            embeds.append(np.concatenate([np.zeros((pad, row.shape[1]), row.dtype), row]))
            masks.append([0] * pad + [1] * len(ids))
            positions.append([0] * pad + list(range(len(ids))))
        logits = self._decode(
            np.stack(embeds), np.array(masks, np.int64), np.array(positions, np.int64), np.stack(forced), 0
        )
        return [row[longest - len(ids) :] for row, ids in zip(logits, prompts, strict=True)]

    def _prompt_embeds(self, input_ids: np.ndarray, pixels: np.ndarray) -> np.ndarray:
        embeds: np.ndarray = self.embed.run(None, {"input_ids": input_ids[None]})[0][0].copy()
        features = self.vision.run(None, {"pixel_values": pixels.astype(self.float_type)})[0]
        embeds[input_ids == self.image_token_id] = features.reshape(-1, features.shape[-1])
        return embeds

    def _decode(
        self, embeds: np.ndarray, mask: np.ndarray, positions: np.ndarray, forced: np.ndarray, shift: int
    ) -> np.ndarray:
        feeds = {"inputs_embeds": embeds, "attention_mask": mask, "position_ids": positions}
        for value in self.decoder.get_inputs():
            if value.name.startswith("past_key_values"):
                shape = (len(embeds), value.shape[1], 0, value.shape[3])
                feeds[value.name] = np.zeros(shape, self.float_type)
        names = [value.name for value in self.decoder.get_outputs()]
        pieces = []
        for step in range(forced.shape[1] + 1):
            results = dict(zip(names, self.decoder.run(None, feeds), strict=True))
            pieces.append(results["logits"])
            if step == forced.shape[1]:
                break
            mask = np.concatenate([mask, np.ones((len(mask), 1), np.int64)], axis=1)
            last = positions[:, -1:] + 1 + step + shift
            feeds = {
                "inputs_embeds": self.embed.run(None, {"input_ids": forced[:, step : step + 1]})[0],
                "attention_mask": mask,
                "position_ids": last,
                **{n.replace("present", "past_key_values"): v for n, v in results.items() if n != "logits"},
            }
        return np.concatenate(pieces, axis=1)


def open_graphs(folder: Path, content: RuntimeFile, decoder_key: str) -> OpenGraphs:
    """Load the graphs that the folder names, with the options that users get by default."""
    paths = content.graphs
    decoder = open_session(folder / paths[decoder_key])
    first = decoder.get_inputs()[0]
    return OpenGraphs(
        vision=open_session(folder / paths["vision"]),
        embed=open_session(folder / paths["embed"]),
        decoder=decoder,
        image_token_id=content.image_token_id,
        float_type="float16" if first.type == "tensor(float16)" else "float32",
        dynamic_batch=not isinstance(first.shape[0], int),
    )


def open_session(path: Path) -> Any:
    """A CPU session with every graph optimisation of ONNX Runtime on: the level that users run."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # the machine may be shared
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
