"""The families' processors around tiny image processors: tiles of 32 px, patches of 8 px."""

from __future__ import annotations

import inspect
from typing import Any

from topovlm.checkpoint.processors import processor_class, still_pictures

_SQUARE = {"height": 32, "width": 32}
_HALF = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
# Bounds of the area of a picture in px: those of one 16 px token and of 6x6 of them.
_AREA = {"shortest_edge": 2 * 16 * 16, "longest_edge": 36 * 16 * 16}
_CANVASES = [[32, 64], [64, 32], [64, 64], [96, 32], [32, 96]]


def processor_for(name: str, tokenizer: Any, *, pixels: dict[str, Any] | None = None) -> Any:
    """The processor of a family with pictures. `pixels`: fields of its image processor that differ."""
    import transformers

    image_kind, facts, kind, more = _PARTS[name]
    arguments = {
        "image_processor": getattr(transformers, image_kind)(**{**facts, **(pixels or {})}),
        "tokenizer": tokenizer,
        "chat_template": tokenizer.chat_template,
        **more,
    }
    with still_pictures(processor_class(kind)) as still:
        if "video_processor" in inspect.signature(still.__init__).parameters:
            arguments["video_processor"] = None
        return still(**arguments)


def _qwen(processor: str, patch: int = 8) -> tuple[str, dict[str, Any], str, dict[str, Any]]:
    facts = {"size": _AREA, "patch_size": patch, "temporal_patch_size": 2, "merge_size": 2}
    return "Qwen2VLImageProcessorPil", facts, processor, {}


