"""Features averaged outside of the tower (VideoLLaMA3): against transformers' own, kept tokens or all."""

from __future__ import annotations

import torch

from tests.towers import tracing
from topovlm.families.torch_parts import parts_of
from topovlm.runtime.pictures.grids import positions
from topovlm.runtime.pictures.sifted import averages
from topovlm.towers.averaged import AveragedPatches


def test_it_equals_the_model() -> None:
    """Pictures, and frames whose tokens are means of patches, some of them left out; places matter."""
    from transformers import AutoConfig

    vision = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = AutoConfig.for_model(
        "video_llama_3",
        vision_config={**vision, "patch_size": 4},
        text_config={**tracing.TEXT, "model_type": "qwen2"},
    )
    model = tracing.build(config)
    graph = tracing.Graph(AveragedPatches(parts_of(model)))
    assert graph.axes["pixel_values"] == ["patches", 48]
    assert graph.axes["feature_index"] == ["tokens", 4]
    for rows, columns, merge in ((3, 5, 1), (4, 6, 2), (6, 3, 3), (4, 8, 4)):
        pixels = tracing.random_pixels(rows, rows * columns, 48)
        with torch.no_grad():
            (expected,) = model.get_image_features(
                pixels, torch.tensor([[1, rows, columns]]), image_merge_sizes=torch.tensor([merge])
            ).pooler_output
        kept = torch.arange(0, len(expected), 2)
        for tokens in (torch.arange(len(expected)), kept):
            read = {name: torch.from_numpy(value) for name, value in averages(tokens.numpy(), merge).items()}
            places = torch.from_numpy(positions(rows, columns, merge))
            got = graph.run(pixel_values=pixels, position_ids=places, **read)
            assert tracing.relative_error(got, expected[tokens]) < 1e-4
        other = graph.run(pixel_values=pixels, position_ids=places.flip(0) * 3, **read)
        assert tracing.relative_error(other, expected[kept]) > 0.005
