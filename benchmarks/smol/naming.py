"""What each patch of a picture shows, in the decoder's own words: how tower and projector begin.

A patch's projected vector is compared with the decoder's embeddings of the words for what lies there:
colours, shapes, letters, values, kinds. So a picture reads to the decoder a little like text before it has
seen one, and the costly training through its thirty layers starts from there.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.smol.emoji import KINDS
from benchmarks.smol.makers import MAKERS
from benchmarks.smol.packing import FRAME_MAKERS, WEIGHTS, enlarged
from benchmarks.smol.pictures import COLOURS, PLACES, SIDE
from benchmarks.smol.sight import PATCH, Sight
from topovlm.reference.drawing import COLOURS as DRAWN_COLOURS
from topovlm.reference.drawing import SHAPES
from topovlm.reference.scenes import Scene

# Label -> its words by number; the last one of each says that nothing of the sort is there.
WORDS: dict[str, tuple[str, ...]] = {
    "colour": tuple(DRAWN_COLOURS),
    "shape": SHAPES,
    "size": ("small", "large"),
    "glyph": (*"0123456789", *"ABCD"),
    "value": tuple(str(value) for value in range(11)),
    "tone": COLOURS,
    "kind": KINDS,
    "letter": tuple("abcdefghijklmnopqrstuvwxyz"),
    "mark": tuple("ABCDE"),
    "height": tuple(str(value) for value in range(11)),
    "place": PLACES,
}
NOTHING = "empty"
# What the reference model's tower does not know yet comes more often.
_NEW = {"emoji": 0.25, "emojis": 0.12, "odd_one": 0.04, "word": 0.45, "chart": 0.25, "flag": 0.15}
SHARES = {name: _NEW.get(name, share / 2) for name, share in WEIGHTS.items()}
PICTURES = 64  # of one step of one process
_ACROSS = SIDE // PATCH


def word_vectors(tokenizer: Any, table: torch.Tensor) -> dict[str, torch.Tensor]:
    """Label -> [words, width]: embeddings of its words, and of `NOTHING`, less the mean of all embeddings."""
    mean = table.float().mean(0)

    def vector(word: str) -> torch.Tensor:
        ids = tokenizer(word, add_special_tokens=False)["input_ids"]
        return table[ids].float().mean(0) - mean

    return {name: torch.stack([vector(word) for word in (*words, NOTHING)]) for name, words in WORDS.items()}


def grid(scene: Scene, frame: int) -> dict[str, np.ndarray]:
    """Label -> int64 [36]: what the patches of one frame show; -1 where the label does not apply at all."""
    scale = SIDE / scene.frames[frame].shape[0]
    centre = (np.arange(_ACROSS) + 0.5) * PATCH
    shown = {name for region in scene.regions for name in region.labels}
    grids = {
        name: np.full((_ACROSS, _ACROSS), len(words) if name in shown else -1, np.int64)
        for name, words in WORDS.items()
    }
    row, column = np.indices((_ACROSS, _ACROSS)) // 2
    grids["place"] = row * 3 + column
    for region in scene.regions:
        if region.frame == frame:
            x0, y0, x1, y1 = (scale * side for side in region.box)
            slack = PATCH / 4
            across = (centre > x0 - slack) & (centre < x1 + slack)
            down = (centre > y0 - slack) & (centre < y1 + slack)
            for name, value in region.labels.items():
                grids[name][np.ix_(down, across)] = value
    return {name: found.ravel() for name, found in grids.items()}


def batch(seed: int, step: int, part: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Pictures uint8 [P, 96, 96, 3] and their labels [P, 36]: a pure function of its arguments."""
    rng = np.random.default_rng([seed, step, part, 5])
    names, shares = list(SHARES), np.array(list(SHARES.values()))
    pixels: list[np.ndarray] = []
    grids: list[dict[str, np.ndarray]] = []
    while len(pixels) < PICTURES:
        name = str(rng.choice(names, p=shares / shares.sum()))
        if rng.random() < 0.04:
            name = FRAME_MAKERS[int(rng.integers(len(FRAME_MAKERS)))]
        scene = MAKERS[name](rng, "train")
        frame = int(rng.integers(len(scene.frames)))
        pixels.append(enlarged(scene.frames[frame]))
        grids.append(grid(scene, frame))
    return np.stack(pixels), {name: np.stack([one[name] for one in grids]) for name in WORDS}


def loss(
    sight: Sight, vectors: dict[str, torch.Tensor], pixels: np.ndarray, labels: dict[str, np.ndarray]
) -> tuple[torch.Tensor, torch.Tensor]:
    """(loss, share of the patches with something on them whose word is the nearest)."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        projected = sight(torch.from_numpy(pixels))
    projected = projected.float().flatten(0, 1)
    losses, right, counted = [], torch.zeros(()), 0
    for name, vector in vectors.items():
        target = torch.from_numpy(labels[name]).flatten()
        weight = torch.ones(len(vector))
        weight[-1] = 0.15  # most patches are empty
        logits = 2 * projected @ vector.T
        one = F.cross_entropy(logits, target, weight=weight, ignore_index=-1)
        if bool((target >= 0).any()):
            losses.append(one * (0.2 if name == "place" else 1.0))
        something = (target >= 0) & (target < len(vector) - 1)
        if name != "place":
            right = right + (logits.argmax(-1) == target)[something].sum()
            counted += int(something.sum())
    # As long as the decoder's own embeddings, about.
    usual = float(torch.cat(list(vectors.values())).pow(2).sum(-1).mean())
    length = (projected.pow(2).sum(-1) / usual - 1.5).clamp(min=0).mean()
    return torch.stack(losses).sum() + 0.2 * length, right / max(1, counted)
