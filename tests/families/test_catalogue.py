"""The families' data files: each is whole, names what exists, and states only what is done."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from topovlm.errors import InputError
from topovlm.exporters.onnx.graphs import check_family
from topovlm.families.catalogue import DECODERS, FAMILIES, TOWERS, families_that, family_of
from topovlm.families.family import named

PLAN_ONLY = sorted(set(FAMILIES) - set(families_that("prune")))


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_a_record_names_what_exists(name: str) -> None:
    """Functions, decoders and towers of every data file can be had; the file is called like its type."""
    family = FAMILIES[name]
    assert family.model_type == name
    for reference, home in (
        (family.tokens.layout, "vision"),
        (family.tokens.frames, "vision"),
        (family.tokens.projector, "projectors"),
    ):
        assert callable(named(reference, f"topovlm.families.{home}"))
    decoders, towers = {family.default_decoder, *family.decoders}, {family.default_tower}
    if family.graphs is not None:
        assert callable(named(family.graphs.vision, "topovlm.towers.vision"))
        decoders |= set(family.graphs.decoders)
        towers |= set(family.graphs.towers)
    assert all(DECODERS[kind].model_type == kind for kind in decoders)
    assert all(TOWERS[kind].model_type == kind for kind in towers)


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_defaults_are_those_of_transformers(name: str) -> None:
    """What a record says a configuration may leave out is what transformers fills in there."""
    from transformers import AutoConfig

    family = FAMILIES[name]
    theirs: Any = AutoConfig.for_model(name)
    # ViP-LLaVA's code leaves the class token out without asking its configuration.
    fixed = {"vision_feature_select_strategy"} if name == "vipllava" else set()
    for field, value in family.defaults.items():
        if field in fixed:
            continue
        found = getattr(theirs, field)
        assert (list(found) if isinstance(found, tuple) else found) == value, field
    assert theirs.get_text_config().model_type == family.default_decoder
    assert theirs.vision_config.model_type == family.default_tower


@pytest.mark.parametrize("name", PLAN_ONLY)
def test_families_that_are_only_planned_are_refused_by_name(name: str) -> None:
    """By surgery and by the exporter, in one sentence that says which are supported."""

    class Config:
        model_type = name

        def to_dict(self) -> dict[str, Any]:
            return config

    config = {"model_type": name, "text_config": {}, "vision_config": {}}
    assert family_of(config, "plan") is FAMILIES[name]
    expected = rf"model_type = '{name}': .*not supported yet\. Supported: llava, vipllava"
    for refuse in (lambda: family_of(config, "prune"), lambda: check_family(Config())):
        with pytest.raises(InputError, match=expected):
            refuse()


def test_families_import_no_torch() -> None:
    """Every record, its sizes and its counts are had without torch or transformers."""
    code = (
        "import sys; from topovlm.families.known_models import list_known_models;"
        "[m.facts.visual_tokens(m.facts.workload()) for m in list_known_models()];"
        "from topovlm.families.catalogue import FAMILIES; dict(FAMILIES);"
        "bad = {'torch', 'transformers', 'huggingface_hub', 'numpy'} & set(sys.modules); assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
