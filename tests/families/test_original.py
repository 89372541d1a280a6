"""Configurations of VideoLLaMA2's own form, and back."""

from __future__ import annotations

from typing import Any

import pytest

from topovlm.errors import InputError
from topovlm.families.facts import ModelFacts
from topovlm.families.known_models import known_model
from topovlm.families.original import image_processor, normal, stated
from topovlm.families.vision import vision_work
from topovlm.planner.record import PlanRecord

CONFIG: dict[str, Any] = dict(known_model("videollama2-7b").config)


def test_what_a_configuration_implies_comes_and_goes() -> None:
    """Tower, features and padding by names alone; written again, nothing is there that was not."""
    whole = normal(CONFIG)
    assert whole["vision_config"]["image_size"] == 336
    assert (whole["vision_feature_layer"], whole["vision_feature_select_strategy"]) == (-2, "default")
    assert whole["sampler_padding"] == 1
    assert stated(whole) == CONFIG
    assert normal(whole) == whole


@pytest.mark.parametrize("model_type", ["mistral", "videollama2", "videollama2_mistral"])
def test_every_name_of_the_type_is_one_family(model_type: str) -> None:
    """Files say `mistral` until the project had types of its own; frames were not stated then."""
    older = {name: value for name, value in CONFIG.items() if name != "num_frames"}
    facts = ModelFacts(normal({**older, "model_type": model_type}))
    assert facts.model_type == "videollama2_mistral"
    assert facts.shape.clip_frames == 8
    assert facts.visual_tokens(facts.workload()) == 845


def test_a_picture_is_as_much_work_as_a_clip() -> None:
    """Sixteen frames of 27 x 27 patches; without padding, fewer tokens than of sixteen with."""
    shape = known_model("videollama2.1-7b-16f").shape()
    work = vision_work(shape, known_model("videollama2.1-7b-16f").facts.workload(images=1))
    assert (work.sequences, work.patches, work.tokens) == (16, 729, 8 * 13 * 13)


def test_pictures_are_prepared_as_the_towers_own_processor_does() -> None:
    """Against the defaults of transformers' classes: shortest edge and crop for CLIP, a square for SigLIP."""
    from transformers import CLIPImageProcessorPil, SiglipImageProcessorPil

    clip = image_processor(normal(CONFIG))
    siglip = image_processor(normal(known_model("videollama2.1-7b-16f").config))
    assert clip is not None
    assert siglip is not None
    for found, theirs in ((clip, CLIPImageProcessorPil()), (siglip, SiglipImageProcessorPil())):
        stated_there = theirs.to_dict()
        for name in ("image_mean", "image_std", "resample", "rescale_factor", "do_resize", "do_normalize"):
            assert found[name] == pytest.approx(stated_there[name])
        assert bool(found.get("do_center_crop")) == bool(stated_there.get("do_center_crop"))
    assert (clip["size"], clip["crop_size"]) == ({"shortest_edge": 336}, {"height": 336, "width": 336})
    assert siglip["size"] == {"height": 384, "width": 384}


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"mm_projector_type": "spatial_conv"}, "mm_projector_type = 'spatial_conv'.*stc_connector"),
        ({"mm_vision_tower": "a/tower"}, "mm_vision_tower = 'a/tower'.*clip-vit-large"),
        ({"num_frames": 0}, "num_frames = 0"),
        ({"num_frames": 10**6}, "num_frames = 1000000"),
        ({"vision_config": {"model_type": "pixtral"}}, "mm_vision_tower"),
        (
            {"vision_config": {"model_type": "clip_vision_model", "image_size": "x"}},
            "vision.image_size = 'x'",
        ),
        ({"mm_projector_type": ["stc_connector"]}, "mm_projector_type"),
        ({"sampler_padding": "one"}, "sampler_padding = 'one'"),
    ],
)
def test_what_is_not_known_is_refused_by_name(change: dict[str, Any], names: str) -> None:
    with pytest.raises(InputError, match=names):
        _tokens({**CONFIG, **change})


def _tokens(config: dict[str, Any]) -> int:
    whole = normal(config)
    facts = ModelFacts(whole, image_processor(whole))
    return facts.visual_tokens(facts.workload(images=1))


def test_a_plan_by_name() -> None:
    """Without a folder; the number of tokens is the model's, so no fewer are advised."""
    import topovlm

    plan: PlanRecord = topovlm.plan(model="videollama2-7b", target="jetson-agx-orin", sparsity="25%")
    assert (plan.workload.visual_tokens, plan.keep_layers) == (845, 24)
    assert "visual tokens instead of" not in " ".join(plan.advice)