_CLIP = {"size": {"shortest_edge": 32}, "crop_size": _SQUARE}
_SIGLIP = {"size": _SQUARE, **_HALF}
_PIXTRAL = {"size": {"longest_edge": 48}, "patch_size": {"height": 8, "width": 8}}
_FULL = {"patch_size": 8, "vision_feature_select_strategy": "full", "num_additional_image_tokens": 0}
_DEFAULT = {"patch_size": 8, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
_SPLIT = {"size": {"longest_edge": 96}, "max_image_size": {"longest_edge": 32}}

# Of families that take videos: video_preprocessor_config.json.
_FILMS = {"size": {"shortest_edge": 2 * 16 * 16, "longest_edge": 12 * 16 * 16}, "patch_size": 8,
          "temporal_patch_size": 2, "merge_size": 2}  # fmt: skip
_ALL_FRAMES = {**_FILMS, "size": {"shortest_edge": 8 * 16 * 16, "longest_edge": 30 * 16 * 16}, **_HALF}
VIDEOS: dict[str, dict[str, Any]] = {
    "llava_next_video": {
        "video_processor_type": "LlavaNextVideoVideoProcessor",
        **_CLIP,
        "do_center_crop": True,
    },
    "video_llava": {"video_processor_type": "VideoLlavaVideoProcessor", **_CLIP, "do_center_crop": True},
    "llava_onevision": {"video_processor_type": "LlavaOnevisionVideoProcessor", **_SIGLIP},
    "video_llama_3": {
        "video_processor_type": "VideoLlama3VideoProcessor",
        "size": {"shortest_edge": 2 * 16 * 16, "longest_edge": 30 * 16 * 16},
        "patch_size": 8,
        "merge_size": 2,
        **_HALF,
    },
    "qwen2_vl": {"video_processor_type": "Qwen2VLVideoProcessor", **_FILMS},
    "qwen2_5_vl": {"video_processor_type": "Qwen2VLVideoProcessor", **_FILMS},
    "qwen3_vl": {"video_processor_type": "Qwen3VLVideoProcessor", **_ALL_FRAMES},
    "qwen3_vl_moe": {"video_processor_type": "Qwen3VLVideoProcessor", **_ALL_FRAMES},
}

# Family -> image processor's class and fields, processor's class and fields.
_PARTS: dict[str, tuple[str, dict[str, Any], str, dict[str, Any]]] = {
    "llava-clip-llama": ("CLIPImageProcessorPil", _CLIP, "LlavaProcessor", _DEFAULT),
    "llava-siglip-qwen2": ("SiglipImageProcessorPil", _SIGLIP, "LlavaProcessor", _FULL),
    "llava-siglip-qwen3": ("SiglipImageProcessorPil", _SIGLIP, "LlavaProcessor", _FULL),
    "llava-pixtral-mistral": ("PixtralImageProcessorPil", _PIXTRAL, "PixtralProcessor", {"patch_size": 8}),
    "vipllava": ("CLIPImageProcessorPil", _CLIP, "LlavaProcessor", _DEFAULT),
    "llava_next": (
        "LlavaNextImageProcessorPil",
        {**_CLIP, "image_grid_pinpoints": _CANVASES},
        "LlavaNextProcessor",
        _DEFAULT,
    ),
    "llava_next_video": (
        "LlavaNextImageProcessorPil",
        {**_CLIP, "image_grid_pinpoints": _CANVASES},
        "LlavaNextVideoProcessor",
        _DEFAULT,
    ),
    "video_llava": ("VideoLlavaImageProcessor", _CLIP, "VideoLlavaProcessor", _DEFAULT),
    "llava_onevision": (
        "LlavaOnevisionImageProcessorPil",
        {**_SIGLIP, "image_grid_pinpoints": [[32 * r, 32 * c] for r in range(1, 5) for c in range(1, 5)]},
        "LlavaOnevisionProcessor",
        {
            "num_image_tokens": 16,
            "vision_feature_select_strategy": "full",
            "vision_aspect_ratio": "anyres_max_2",
        },
    ),
    "video_llama_3": (
        "VideoLlama3ImageProcessorPil",
        {"size": _AREA, "patch_size": 8, "merge_size": 1},
        "VideoLlama3Processor",
        {},
    ),
    "qwen2_vl": _qwen("Qwen2VLProcessor"),
    "qwen2_5_vl": _qwen("Qwen2_5_VLProcessor"),
    "qwen3_vl": _qwen("Qwen3VLProcessor"),
    "qwen3_vl_moe": _qwen("Qwen3VLProcessor"),
    "idefics3": ("Idefics3ImageProcessorPil", _SPLIT, "Idefics3Processor", {"image_seq_len": 4}),
    "smolvlm": ("SmolVLMImageProcessorPil", _SPLIT, "SmolVLMProcessor", {"image_seq_len": 4}),
    "internvl": (
        "GotOcr2ImageProcessorPil",
        {"size": _SQUARE, "crop_to_patches": True, "max_patches": 6},
        "InternVLProcessor",
        {"image_seq_length": 4},
    ),
    "paligemma": ("SiglipImageProcessorPil", {**_SIGLIP, "image_seq_length": 16}, "PaliGemmaProcessor", {}),
    "paligemma2": ("SiglipImageProcessorPil", {**_SIGLIP, "image_seq_length": 16}, "PaliGemmaProcessor", {}),
    "gemma3": (
        "Gemma3ImageProcessorPil",
        {
            **_SIGLIP,
            "do_pan_and_scan": False,
            "pan_and_scan_min_crop_size": 16,
            "pan_and_scan_max_num_crops": 4,
            "pan_and_scan_min_ratio_to_activate": 1.2,
        },
        "Gemma3Processor",
        {"image_seq_length": 4},
    ),
    "mistral3": (
        "PixtralImageProcessorPil",
        _PIXTRAL,
        "PixtralProcessor",
        {"patch_size": 8, "spatial_merge_size": 2},
    ),
    "paddleocr_vl": (
        "PaddleOCRVLImageProcessorPil",
        {"size": _AREA, "patch_size": 8, "temporal_patch_size": 1, "merge_size": 2},
        "PaddleOCRVLProcessor",
        {},
    ),
    "glm4v": (
        "Glm4vImageProcessorPil",
        {"size": _AREA, "patch_size": 8, "temporal_patch_size": 2, "merge_size": 2},
        "Glm4vProcessor",
        {},
    ),
    "ovis2": (
        "Ovis2ImageProcessorPil",
        {**_SIGLIP, "crop_to_patches": True, "max_patches": 6},
        "Ovis2Processor",
        {"image_seq_length": 4},
    ),
}
