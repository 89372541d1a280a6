"""VideoLLaMA2 on transformers' LLaVA: another connector, other names, frames instead of pictures.

Source: DAMO-NLP-SG/VideoLLaMA2 (c0bb03a), model/videollama2_arch.py and mm_utils.py.
"""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import AutoConfig, LlavaConfig, LlavaForConditionalGeneration
from transformers.models.llava.modeling_llava import LlavaModel

from topovlm.families.catalogue import family_of
from topovlm.families.configs import VISION_KEY, ModelConfig
from topovlm.native.frames import FrameProcessor as processor
from topovlm.native.stc import SpatialTemporalConv

__all__ = ["MODEL", "NAMES", "VideoLlama2", "VideoLlama2Config", "configuration", "processor"]

# Fields at the top of a checkpoint's configuration that are not the decoder's.
_NOT_THE_DECODER = ("model_type", "architectures", "auto_map", "transformers_version", "_name_or_path")
_OURS = ("num_frames", "sampler_padding", "vision_feature_layer", "vision_feature_select_strategy")
NAMES = {
    r"^model\.(embed_tokens|layers|norm)\.": r"model.language_model.\1.",
    r"^model\.vision_tower\.vision_tower\.(vision_model\.)?": "model.vision_tower.",
    r"^model\.mm_projector\.": "model.multi_modal_projector.",
}


class VideoLlama2Config(LlavaConfig):
    """LLaVA's, and how many frames a clip has and how the connector pads them."""

    num_frames: int = 8
    sampler_padding: int = 1


class _AroundMistral(VideoLlama2Config):
    model_type = "videollama2_mistral"


class _AroundQwen2(VideoLlama2Config):
    model_type = "videollama2_qwen2"


_CONFIGS = {kind.model_type: kind for kind in (_AroundMistral, _AroundQwen2)}


class _Inner(LlavaModel):
    multi_modal_projector: Any

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.multi_modal_projector = SpatialTemporalConv(
            config.vision_config.hidden_size,
            config.text_config.hidden_size,
            frames=config.num_frames,
            padding=config.sampler_padding,
        )
        self.post_init()


class VideoLlama2(LlavaForConditionalGeneration):
    """pixel_values `[clips * frames, 3, H, W]`: all frames of all clips in the order of the prompts."""

    config_class = VideoLlama2Config

    def __init__(self, config: Any) -> None:
        super(LlavaForConditionalGeneration, self).__init__(config)
        text = config.text_config
        self.model = _Inner(config)
        self.lm_head = nn.Linear(text.hidden_size, text.vocab_size, bias=False)
        self.post_init()


MODEL = VideoLlama2


def configuration(config: ModelConfig) -> Any:
    """Of a normal configuration (`families.original`)."""
    family = family_of(config, "score")
    whole = {**family.defaults, **config}
    kinds: Any = AutoConfig  # untyped in transformers
    text = {
        name: value
        for name, value in config.items()
        if name not in (*_NOT_THE_DECODER, *_OURS, VISION_KEY) and not name.startswith(("mm_", "image_"))
    }
    return _CONFIGS[family.model_type](
        text_config=kinds.for_model(family.default_decoder, **text),
        vision_config=kinds.for_model(**whole[VISION_KEY]),
        image_token_index=whole["image_token_id"],
        tie_word_embeddings=bool(config.get("tie_word_embeddings", False)),
        **{name: whole[name] for name in _OURS},
    )
