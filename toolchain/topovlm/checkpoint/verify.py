"""Is a checkpoint on disk what it claims to be? The reloaded artefact is asked, with a picture in the prompt
where it takes one.

Four questions: does stock transformers load every tensor; does generation with a cache choose the tokens
that generation without one chooses; are a prompt's logits the same in a batch and alone; and, given the
dense source, are the logits those of the dense model whose dropped layers are bypassed in memory. The last is
an oracle that shares no code with the surgery.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from topovlm.checkpoint.files import open_checkpoint
from topovlm.checkpoint.safetensors_file import read_tensor_bytes
from topovlm.errors import InputError, VerificationError, explain
from topovlm.records import Part
from topovlm.runtime.clock import standing_clock
from topovlm.samples import Sample

if TYPE_CHECKING:
    import torch

    from topovlm.checkpoint.live import Live

# float32 through some dozens of layers; a wrong layer or position is off by the size of the logits.
RELATIVE_TOLERANCE = 1e-3
_LOGITS_COMPARED = 64  # tokens; all of a long prompt's would be a gigabyte
_WORDS = ("Name the days of the week.", "Which of these is the largest: a mouse, a house, or a mountain?")
_PROMPTS = ("Describe the picture.", "What is the largest object, and which colour does it have?")


class VerifyReport(Part, frozen=True, kw_only=True):
    """What was compared; differences are relative to the largest logit, of a batch to the largest state."""

    layers: int
    tensors: int
    prompts: int
    generated_tokens: int
    cache_difference: float
    batch_difference: float
    dense_difference: float | None


def verify_checkpoint(
    folder: Path | str,
    *,
    dense: Path | str | Live | None = None,
    dropped: Sequence[int] = (),
    samples: Sequence[Sample] | None = None,
    new_tokens: int = 16,
) -> VerifyReport:
    """Reload `folder` with stock transformers and check it; raises `VerificationError` when it is wrong.

    `dense` (the source) and `dropped` (its layers that went) switch on the comparison with bypassed layers;
    leave them out for a repaired checkpoint, whose weights differ on purpose. Too little memory to ask is
    `TooLargeError`: it says nothing about the checkpoint.
    """
    from topovlm.checkpoint.live import as_live, load
    from topovlm.checkpoint.loading import TooLargeError

    try:
        checkpoint = open_checkpoint(folder)
        live = load(checkpoint)
    except TooLargeError:
        raise
    except InputError as error:
        rule = f"the written checkpoint does not load: {error}"
        raise VerificationError(explain("checkpoint", str(folder), rule)) from error
    if len(live.blocks) != checkpoint.layers:
        rule = f"transformers built {len(live.blocks)} layers for {checkpoint.layers}"
        raise VerificationError(explain("num_hidden_layers", checkpoint.layers, rule))
    questions = list(samples) if samples else _built_in_samples(live.image_token_id is not None)
    dense_difference = None
    # A template may write the date: prompts are compared with themselves.
    with standing_clock():
        with live.ends():
            batch_difference = _check_batch(live, questions)
            tokens, cache_difference = _check_cache(live, questions, new_tokens)
        if dense is not None:
            dense_difference = _check_against_dense(live, as_live(dense), tuple(dropped), questions)
    return VerifyReport(
        layers=checkpoint.layers,
        tensors=len(checkpoint.tensors),
        prompts=len(questions),
        generated_tokens=tokens,
        cache_difference=cache_difference,
        dense_difference=dense_difference,
        batch_difference=batch_difference,
    )


def verify_files(folder: Path | str, source: Path | str, dropped: Sequence[int]) -> int:
    """Compare the written bytes with the source's, a tensor at a time; returns how many tensors.

    For checkpoints that do not fit into memory: the files are whole and hold what the source holds without
    `dropped`, but nobody has asked the model anything. Raises `VerificationError`.
    """
    try:
        slim, dense = open_checkpoint(folder), open_checkpoint(source)
    except InputError as error:
        rule = f"the written checkpoint cannot be opened: {error}"
        raise VerificationError(explain("checkpoint", str(folder), rule)) from error
    kept = [layer for layer in range(dense.layers) if layer not in dropped]
    if slim.layers != len(kept):
        rule = f"{dense.layers} layers less {len(dropped)} are not {slim.layers}"
        raise VerificationError(explain("dropped", list(dropped), rule))
    expected = {name for name in dense.tensors if dense.layer_of(name) not in dropped}
    for name, entry in slim.tensors.items():
        old, layer = name, slim.layer_of(name)
        if layer is not None:
            rest = name.removeprefix(f"{slim.layer_prefix}{layer}")
            old = f"{dense.layer_prefix}{kept[layer]}{rest}"
        theirs = dense.tensors.get(old)
        if theirs is None or (theirs.dtype, theirs.shape) != (entry.dtype, entry.shape):
            raise VerificationError(explain("tensor", name, f"is not the source's {old}"))
        if read_tensor_bytes(entry) != read_tensor_bytes(theirs):
            raise VerificationError(explain("tensor", name, f"differs from the source's {old}"))
        expected.discard(old)
    if expected:
        raise VerificationError(explain("tensor", min(expected), "was not written"))
    return len(slim.tensors)


def _built_in_samples(pictures: bool) -> list[Sample]:
    """Two questions, about deterministic pictures where the model takes any, in case the caller has none."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(20)
    shapes = ((64, 64, 3), (48, 96, 3)) if pictures else ()
    seen = [Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)) for shape in shapes]
    return [
        Sample(id=f"verify-{number}", images=tuple(seen[number : number + 1]), prompt=prompt)
        for number, prompt in enumerate(_PROMPTS if pictures else _WORDS)
    ]


