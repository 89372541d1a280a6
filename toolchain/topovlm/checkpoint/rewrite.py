"""A checkpoint with other weights in some of its tensors, everything else byte for byte."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from topovlm.artifacts import link_or_copy, staged_folder, write_text
from topovlm.checkpoint.files import Checkpoint
from topovlm.checkpoint.safetensors_file import write_file

if TYPE_CHECKING:
    import torch


def rewrite_tensors(checkpoint: Checkpoint, weights: Mapping[str, torch.Tensor], paragraph: str) -> None:
    """Replace the folder by one that differs in these tensors, by name and in their stored types, and in a
    paragraph at the end of its card. Whole or not at all; files without such a tensor are shared."""
    import torch

    raw = {
        name: weight.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes()
        for name, weight in weights.items()
    }
    touched = {checkpoint.tensors[name].file for name in raw}
    with staged_folder(checkpoint.folder) as stage:
        for path in sorted(checkpoint.folder.iterdir()):
            if path in touched:
                tensors = [(name, entry) for name, entry in checkpoint.tensors.items() if entry.file == path]
                write_file(stage / path.name, tensors, checkpoint.metadata[path], raw)
            elif path.is_file():
                link_or_copy(path, stage / path.name)
        card = stage / "README.md"
        if card.is_file():
            text = card.read_text(encoding="utf-8")
            write_text(card, text.replace(", byte for byte.", " but for what is said below.") + paragraph)
