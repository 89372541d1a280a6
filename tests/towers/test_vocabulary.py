"""Ovis2's visual words: against transformers' own image features and embeddings."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.towers import tracing
from topovlm.errors import InputError
from topovlm.towers.vocabulary import VisualWords, marker_rows

MODULES = ("model.vision_tower", "model.visual_embeddings_table")
MARKERS = [50, 51, 52, 53, 54]


def _model(**vision: Any) -> Any:
    from transformers import AutoConfig

    facts = {**tracing.VISION, "vocab_size": 37, "model_type": "ovis2_vision", **vision}
    config = AutoConfig.for_model(
        "ovis2",
        vision_config=facts,
        text_config={**tracing.TEXT, "model_type": "qwen2"},
        hidden_size=40,
        vocab_size=64,
        image_token_id=49,
        visual_indicator_token_ids=MARKERS,
    )
    return tracing.build(config)


@pytest.mark.parametrize(
    "vision",
    [{}, {"tokenize_function": "st_argmax", "hidden_stride": 2, "qkv_bias": True}],
)
def test_it_equals_the_model(vision: dict[str, Any]) -> None:
    """One tile and five, neither traced; patches merged or not; a mirrored tile differs."""
    model = _model(**vision)
    graph = tracing.Graph(VisualWords(tracing.parts_of(model, MODULES)))
    assert graph.axes == {"pixel_values": ["num_tiles", 3, 32, 32]}
    for count in (1, 5):
        pixels = tracing.random_pixels(count, count, 3, 32, 32)
        with torch.no_grad():
            expected = model.get_image_features(pixels).pooler_output
        assert tracing.relative_error(graph.run(pixel_values=pixels), expected) < 1e-4
        assert tracing.relative_error(graph.run(pixel_values=pixels.flip(-1)), expected) > 0.05


def test_in_half_precision() -> None:
    """The fp16 graph gives what its rounded weights give in fp32."""
    half, same = tracing.halved(_model())
    feeds = {"pixel_values": tracing.random_pixels(0, 3, 3, 32, 32)}
    with torch.no_grad():
        expected = same.get_image_features(**feeds).pooler_output
    got = tracing.Graph(VisualWords(tracing.parts_of(half, MODULES))).run(**tracing.as_half(feeds))
    assert tracing.relative_error(got, expected) < 1e-2


def test_markers_are_read_from_the_visual_table() -> None:
    """The embeddings that reach the decoder at the marker tokens, in the order of their ids."""
    model = _model()
    ids = torch.tensor([[3, *MARKERS, *[49] * 16, 4]])
    seen: list[torch.Tensor] = []
    model.model.language_model.register_forward_pre_hook(
        lambda _, __, named: seen.append(named["inputs_embeds"]), with_kwargs=True
    )
    with torch.no_grad():
        model(input_ids=ids, pixel_values=tracing.random_pixels(0, 1, 3, 32, 32))
    rows = marker_rows(tracing.parts_of(model, MODULES))
    assert list(rows) == MARKERS
    assert torch.equal(torch.stack(list(rows.values())), seen[0][0, 1:6].detach())


def test_words_drawn_at_random_are_refused() -> None:
    """No graph can give what the model gives."""
    with pytest.raises(InputError, match=r"tokenize_function.*random"):
        VisualWords(tracing.parts_of(_model(tokenize_function="gumbel_argmax"), MODULES))
