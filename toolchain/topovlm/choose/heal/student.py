"""The slim model as it learns: from the first layer that does, its loss, its distance to the dense model."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from topovlm.checkpoint.live import Live
from topovlm.choose.divergence import Apart, apart, behind_one_another
from topovlm.choose.heal.lessons import Lesson
from topovlm.choose.judged import Judged, nothing_yet
from topovlm.choose.rollouts import stream_of

# Beside the divergence of answer tokens, in nats: that of the prompt's text, and the relative squared error
# of streams (1 where the slim one has nothing of the dense one). A few hundred short answers are soon known
# by heart; what every token's stream should be is not, so it leads.
_TEXT_WEIGHT, _STREAM_WEIGHT = 0.2, 20.0
_HEAD_BYTES = 32 << 20  # logits of one model that are in memory at a time while nothing is learned


@dataclass(frozen=True)
class Student:
    """`live` is the slim model, `dense` the other. `first`: the first layer that learns, dense numbering;
    `half`: products are computed in bfloat16; `recompute`: layers run again on the way back, and keep less.
    """

    live: Live
    dense: Live
    drop: frozenset[int]
    first: int
    half: bool = False
    recompute: bool = False

    def streams(self, lesson: Lesson) -> dict[int, torch.Tensor]:
        """What enters the layers at which a lesson has the dense stream, and leaves the last one."""
        stream, found = lesson.entered.stream.to(self.live.device), dict[int, torch.Tensor]()
        places = [layer for layer in range(self.dense.layers) if layer not in self.drop]
        numbers = {layer: place for place, layer in enumerate(places)}
        for layer in range(self.first, self.dense.layers):
            if layer in numbers:
                block = self.live.blocks[numbers[layer]]
                stream = self._through(block, stream, lesson.entered.arguments[layer])
            if layer in lesson.entered.added:
                stream = stream + lesson.entered.added[layer]
            if layer + 1 in lesson.dense:
                found[layer + 1] = stream
        return found

    def _taught(self, lesson: Lesson, point: int) -> torch.Tensor:
        return lesson.dense[point].to(self.live.device)

    def _through(
        self, block: torch.nn.Module, stream: torch.Tensor, given: Mapping[str, object]
    ) -> torch.Tensor:
        if not (self.recompute and torch.is_grad_enabled()):
            return stream_of(block(stream, **given))

        def run(entering: torch.Tensor) -> torch.Tensor:
            return stream_of(block(entering, **given))

        passed: torch.Tensor = checkpoint(run, stream, use_reentrant=False)
        return passed

    def computing(self) -> contextlib.AbstractContextManager[object]:
        """Within the block products are computed in the type that the student learns in."""
        return torch.autocast(self.live.device.type, dtype=torch.bfloat16, enabled=self.half)

    def loss(self, lesson: Lesson, rng: np.random.Generator) -> torch.Tensor:
        """Of one lesson. Of the prompt's text as many places as answers have, drawn by `rng`."""
        count, drawn = len(lesson.text_rows), min(len(lesson.text_rows), len(lesson.rows))
        picked = torch.as_tensor(np.sort(rng.permutation(count)[:drawn]), device=lesson.rows.device)
        with self.computing():
            found = self.streams(lesson)
            leaving = found[self.dense.layers], self._taught(lesson, self.dense.layers)
            answers = self._divergence(*leaving, lesson.rows, lesson.positions)
            total = _mean_of_samples(answers, lesson)
            if drawn:
                places = lesson.text_rows[picked], lesson.text_positions[picked]
                total = total + _TEXT_WEIGHT * self._divergence(*leaving, *places).mean()
        errors = [
            _stream_error(stream, self._taught(lesson, point), lesson) for point, stream in found.items()
        ]
        return total + _STREAM_WEIGHT * torch.stack(errors).mean()

    def _divergence(
        self, slim: torch.Tensor, dense: torch.Tensor, rows: torch.Tensor, positions: torch.Tensor
    ) -> torch.Tensor:
        """KL(dense || slim) in nats at each of some places, float32 [n]; streams [B, T, width]."""
        exact = torch.autocast(self.live.device.type, enabled=False)
        with torch.no_grad(), exact:
            log_p = self.dense.logits(dense[rows, positions]).float().log_softmax(-1)
        log_q = self.live.logits(slim[rows, positions]).float().log_softmax(-1)
        return functional.kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1)

    @torch.no_grad()
    def judged(self, lessons: Sequence[Lesson]) -> Judged:
        """How far it is from the dense answers, by sample, as `Judge` has it."""
        found = nothing_yet(sum(len(lesson.samples) for lesson in lessons))
        for lesson in lessons:
            with self.computing() if self.dense.dtype != torch.float32 else contextlib.nullcontext():
                slim = self.streams(lesson)[self.dense.layers]
                here = self._compared(slim, lesson)
            for number, sample in enumerate(lesson.samples):
                own = (lesson.rows == number).cpu()
                for name, values in here._asdict().items():
                    getattr(found, name)[sample] = float(values.cpu()[own].mean())
        return found

    def _compared(self, slim: torch.Tensor, lesson: Lesson) -> Apart:
        """Place by place."""
        dense = self._taught(lesson, self.dense.layers)[lesson.rows, lesson.positions]
        slim = slim[lesson.rows, lesson.positions]
        words = self.dense.logits(dense[:1]).shape[-1]
        step = max(1, _HEAD_BYTES // (4 * words))
        parts = list[Apart]()
        for start in range(0, len(dense), step):
            log_p = self.dense.logits(dense[start : start + step]).float().log_softmax(-1)
            log_q = self.live.logits(slim[start : start + step]).float().log_softmax(-1)
            parts.append(apart(log_p, log_q))
        return behind_one_another(parts)


def _mean_of_samples(values: torch.Tensor, lesson: Lesson) -> torch.Tensor:
    """Every sample counts the same, however long its answer."""
    counts = torch.bincount(lesson.rows, minlength=len(lesson.samples))
    return (values / counts[lesson.rows]).sum() / len(lesson.samples)


def _stream_error(slim: torch.Tensor, dense: torch.Tensor, lesson: Lesson) -> torch.Tensor:
    """Squared distance over the squared length of the dense vector; words and pictures count the same."""
    target = dense.float()
    lengths = target.square().sum(-1).clamp_min(1e-12)
    errors = (slim.float() - target).square().sum(-1) / lengths
    kinds = [kind for kind in (lesson.words, lesson.visual) if bool(kind.any())]
    return torch.stack([errors[kind].mean() for kind in kinds]).mean()


def learns(parameters: Iterable[torch.nn.Parameter]) -> None:
    """From now on they have gradients, and are held in float32 (updates are smaller than half precision)."""
    for parameter in parameters:
        parameter.data = parameter.data.float()
        parameter.requires_grad_(True)
