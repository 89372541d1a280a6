"""Checkpoints in the form of the first LLaVA code, which transformers does not write: VideoLLaMA2's.

The decoder's fields at the top, published tensor names, no file of a processor. The tower is a tiny one, so
its sizes are stated in `vision_config`: an id of a published tower would say others.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

ORIGINAL = ("videollama2-clip-mistral", "videollama2-siglip-qwen2")
CLIP_FRAMES = 4
# Name in torch -> name in a checkpoint, written down from the published index of tensors.
_PUBLISHED = (
    (r"^model\.language_model\.", "model."),
    (r"^model\.vision_tower\.", "model.vision_tower.vision_tower.vision_model."),
    (r"^model\.multi_modal_projector\.", "model.mm_projector."),
)


def flat(
    model_type: str, text: dict[str, Any], vision: dict[str, Any], top: dict[str, Any]
) -> dict[str, Any]:
    """config.json."""
    return {
        **{name: value for name, value in text.items() if name != "model_type"},
        "model_type": model_type,
        "vision_config": vision,
        "mm_vision_tower": "tests/a-tiny-tower",
        "mm_hidden_size": vision["hidden_size"],
        "mm_vision_select_layer": -2,
        "mm_vision_select_feature": "patch",
        "image_aspect_ratio": "pad",
        "use_mm_proj": True,
        "tokenizer_model_max_length": 2048,
        "num_frames": CLIP_FRAMES,
        **top,
    }


def configuration(config: dict[str, Any]) -> Any:
    from topovlm.families.original import normal
    from topovlm.native import videollama2

    return videollama2.configuration(normal(config))


def model_of(config: Any, *, text_only: bool = False) -> Any:
    """A random model of any configuration in torch: transformers' class, or ours."""
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    from topovlm.native import videollama2

    if isinstance(config, videollama2.VideoLlama2Config):
        return videollama2.MODEL(config)
    kind: Any = AutoModelForCausalLM if text_only else AutoModelForImageTextToText
    return kind.from_config(config)


def published(name: str) -> str:
    """Of a tensor in torch."""
    for inner, outer in _PUBLISHED:
        name = re.sub(inner, outer, name)
    return name


def save(model: Any, config: dict[str, Any], folder: Path) -> None:
    """Weights and configuration as they are published."""
    from safetensors.torch import save_file

    tensors = {}
    for name, value in model.state_dict().items():
        tensors[published(name)] = value.contiguous()
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    model.generation_config.save_pretrained(folder)
