"""The gate between an exported folder and its user: the shipped graphs against torch, number by number.

Oracle: the stock transformers model, greedy with its own cache, then one uncached pass over the whole
sequence for the logits. Under test: the ONNX files themselves, in ONNX Runtime, with an image in the
prompt, through prefill and cached single-token steps. Negative controls break the inputs on purpose (a
shifted position, a masked token): if the gate does not notice, it is blind and the export fails too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from topovlm.errors import VerificationError, explain
from topovlm.exporters.onnx.prompts import Prompt, make_prompts
from topovlm.exporters.onnx.sessions import FloatType, OpenGraphs, open_graphs
from topovlm.exporters.protocol import Check, ParityResult
from topovlm.runtime.runtime_file import decoder_keys, read_runtime_file

# Largest |logit difference| allowed, relative to the largest |logit| (at least 1). Summation order alone
# gives about 1e-6 in fp32; fp16 carries 11 bits through every layer.
TOLERANCES: Mapping[FloatType, float] = {"float32": 1e-4, "float16": 1e-2}
STEPS = 8


@dataclass(frozen=True)
class Reference:
    """What torch says about one prompt.

    input_ids int64 `[S]`, pixels `[n, 3, H, W]`, tokens (greedy) `[STEPS + 1]`, logits of the prompt and of
    all cached steps `[S + STEPS, vocab]`.
    """

    name: str
    input_ids: np.ndarray
    pixels: np.ndarray
    tokens: np.ndarray
    logits: np.ndarray


def check_parity(model_dir: str | Path, out_dir: str | Path) -> tuple[ParityResult, ...]:
    """The gate for a folder that is already written. Raises `VerificationError` when it does not match."""
    from topovlm.checkpoint.loading import load_model

    return check_graphs(load_model(Path(model_dir)), Path(out_dir))


def check_graphs(model: Any, folder: Path, tolerance: float | None = None) -> tuple[ParityResult, ...]:
    """Compare every decoder graph in `folder` with `model` (float32 torch). Raises `VerificationError`."""
    content = read_runtime_file(folder)
    references = make_references(model, make_prompts(folder, content, STEPS))
    results = []
    for key in decoder_keys(content):
        graphs = open_graphs(folder, content, key)
        limit = tolerance if tolerance is not None else TOLERANCES[graphs.float_type]
        results += [_check_one(graphs, key, reference, limit) for reference in references]
        if graphs.dynamic_batch:
            results.append(_check_padded_batch(graphs, key, references, limit))
        del graphs  # before the next one is opened: large models fit once
    return tuple(results)


def parity_checks(rows: Sequence[ParityResult], graphs: str = "") -> tuple[Check, ...]:
    """One check per row and per negative control; `graphs` tells graphs of the same name apart ("fp16")."""
    checks = []
    for row in rows:
        where = f"{graphs} {row.graph}".strip() + f", {row.prompt}"
        checks.append(
            Check(
                name=f"ONNX = torch: {where}",
                value=row.max_logit_error,
                limit=row.limit,
                detail=f"worst logit error {row.max_logit_error:.3g} over {row.decode_steps} cached steps",
            )
        )
        controls = {"position": row.control_position_error, "mask": row.control_mask_error}
        checks += [
            Check(
                name=f"negative control ({control}): {where}",
                value=seen,
                limit=row.limit,
                rule="more than",
                detail="the gate notices the broken input",
            )
            for control, seen in controls.items()
            if seen is not None
        ]
    return tuple(checks)


def make_references(model: Any, prompts: list[Prompt]) -> list[Reference]:
    """The prompts, answered by torch."""
    return [_reference(model, prompt) for prompt in prompts]


def _reference(model: Any, prompt: Prompt) -> Reference:
    """Greedy with the stock cache, then one uncached pass for the logits; attention as users run it."""
    import torch

    from topovlm.checkpoint.loading import attention

    with attention(model, "sdpa"), torch.no_grad():
        row, pictures = torch.from_numpy(prompt.input_ids)[None], torch.from_numpy(prompt.pixels)
        step = model(input_ids=row, pixel_values=pictures, use_cache=True)
        tokens = [int(step.logits[0, -1].argmax())]
        for _ in range(STEPS):
            last = torch.tensor([[tokens[-1]]])
            step = model(input_ids=last, past_key_values=step.past_key_values, use_cache=True)
            tokens.append(int(step.logits[0, -1].argmax()))
        whole = torch.cat([row, torch.tensor([tokens[:-1]])], dim=1)
        logits = model(input_ids=whole, pixel_values=pictures, use_cache=False).logits[0]
    return Reference(
        prompt.name, prompt.input_ids, prompt.pixels, np.asarray(tokens, np.int64), logits.float().numpy()
    )


def _check_one(graphs: OpenGraphs, key: str, reference: Reference, tolerance: float) -> ParityResult:
    logits = graphs.run(reference.input_ids, reference.pixels, reference.tokens[:-1])
    scale = max(1.0, float(np.abs(reference.logits).max()))
    limit = tolerance * scale
    error = _error(logits, reference.logits)
    if not error <= limit:  # a NaN must fail too
        rule = f"is more than {limit:.3g} ({tolerance:g} of the largest logit)"
        raise VerificationError(explain(f"{key}: logit error against torch, {reference.name}", error, rule))
    ties = _compare_tokens(key, reference, logits, limit)
    shifted = graphs.run(reference.input_ids, reference.pixels, reference.tokens[:-1], shift_positions=1)
    masked = graphs.run(reference.input_ids, reference.pixels, reference.tokens[:-1], hide_slot=1)
    controls = {
        "a shifted position": _error(shifted, reference.logits),
        "a masked token": _error(masked, reference.logits),
    }
    for control, seen in controls.items():
        if seen <= limit:
            rule = f"changed the logits by no more than the tolerance {limit:.3g}: the gate is blind to it"
            raise VerificationError(explain(f"{key}: {control}, {reference.name}", seen, rule))
    return ParityResult(
        graph=key,
        prompt=reference.name,
        prompt_tokens=len(reference.input_ids),
        decode_steps=len(reference.tokens) - 1,
        max_logit_error=error,
        max_logit=scale,
        tolerance=tolerance,
        near_ties=ties,
        control_position_error=controls["a shifted position"],
        control_mask_error=controls["a masked token"],
    )


def _compare_tokens(key: str, reference: Reference, logits: np.ndarray, limit: float) -> int:
    """Greedy tokens must agree wherever torch's first choice leads by more than both errors can bridge."""
    start = len(reference.input_ids) - 1
    ties = 0
    for step, expected in enumerate(reference.tokens):
        got, row = int(logits[start + step].argmax()), reference.logits[start + step]
        if got == expected:
            continue
        lead = float(row[expected] - row[got])
        if abs(lead) > 2 * limit:
            rule = f"torch's token is {int(expected)} and leads by {lead:.3g}"
            raise VerificationError(explain(f"{key}: greedy token {step}, {reference.name}", got, rule))
        ties += 1
    return ties


