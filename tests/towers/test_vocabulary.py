"""Ovis2's visual words: against transformers' own image features and embeddings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.towers import tracing
from topovlm.errors import InputError
from topovlm.exporters.onnx.graphs import embed_graph
from topovlm.families.torch_parts import parts_of
from topovlm.towers.vocabulary import VisualWords

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
    graph = tracing.Graph(VisualWords(parts_of(model)))
    assert graph.axes == {"pixel_values": ["num_tiles", 3, 32, 32]}
    for count in (1, 5):
        pixels = tracing.random_pixels(count, count, 3, 32, 32)
        with torch.no_grad():
            expected = model.get_image_features(pixels).pooler_output
        assert tracing.relative_error(graph.run(pixel_values=pixels), expected) < 1e-4
        assert tracing.relative_error(graph.run(pixel_values=pixels.flip(-1)), expected) > 0.05


def test_markers_are_read_from_the_visual_table() -> None:
    """What reaches the decoder at the markers and at words, of one prompt and of two."""
    model = _model()
    seen: list[torch.Tensor] = []
    model.model.language_model.register_forward_pre_hook(
        lambda _, __, named: seen.append(named["inputs_embeds"]), with_kwargs=True
    )
    session = tracing.session(embed_graph(model))
    for rows in (1, 2):
        ids = torch.tensor([[3, *MARKERS, *[49] * 16, 54, 50, 60 + row] for row in range(rows)])
        with torch.no_grad():
            model(input_ids=ids, pixel_values=tracing.random_pixels(0, rows, 3, 32, 32))
        (embeds,) = session.run(None, {"input_ids": ids.numpy()})
        words = (ids[0] != 49).nonzero().flatten()
        expected = seen.pop().detach()[:, words]
        assert np.array_equal(embeds[:, words.numpy()], expected.numpy())
        table = model.get_input_embeddings()(ids[:, words])
        assert not torch.equal(expected, table)


def test_words_drawn_at_random_are_refused() -> None:
    """No graph can give what the model gives."""
    with pytest.raises(InputError, match=r"tokenize_function.*random"):
        VisualWords(parts_of(_model(tokenize_function="gumbel_argmax")))
