"""The gate between an exported folder and its user: the shipped graphs against torch, number by number.

Oracle: the stock transformers model behind its own processor, greedy with its own cache, then one uncached
pass over the whole sequence for the logits. Under test: the ONNX files themselves, in ONNX Runtime, fed what
this package's runtime makes of the same pictures and words, through prefill and cached single-token steps.
Negative controls break the inputs on purpose (a shifted position, a masked token, pictures taken away): if
the gate does not notice, it is blind and the export fails too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from topovlm.errors import VerificationError, explain
from topovlm.exporters.onnx.awkward import check_words, first_difference
from topovlm.exporters.onnx.prompts import Question, make_questions
from topovlm.exporters.onnx.sessions import WHOLE, Asked, Broken, FloatType, kept_tokens, open_graphs
from topovlm.exporters.protocol import Check, ParityResult
from topovlm.machine.host import memory_bytes
from topovlm.runtime.clock import standing_clock
from topovlm.runtime.runtime_file import decoder_keys, read_runtime_file
from topovlm.travel.prompts import Prompt

if TYPE_CHECKING:
    from topovlm.checkpoint.live import Live

# Largest |logit difference| allowed, relative to the largest |logit| (at least 1). Summation order alone
# gives about 1e-6 in fp32; fp16 carries 11 bits through every layer.
TOLERANCES: Mapping[FloatType, float] = {"float32": 1e-4, "float16": 1e-2}
STEPS = 8
_ONE_IN = 32  # tokens of a prompt is masked in a negative control, one at least
_ATTENTION_SHARE = 0.25  # of the memory that there is
_COPIES, _ROWS = 3, 2  # scores, masked, their exponentials; both prompts in one batch


@dataclass(frozen=True)
class Reference:
    """What torch says about one prompt.

    tokens (greedy, never one of `forbidden`) `[STEPS + 1]`, logits of the prompt's last `kept` tokens and of
    all cached steps `[kept + STEPS, vocab]`.
    """

    name: str
    prompt: Prompt
    tokens: np.ndarray
    logits: np.ndarray
    forbidden: tuple[int, ...]

    @property
    def kept(self) -> int:
        return len(self.logits) - STEPS


def check_parity(model_dir: str | Path, out_dir: str | Path) -> tuple[ParityResult, ...]:
    """The gate for a folder that is already written. Raises `VerificationError` when it does not match."""
    from topovlm.checkpoint.live import load

    return check_graphs(load(Path(model_dir), device="cpu"), Path(out_dir))


def check_graphs(live: Live, folder: Path, tolerance: float | None = None) -> tuple[ParityResult, ...]:
    """Compare prompts and every decoder graph in `folder` with `live` (float32 torch).

    Raises `VerificationError`.
    """
    content = read_runtime_file(folder)
    most = _most_tokens(live.parts.decoder_shape().heads)
    with standing_clock():  # a template may write the date, and this may run over midnight
        check_words(live, folder)
        references = [_reference(live, question) for question in make_questions(folder, STEPS, most)]
    results = []
    for key in decoder_keys(content):
        graphs = open_graphs(folder, content, key)
        limit = tolerance if tolerance is not None else TOLERANCES[graphs.float_type]
        # All at once: a graph that is run in parts is read once.
        answers = graphs.answers(_asked(references, batch=graphs.dynamic_batch))
        results += [_check_one(answers, key, reference, limit) for reference in references]
        if graphs.dynamic_batch:
            results.append(_check_padded_batch(next(answers), key, references, limit))
        del graphs, answers  # before the next one is opened: large models fit once
    return tuple(results)


def _most_tokens(heads: int) -> int | None:
    """The longest sequence whose attention has room: a graph in plain operators holds all of its weights,
    [B, heads, T, T] in float32, a few times over."""
    most = memory_bytes()  # not what is free: the same prompts in every run
    return None if most is None else int((most * _ATTENTION_SHARE / (_COPIES * _ROWS * heads * 4)) ** 0.5)


def _broken(reference: Reference) -> dict[str, Broken]:
    """The negative controls of a prompt."""
    # Near the tokens that are compared, and more of a long prompt: a thousand others drown one out.
    length = len(reference.prompt.ids)
    first = length - reference.kept + 1
    hidden = (first, first + max(1, length // _ONE_IN))
    found = {"a shifted position": Broken(shift_positions=1), "a masked token": Broken(hide=hidden)}
    return {**found, "no picture": Broken(blind=True)} if reference.prompt.pictures else found


def _asked(references: Sequence[Reference], *, batch: bool) -> list[Asked]:
    """What `_check_one` reads of each reference in turn, and `_check_padded_batch` at the end."""
    asked = [
        Asked((reference.prompt,), (reference.tokens[:-1],), how, reference.kept)
        for reference in references
        for how in (WHOLE, *_broken(reference).values())
    ]
    forced = tuple(reference.tokens[:-1] for reference in references)
    prompts = tuple(reference.prompt for reference in references)
    kept = max(reference.kept for reference in references)
    return [*asked, Asked(prompts, forced, kept=kept)] if batch else asked


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
                detail=f"worst logit error {row.max_logit_error:.3g} over the prompt's last "
                f"{row.compared_tokens} tokens and {row.decode_steps} cached steps",
            )
        )
        controls = {
            "position": row.control_position_error,
            "mask": row.control_mask_error,
            "picture": row.control_picture_error,
        }
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


def _reference(live: Live, question: Question) -> Reference:
    """Greedy with the stock cache, then one uncached pass for the logits; attention as users run it.

    Raises `VerificationError` where the processor writes other token ids than this package's runtime.
    """
    import torch

    from topovlm.checkpoint.live import answered, collate, encode, last_logits
    from topovlm.checkpoint.loading import attention

    model: Any = live.model
    encoded = encode(live, question.sample)
    batch = collate(live, [encoded])
    ids = batch["input_ids"][0].numpy().copy()
    if question.sample.videos:  # the graphs see a video as pictures
        ids[np.isin(ids, live.visual_token_ids)] = live.image_token_id
    place = first_difference(ids, question.prompt.ids)
    if place is not None:
        rule = f"is not the processor's prompt: {len(ids)} tokens there, and place {place} differs"
        raise VerificationError(explain(f"prompt, {question.name}", len(question.prompt.ids), rule))
    forbidden = live.picture_token_ids
    with attention(model, _usual(model)), torch.no_grad(), live.ends():
        step = model(**batch, use_cache=True, logits_to_keep=1)
        tokens = [_choice(step.logits[0, -1].float().numpy(), forbidden)]
        for _ in range(STEPS):
            last = torch.tensor([[tokens[-1]]])
            step = model(input_ids=last, use_cache=True, **_cache_of(step))
            tokens.append(_choice(step.logits[0, -1].float().numpy(), forbidden))
        kept = kept_tokens(question.prompt, step.logits.shape[-1])
        whole = collate(live, [answered(live, encoded, tokens[:-1])])
        del step  # and its cache
        logits = last_logits(live, whole, kept + STEPS)[0]
    return Reference(
        question.name, question.prompt, np.asarray(tokens, np.int64), logits.float().numpy(), forbidden
    )


def _cache_of(output: Any) -> dict[str, Any]:
    """The cache of a step, under the name that the next one takes it by: transformers 5.24 renamed it."""
    held = getattr(output, "cache", None)
    return {"past_key_values": output.past_key_values} if held is None else {"cache": held}


def _usual(model: Any) -> str:
    """What transformers takes by itself: its fused attention, where every part of the model knows it."""
    from transformers import PreTrainedModel

    parts = [part for part in model.modules() if isinstance(part, PreTrainedModel)]
    return "sdpa" if all(part._supports_sdpa for part in parts) else "eager"


def _choice(logits: np.ndarray, forbidden: Sequence[int]) -> int:
    """The greedy token; one that would ask for another picture is no answer."""
    allowed = logits.copy()
    allowed[[token for token in forbidden if token < len(allowed)]] = -np.inf
    return int(allowed.argmax())


def _check_one(
    answers: Iterator[np.ndarray], key: str, reference: Reference, tolerance: float
) -> ParityResult:
    """Reads the answers to the prompt and to its negative controls."""
    prompt, logits = reference.prompt, next(answers)[0]
    scale = max(1.0, float(np.abs(reference.logits).max()))
    limit = tolerance * scale
    error = _error(logits, reference.logits)
    if not error <= limit:  # a NaN must fail too
        rule = f"is more than {limit:.3g} ({tolerance:g} of the largest logit)"
        raise VerificationError(explain(f"{key}: logit error against torch, {reference.name}", error, rule))
    ties = _compare_tokens(key, reference, logits, limit)
    controls = {}
    for control in _broken(reference):
        seen = controls[control] = _error(next(answers)[0], reference.logits)
        if seen <= limit:
            rule = f"changed the logits by no more than the tolerance {limit:.3g}: the gate is blind to it"
            raise VerificationError(explain(f"{key}: {control}, {reference.name}", seen, rule))
    return ParityResult(
        graph=key,
        prompt=reference.name,
        prompt_tokens=len(prompt.ids),
        compared_tokens=reference.kept,
        decode_steps=len(reference.tokens) - 1,
        max_logit_error=error,
        max_logit=scale,
        tolerance=tolerance,
        near_ties=ties,
        control_position_error=controls["a shifted position"],
        control_mask_error=controls["a masked token"],
        control_picture_error=controls.get("no picture"),
    )


def _compare_tokens(key: str, reference: Reference, logits: np.ndarray, limit: float) -> int:
    """Greedy tokens must agree wherever torch's first choice leads by more than both errors can bridge."""
    start = reference.kept - 1
    ties = 0
    for step, expected in enumerate(reference.tokens):
        got, row = _choice(logits[start + step], reference.forbidden), reference.logits[start + step]
        if got == expected:
            continue
        lead = float(row[expected] - row[got])
        if abs(lead) > 2 * limit:
            rule = f"torch's token is {int(expected)} and leads by {lead:.3g}"
            raise VerificationError(explain(f"{key}: greedy token {step}, {reference.name}", got, rule))
        ties += 1
    return ties


def _check_padded_batch(
    rows: np.ndarray, key: str, references: list[Reference], tolerance: float
) -> ParityResult:
    """Both prompts in one batch, the shorter one padded on the left: each row must match its reference."""
    worst, scale = 0.0, 1.0
    for row, reference in zip(rows, references, strict=True):
        top = max(1.0, float(np.abs(reference.logits).max()))
        error = _error(row[-len(reference.logits) :], reference.logits)
        if not error <= tolerance * top:
            rule = f"is more than {tolerance * top:.3g}: rows of a padded batch disturb each other"
            raise VerificationError(explain(f"{key}: logit error, {reference.name}", error, rule))
        worst, scale = max(worst, error), max(scale, top)
    return ParityResult(
        graph=key,
        prompt="both in one left-padded batch",
        prompt_tokens=max(len(r.prompt.ids) for r in references),
        compared_tokens=rows.shape[1] - STEPS,
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