def _check_padded_batch(
    graphs: OpenGraphs, key: str, references: list[Reference], tolerance: float
) -> ParityResult:
    """Both prompts in one batch, the shorter one padded on the left: each row must match its reference."""
    rows = graphs.run_batch(
        [r.input_ids for r in references], [r.pixels for r in references], [r.tokens[:-1] for r in references]
    )
    worst, scale = 0.0, 1.0
    for logits, reference in zip(rows, references, strict=True):
        top = max(1.0, float(np.abs(reference.logits).max()))
        error = _error(logits, reference.logits)
        if not error <= tolerance * top:
            rule = f"is more than {tolerance * top:.3g}: rows of a padded batch disturb each other"
            raise VerificationError(explain(f"{key}: logit error, {reference.name}", error, rule))
        worst, scale = max(worst, error), max(scale, top)
    return ParityResult(
        graph=key,
        prompt="both in one left-padded batch",
        prompt_tokens=max(len(r.input_ids) for r in references),
        decode_steps=STEPS,
        max_logit_error=worst,
        max_logit=scale,
        tolerance=tolerance,
        near_ties=0,
        control_position_error=None,
        control_mask_error=None,
    )


def _error(one: np.ndarray, other: np.ndarray) -> float:
    """Largest absolute difference; row by row, since logits of a real vocabulary are large."""
    rows = (
        np.abs(a.astype(np.float32) - b.astype(np.float32)).max() for a, b in zip(one, other, strict=True)
    )
    return float(np.max(list(rows)))  # a NaN anywhere stays a NaN