def _check_cache(live: Live, samples: Sequence[Sample], new_tokens: int) -> tuple[int, float]:
    """Tokens compared and worst relative logit difference between cached and uncached greedy generation."""
    import torch

    from topovlm.checkpoint.live import answered, collate, encode, greedy_settings, last_logits
    from topovlm.checkpoint.loading import quiet_transformers

    # No end, which would compare nothing, and nothing that asks for another picture.
    barred = [*live.eos_token_ids, *live.picture_token_ids]
    compared, worst = 0, 0.0
    for sample in samples:
        prompt = encode(live, sample)
        with torch.inference_mode(), quiet_transformers(), greedy_settings(live):
            cached = live.model.generate(
                **collate(live, [prompt]),
                min_new_tokens=new_tokens,
                max_new_tokens=new_tokens,
                return_dict_in_generate=True,
                output_logits=True,
            )
            stepwise = torch.cat(cached.logits).float()
            if not torch.isfinite(stepwise).all():
                raise VerificationError(explain("logits", sample.id, "are not finite"))
            chosen = cached.sequences[0, prompt.length :]
            whole = collate(live, [answered(live, prompt, chosen.tolist())])
            logits = last_logits(live, whole, len(chosen) + 1)[0, :-1].float()
        difference = relative_difference(stepwise, logits)
        if difference > RELATIVE_TOLERANCE:
            rule = f"cached and uncached generation disagree (relative difference {difference:.2g})"
            raise VerificationError(explain("prompt", sample.prompt, rule, "The cache is tied to old layers"))
        allowed = logits.clone()
        allowed[:, barred] = -torch.inf
        slack = (allowed.max(1).values - allowed.gather(1, chosen[:, None])[:, 0]).max().item()
        if slack > RELATIVE_TOLERANCE * logits.abs().max().item():
            rule = "cached greedy generation chose a token that uncached generation would not"
            raise VerificationError(explain("prompt", sample.prompt, rule))
        compared += len(chosen)
        worst = max(worst, difference)
    return compared, worst


def _check_batch(live: Live, samples: Sequence[Sample]) -> float:
    """Worst relative difference of hidden states between prompts in a padded batch and alone."""
    import torch

    from topovlm.checkpoint.live import answered, collate, encode

    first, *others = [encode(live, sample) for sample in samples[:2]]
    prompts = [first, *others, answered(live, first, [live.pad_token_id] * 3)]  # one at least is padded
    worst = 0.0
    with torch.inference_mode():
        together = live.model.base_model(**collate(live, prompts), use_cache=False).last_hidden_state
        for row, prompt in enumerate(prompts):
            alone = live.model.base_model(**collate(live, [prompt]), use_cache=False).last_hidden_state[0]
            difference = relative_difference(together[row, : prompt.length], alone)
            if difference > RELATIVE_TOLERANCE:
                rule = f"gives other hidden states in a batch than alone (off by {difference:.2g})"
                raise VerificationError(explain("prompt", samples[row % len(samples)].prompt, rule))
            worst = max(worst, difference)
    return worst


def _check_against_dense(live: Live, dense: Live, dropped: Sequence[int], samples: Sequence[Sample]) -> float:
    """Worst relative difference to the dense model with the dropped layers bypassed in memory: of the stream
    behind the last layer at every token, and of the last tokens' logits."""
    from topovlm.checkpoint.live import bypassed

    if dense.layers - len(dropped) != live.layers:
        rule = f"{dense.layers} layers less {len(dropped)} are not {live.layers}"
        raise VerificationError(explain("dropped", list(dropped), rule))
    # One model after the other: what lies around the layers of a large one is gigabytes.
    ours = _seen_of(live, samples)
    with bypassed(dense, dropped):
        theirs = _seen_of(dense, samples)
    worst = 0.0
    for sample, here, there in zip(samples, ours, theirs, strict=True):
        for one, other in zip(here, there, strict=True):
            if one.shape != other.shape:
                rule = "is tokenised differently by the copy"
                raise VerificationError(explain("prompt", sample.prompt, rule))
            difference = relative_difference(one, other)
            if difference > RELATIVE_TOLERANCE:
                rule = f"its logits are not those of the source without the layers (off by {difference:.2g})"
                raise VerificationError(explain("dropped", list(dropped), rule))
            worst = max(worst, difference)
    return worst


def _seen_of(live: Live, samples: Sequence[Sample]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Of each prompt the stream [1, T, width] behind the last layer and the last logits [1, n, V]."""
    from topovlm.checkpoint.live import collate, encode, last_stream_and_logits

    found = []
    with live.ends():
        for sample in samples:
            batch = collate(live, [encode(live, sample)])
            stream, logits = last_stream_and_logits(live, batch, _LOGITS_COMPARED)
            found.append((stream.cpu(), logits.cpu()))
    return found


def relative_difference(left: Any, right: Any) -> float:
    """Largest absolute difference over the largest absolute value of `right`."""
    return float((left.float() - right.float()).abs().max() / right.float().abs().max().clamp_min(1e-12))
