"""What plan, deployment and export ask of a model before its weights are read."""

from __future__ import annotations

from dataclasses import replace

import pytest

from topovlm.errors import InputError
from topovlm.families.catalogue import FAMILIES
from topovlm.families.facts import ModelFacts
from topovlm.families.known_models import known_model, list_known_models
from topovlm.families.layers import refuse_tied_layers

OLD = {"model_type": "llava", "vision_config": {}, "text_config": {"model_type": "llama"}}


@pytest.mark.parametrize("model", list_known_models(), ids=lambda model: model.id)
def test_a_picture_of_the_towers_own_size_when_nobody_says(model: object) -> None:
    """Whole numbers, also where the configuration states a pair; towers of any size take 448 px."""
    facts = model.facts  # type: ignore[attr-defined]  # a parametrised argument
    height, width = facts.picture_size
    stated = facts.config["vision_config"].get("image_size", 448)
    assert [height, width] == (stated if isinstance(stated, list) else [stated, stated])
    assert facts.workload().image_height == height
    several = facts.visual_tokens(facts.workload(images=2))
    if facts.shape.several:
        assert 0 < several < 2 * facts.visual_tokens(facts.workload())
    else:
        assert several == 2 * facts.visual_tokens(facts.workload()) > 0


def test_a_stated_count_replaces_the_pictures() -> None:
    """And a stated size the tower's own."""
    facts = known_model("qwen3-vl-2b").facts
    assert facts.visual_tokens(facts.workload(visual_tokens=300)) == 300
    assert facts.visual_tokens(facts.workload(image_size=(640, 480))) == (640 // 32) * (480 // 32)


def test_the_image_processor_changes_the_count() -> None:
    """Bounds of pixels and the longest edge are the processor's to say."""
    facts = known_model("smolvlm2-2.2b").facts
    larger = replace(facts, preprocessor={"size": {"longest_edge": 4 * 384 * 2}})
    assert facts.visual_tokens(facts.workload()) == 81 * 17
    assert larger.visual_tokens(larger.workload()) == 81 * 65
    bounded = replace(known_model("qwen2.5-vl-3b").facts, preprocessor={"max_pixels": 28 * 28 * 16})
    assert bounded.visual_tokens(bounded.workload()) == 16


def test_what_old_configurations_leave_out() -> None:
    """Layers of the decoder's type, image token of the family's or under its old name; a stated context."""
    facts = ModelFacts(OLD)
    assert (facts.layers, facts.context_tokens, facts.image_token_id) == (32, None, 32000)
    stated = {**OLD, "image_token_index": 9, "text_config": {"max_position_embeddings": 77}}
    assert (ModelFacts(stated).context_tokens, ModelFacts(stated).image_token_id) == (77, 9)
    flat = known_model("qwen2.5-vl-3b").config
    assert ModelFacts({**flat, "max_position_embeddings": 88}).context_tokens == 88


def test_what_can_be_done_with_a_family() -> None:
    """Each family states it; an unknown one allows nothing."""
    assert ModelFacts(OLD).allows("export")
    qwen = known_model("qwen3-vl-2b").facts
    assert qwen.allows("plan")
    assert qwen.allows("prune")
    assert not ModelFacts({"model_type": "martian"}).allows("plan")


def test_layers_that_read_the_tower_stay() -> None:
    """Deepstack feeds the first decoder layers: they are protected, and surgery refuses them by name."""
    facts = known_model("qwen3-vl-2b").facts
    deep = {**facts.config["vision_config"], "deepstack_visual_indexes": [5, 8, 11, 14, 17]}
    facts = ModelFacts({**facts.config, "vision_config": deep})
    assert facts.protected_layers() == {0, 1, 2, 3, 4, 26, 27}
    assert facts.protected_layers(extra=[9]) == {0, 1, 2, 3, 4, 9, 26, 27}
    family = FAMILIES["qwen3_vl"]
    refuse_tied_layers(facts.config, family, [5, 20])
    with pytest.raises(InputError, match=r"layer = 4: is tied to its place.*deepstack_visual_indexes"):
        refuse_tied_layers(facts.config, family, [20, 4])
    left_out = {name: value for name, value in deep.items() if name != "deepstack_visual_indexes"}
    facts = ModelFacts({**facts.config, "vision_config": left_out})
    assert facts.protected_layers() == {0, 1, 2, 26, 27}  # three, as transformers assumes
    with pytest.raises(InputError, match=r"layer = 2: is tied to its place"):
        refuse_tied_layers(facts.config, family, [2])
