"""Where a training stands: kept in a file, so that one that was killed goes on to the same weights."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from topovlm.artifacts import plain_disk_errors, temporary_sibling
from topovlm.errors import InputError
from topovlm.records import Part, decode, encode

_MOMENTS = ("exp_avg", "exp_avg_sq")  # AdamW's own names
_BYTES_PER_S = 20_000_000  # at least; a state is written for a tenth of the time, at most
_LEAST_S = 60.0


class Standing(Part, frozen=True, kw_only=True):
    """Figures of a training so far: KL is that of the held-out samples, `best` at `best_step`, `start` before
    the first step; `next_look_s`: when it will be measured again; `rate`: steps are times so long; `since`:
    the step behind which the mean of the weights begins.
    """

    steps: int = 0
    tokens: int = 0
    elapsed_s: float = 0.0
    next_look_s: float = 0.0
    start: float
    last: float
    best: float
    best_step: int = 0
    best_s: float = 0.0
    rate: float = 1.0
    since: int = 0


class Kept:
    """A training's file. `key`: what it depends on; a state of another is none."""

    def __init__(self, path: Path, key: str) -> None:
        self._path, self._key, self._written_s = path, key, 0.0

    def due(self, elapsed_s: float, parameters: Mapping[str, nn.Parameter]) -> bool:
        """Whether it is time to write: every minute, less often where that would take long."""
        size = 20 * sum(parameter.numel() for parameter in parameters.values())
        return elapsed_s - self._written_s >= max(_LEAST_S, 10 * size / _BYTES_PER_S)

    def write(
        self,
        standing: Standing,
        parameters: Mapping[str, nn.Parameter],
        best: Mapping[str, torch.Tensor],
        mean: Mapping[str, torch.Tensor],
        optimizer: torch.optim.Optimizer,
    ) -> None:
        """Whole or not at all. Raises `InputError` for a full disk."""
        tensors = {f"now {name}": value.detach() for name, value in parameters.items()}
        tensors |= {f"best {name}": value for name, value in best.items()}
        tensors |= {f"mean {name}": value for name, value in mean.items()}
        for name, value in parameters.items():
            tensors |= {f"{moment} {name}": optimizer.state[value][moment] for moment in _MOMENTS}
        flat = {name: value.cpu().contiguous() for name, value in tensors.items()}
        temporary = temporary_sibling(self._path)
        with plain_disk_errors(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            try:
                save_file(flat, temporary, metadata={"key": self._key, "standing": encode(standing).decode()})
                os.replace(temporary, self._path)
            finally:
                temporary.unlink(missing_ok=True)
        self._written_s = standing.elapsed_s

    def read(
        self, parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer
    ) -> tuple[Standing, dict[str, torch.Tensor], dict[str, torch.Tensor]] | None:
        """Figures, best weights and the mean of the last; parameters and optimizer get theirs. None, and
        nothing is changed, where nothing is kept, or for something else, or torn."""
        names = [f"{kind} {name}" for kind in ("now", "best", "mean", *_MOMENTS) for name in parameters]
        try:
            with safe_open(self._path, framework="pt") as file:
                facts = file.metadata() or {}
                if facts.get("key") != self._key or set(file.keys()) != set(names):
                    return None
                standing = decode(facts.get("standing", ""), Standing, field="state", name=str(self._path))
                found = {name: file.get_tensor(name) for name in names}
        except (OSError, SafetensorError, InputError):
            return None
        if any(found[f"now {name}"].shape != value.shape for name, value in parameters.items()):
            return None
        for name, value in parameters.items():
            value.data.copy_(found[f"now {name}"])
            moments = {moment: found[f"{moment} {name}"].to(value.device) for moment in _MOMENTS}
            optimizer.state[value] = {"step": torch.tensor(float(standing.steps)), **moments}
        best, mean = (
            {name: found[f"{kind} {name}"].to(value.device) for name, value in parameters.items()}
            for kind in ("best", "mean")
        )
        self._written_s = standing.elapsed_s
        return standing, best, mean
