"""Is a checkpoint on disk what it claims to be? The reloaded artefact is asked, with a picture in the prompt.

Three questions: does stock transformers load every tensor; does generation with a cache choose the tokens
that generation without one chooses; and, given the dense source, are the logits those of the dense model
whose dropped layers are bypassed in memory. The third is an oracle that shares no code with the surgery.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from topovlm.checkpoint.files import open_checkpoint
from topovlm.checkpoint.safetensors_file import read_tensor_bytes
from topovlm.errors import InputError, VerificationError, explain
from topovlm.records import Part
from topovlm.samples import Sample

if TYPE_CHECKING:
    from topovlm.checkpoint.live import Live

# float32 through some dozens of layers; a wrong layer or position is off by the size of the logits.
RELATIVE_TOLERANCE = 1e-3
_PROMPTS = ("Describe the picture.", "What is the largest object, and which colour does it have?")


class VerifyReport(Part, frozen=True, kw_only=True):
    """What was compared; differences are of logits, relative to the largest logit."""

    layers: int
    tensors: int
    prompts: int
    generated_tokens: int
    cache_difference: float
    dense_difference: float | None


def verify_checkpoint(
    folder: Path | str,
    *,
    dense: Path | str | Live | None = None,
    dropped: Sequence[int] = (),
    samples: Sequence[Sample] | None = None,
    new_tokens: int = 12,
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
    questions = list(samples) if samples else _built_in_samples()
    tokens, cache_difference = _check_cache(live, questions, new_tokens)
    dense_difference = None
    if dense is not None:
        dense_difference = _check_against_dense(live, as_live(dense), tuple(dropped), questions)
    return VerifyReport(
        layers=checkpoint.layers,
        tensors=len(checkpoint.tensors),
        prompts=len(questions),
        generated_tokens=tokens,
        cache_difference=cache_difference,
        dense_difference=dense_difference,
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


def _built_in_samples() -> list[Sample]:
    """Two questions about deterministic pictures, in case the caller has none."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(20)
    shape = (64, 64, 3)
    pictures = [Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)) for _ in _PROMPTS]
    return [
        Sample(id=f"verify-{number}", images=(picture,), prompt=prompt)
        for number, (picture, prompt) in enumerate(zip(pictures, _PROMPTS, strict=True))
    ]


def _check_cache(live: Live, samples: Sequence[Sample], new_tokens: int) -> tuple[int, float]:
    """Tokens compared and worst relative logit difference between cached and uncached greedy generation."""
    import torch

    from topovlm.checkpoint.live import collate, encode
    from topovlm.checkpoint.loading import quiet_transformers

    ends = list(live.eos_token_ids)
    compared, worst = 0, 0.0
    for sample in samples:
        batch = collate(live, [encode(live, sample)])
        with torch.inference_mode(), quiet_transformers():
            cached = live.model.generate(
                **batch,
                do_sample=False,
                num_beams=1,
                repetition_penalty=1.0,
                min_new_tokens=new_tokens,  # an early end would compare nothing
                max_new_tokens=new_tokens,
                suppress_tokens=[live.image_token_id],  # it would ask for another picture
                return_dict_in_generate=True,
                output_logits=True,
            )
            stepwise = torch.cat(cached.logits).float()
            if not torch.isfinite(stepwise).all():
                raise VerificationError(explain("logits", sample.id, "are not finite"))
            prompt_length = batch["input_ids"].shape[1]
            tokens = cached.sequences
            whole = {**batch, "input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
            logits = live.model(**whole, use_cache=False).logits[0, prompt_length - 1 : -1].float()
        difference = relative_difference(stepwise, logits)
        if difference > RELATIVE_TOLERANCE:
            rule = f"cached and uncached generation disagree (relative difference {difference:.2g})"
            raise VerificationError(explain("prompt", sample.prompt, rule, "The cache is tied to old layers"))
        allowed = logits.clone()
        allowed[:, [*ends, live.image_token_id]] = -torch.inf
        chosen = tokens[0, prompt_length:]
        slack = (allowed.max(1).values - allowed.gather(1, chosen[:, None])[:, 0]).max().item()
        if slack > RELATIVE_TOLERANCE * logits.abs().max().item():
            rule = "cached greedy generation chose a token that uncached generation would not"
            raise VerificationError(explain("prompt", sample.prompt, rule))
        compared += len(chosen)
        worst = max(worst, difference)
    return compared, worst


def _check_against_dense(live: Live, dense: Live, dropped: Sequence[int], samples: Sequence[Sample]) -> float:
    """Worst relative logit difference to the dense model with the dropped layers bypassed in memory."""
    import torch

    from topovlm.checkpoint.live import bypassed, collate, encode

    if dense.layers - len(dropped) != live.layers:
        rule = f"{dense.layers} layers less {len(dropped)} are not {live.layers}"
        raise VerificationError(explain("dropped", list(dropped), rule))
    worst = 0.0
    for sample in samples:
        with torch.inference_mode():
            ours = live.model(**collate(live, [encode(live, sample)]), use_cache=False).logits
            with bypassed(dense, dropped):
                batch = collate(dense, [encode(dense, sample)])
                theirs = dense.model(**batch, use_cache=False).logits
        if ours.shape != theirs.shape:
            raise VerificationError(explain("prompt", sample.prompt, "is tokenised differently by the copy"))
        difference = relative_difference(ours.cpu(), theirs.cpu())
        if difference > RELATIVE_TOLERANCE:
            rule = f"its logits are not those of the source without the layers (off by {difference:.2g})"
            raise VerificationError(explain("dropped", list(dropped), rule))
        worst = max(worst, difference)
    return worst


def relative_difference(left: Any, right: Any) -> float:
    """Largest absolute difference over the largest absolute value of `right`."""
    return float((left.float() - right.float()).abs().max() / right.float().abs().max().clamp_min(1e-12))
