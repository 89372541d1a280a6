"""Tokenizers and chat templates of the families: tiny vocabularies, published forms, special tokens."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests import tiny
from tests.tiny_families import templates


@dataclass(frozen=True)
class Words:
    """`stops`: tokens that end an answer, the first of them the tokenizer's eos. `named`: attributes of the
    tokenizer that processors read, like `image_token`. `more`: other special tokens."""

    template: str
    pad: str
    stops: tuple[str, ...]
    bos: str | None = None
    named: dict[str, str] = field(default_factory=dict)
    more: tuple[str, ...] = ()

    @property
    def specials(self) -> list[str]:
        every = [self.pad, *([self.bos] if self.bos else []), *self.stops, *self.named.values(), *self.more]
        return list(dict.fromkeys(every))


_QWEN_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def tokenizer_for(words: Words) -> Any:
    """The transformers tokenizer: byte-level BPE; one with a `bos` puts it in front, as published ones do."""
    from tokenizers import (
        Regex,
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
        processors,
        trainers,
    )
    from transformers import PreTrainedTokenizerFast

    kind: Any = PreTrainedTokenizerFast  # untyped in transformers

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if "<|im_end|>" in words.stops:  # Qwen's: transformers puts its own rule in place of any other
        inner.normalizer = normalizers.NFC()
        inner.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(_QWEN_WORDS), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=len(words.specials) + 256 + 60,
        special_tokens=words.specials,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    inner.train_from_iterator(tiny.PROMPTS * 4, trainer)
    if words.bos:
        inner.post_processor = processors.TemplateProcessing(
            single=f"{words.bos} $A",
            pair=f"{words.bos} $A $B:1",
            special_tokens=[(words.bos, inner.token_to_id(words.bos))],
        )
    known = {words.pad, words.bos, words.stops[0], *words.named.values()}
    return kind(
        tokenizer_object=inner,
        pad_token=words.pad,
        bos_token=words.bos,
        eos_token=words.stops[0],
        additional_special_tokens=[token for token in words.specials if token not in known],
        extra_special_tokens=words.named,
        padding_side="left",
        chat_template=words.template,
        model_input_names=["input_ids", "attention_mask"],
    )


_CHAT = ("<|im_start|>",)
_QWEN_NAMED = {
    "image_token": "<|image_pad|>",
    "video_token": "<|video_pad|>",
    "vision_start_token": "<|vision_start|>",
    "vision_end_token": "<|vision_end|>",
}
_MISTRAL_MORE = (
    "[INST]",
    "[/INST]",
    "[IMG]",
    "[IMG_BREAK]",
    "[IMG_END]",
    "[SYSTEM_PROMPT]",
    "[/SYSTEM_PROMPT]",
)
_SPLIT_MORE = (
    "<fake_token_around_image>",
    "<image>",
    "<global-img>",
    *(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)),
)


def _qwen(system: str) -> Words:
    template = templates.QWEN_PICTURES.replace("SYSTEM", system)
    return Words(template, "<|endoftext|>", ("<|im_end|>", "<|endoftext|>"), named=_QWEN_NAMED, more=_CHAT)


def _gemma(more: tuple[str, ...] = (), named: dict[str, str] | None = None) -> Words:
    turns = ("<start_of_turn>", *more)
    return Words(templates.GEMMA, "<pad>", ("<eos>", "<end_of_turn>"), "<bos>", named=named or {}, more=turns)


_LLAMA = Words(
    templates.LLAMA3,
    "<|end_of_text|>",
    ("<|eot_id|>", "<|end_of_text|>"),
    "<|begin_of_text|>",
    more=("<|start_header_id|>", "<|end_header_id|>", "<image>"),
)
_INSTRUCT = Words(templates.MISTRAL, "<pad>", ("</s>",), "<s>", more=_MISTRAL_MORE)
_INTERLEAVED = Words(
    templates.INTERLEAVE, "<|endoftext|>", ("<|im_end|>",), more=("<image>", "<video>", *_CHAT)
)
_CHAT_WORDS = Words(templates.CHATML, "<|endoftext|>", ("<|im_end|>", "<|endoftext|>"), more=_CHAT)

WORDS: dict[str, Words] = {
    "llama": _LLAMA,
    "qwen2": _CHAT_WORDS,
    "qwen3": _CHAT_WORDS,
    "mistral": _INSTRUCT,
    "gemma": _gemma(),
    "gemma2": _gemma(),
    "gemma3_text": _gemma(),
    "smollm3": _CHAT_WORDS,
    "ernie4_5": _CHAT_WORDS,
    "phi3": Words(
        templates.PHI, "<|endoftext|>", ("<|end|>", "<|endoftext|>"), more=("<|user|>", "<|assistant|>")
    ),
    "llava-clip-llama": Words(templates.LLAVA, "<pad>", ("</s>",), "<s>", more=("<image>",)),
    "llava-siglip-qwen2": _INTERLEAVED,
    "llava-siglip-qwen3": _INTERLEAVED,
    "llava-pixtral-mistral": _INSTRUCT,
    "vipllava": Words(templates.VIPLLAVA, "<pad>", ("</s>",), "<s>", more=("<image>",)),
    "llava_next": _LLAMA,
    "llava_next_video": Words(templates.LLAVA_VIDEO, "<pad>", ("</s>",), "<s>", more=("<image>", "<video>")),
    "video_llava": Words(templates.LLAVA_VIDEO, "<pad>", ("</s>",), "<s>", more=("<image>", "<video>")),
    "llava_onevision": _INTERLEAVED,
    "video_llama_3": Words(
        templates.VISUALS,
        "<|endoftext|>",
        ("<|im_end|>", "<|endoftext|>"),
        named={"image_token": "<|image_pad|>", "video_token": "<|video_pad|>"},
        more=_CHAT,
    ),
    "qwen2_vl": _qwen(templates.QWEN_SYSTEM),
    "qwen2_5_vl": _qwen(templates.QWEN_SYSTEM),
    "qwen3_vl": _qwen(""),
    "qwen3_vl_moe": _qwen(""),
    "idefics3": Words(
        templates.IDEFICS.replace("START", "<|begin_of_text|>"),
        "<|end_of_text|>",
        ("<end_of_utterance>", "<|end_of_text|>"),
        "<|begin_of_text|>",
        more=_SPLIT_MORE,
    ),
    "smolvlm": Words(
        templates.IDEFICS.replace("START", "<|im_start|>"),
        "<|im_end|>",
        ("<end_of_utterance>", "<|im_end|>"),
        "<|im_start|>",
        named={
            "fake_image_token": "<fake_token_around_image>",
            "image_token": "<image>",
            "global_image_token": "<global-img>",
            "end_of_utterance_token": "<end_of_utterance>",
        },
        more=_SPLIT_MORE,
    ),
    "internvl": Words(
        templates.CHATML.replace("IMAGE", "<IMG_CONTEXT>"),
        "<|endoftext|>",
        ("<|im_end|>",),
        named={
            "start_image_token": "<img>",
            "end_image_token": "</img>",
            "context_image_token": "<IMG_CONTEXT>",
            "video_token": "<video>",
        },
        more=_CHAT,
    ),
    # Templates of a tokenizer alone; pictures take the place of a token that no prompt holds, the first one.
    "videollama2-clip-mistral": Words(templates.LLAMA2, "<unk>", ("</s>",), "<s>"),
    "videollama2-siglip-qwen2": Words(
        templates.WORDS_ALONE, "<|endoftext|>", ("<|im_end|>", "<|endoftext|>"), more=_CHAT
    ),
    "paligemma": Words(templates.PALIGEMMA, "<pad>", ("<eos>",), "<bos>", named={"image_token": "<image>"}),
    "paligemma2": Words(templates.PALIGEMMA, "<pad>", ("<eos>",), "<bos>", named={"image_token": "<image>"}),
    "gemma3": _gemma(
        named={
            "image_token": "<image_soft_token>",
            "boi_token": "<start_of_image>",
            "eoi_token": "<end_of_image>",
        }
    ),
    "mistral3": _INSTRUCT,
    "paddleocr_vl": Words(
        templates.PADDLE,
        "<unk>",
        ("</s>",),
        "<|begin_of_sentence|>",
        named={"image_token": "<|IMAGE_PLACEHOLDER|>"},
        more=("<|IMAGE_START|>", "<|IMAGE_END|>", "<|video_pad|>"),
    ),
    "glm4v": Words(
        templates.GLM,
        "<|endoftext|>",
        ("<|endoftext|>", "<|user|>", "<|observation|>"),
        named={"image_token": "<|image|>", "video_token": "<|video|>"},
        more=(
            *("[gMASK]", "<sop>", "<|assistant|>", "<think>"),
            *("<|begin_of_image|>", "<|end_of_image|>", "<|begin_of_video|>", "<|end_of_video|>"),
        ),
    ),
    "ovis2": Words(
        templates.CHATML.replace("IMAGE", "<image>"),
        "<|endoftext|>",
        ("<|im_end|>", "<|endoftext|>"),
        more=(
            "<image>",
            "<IMG_ATOM>",
            "<IMG_START>",
            "<IMG_GRID>",
            "<IMG_COL>",
            "<IMG_ROW>",
            "<IMG_END>",
            *_CHAT,
        ),
    ),
}
