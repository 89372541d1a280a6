"""The families' data files: each is whole, names what exists, and states only what is done."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from topovlm.errors import InputError
from topovlm.exporters.onnx.graphs import check_family
from topovlm.families.catalogue import DECODERS, FAMILIES, TOWERS, families_that
from topovlm.families.family import named


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_a_record_names_what_exists(name: str) -> None:
    """Functions, decoders and towers of every data file can be had; the file is called like its type."""
    family = FAMILIES[name]
    assert family.model_type == name
    decoders, towers = {family.default_decoder, *family.decoders}, {family.default_tower} - {""}
    if family.tokens is not None:
        for reference, home in (
            (family.tokens.layout, "vision"),
            (family.tokens.frames, "vision"),
            (family.tokens.projector, "projectors"),
        ):
            assert callable(named(reference, f"topovlm.families.{home}"))
    if family.graphs is not None and not family.text_only:
        assert callable(named(family.graphs.vision, "topovlm.towers.vision"))
        towers |= set(family.graphs.towers)
    assert all(DECODERS[kind].model_type == kind for kind in decoders)
    assert all(TOWERS[kind].model_type == kind for kind in towers)


@pytest.mark.parametrize("name", sorted(name for name in FAMILIES if not FAMILIES[name].native))
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
    if not family.text_only:
        assert theirs.vision_config.model_type == family.default_tower


@pytest.mark.parametrize("name", sorted({kind for family in FAMILIES.values() for kind in family.decoders}))
def test_defaults_of_decoders_are_those_of_transformers(name: str) -> None:
    """Sizes, windows and moduli that a decoder's record fills in."""
    from transformers import CONFIG_MAPPING

    theirs = CONFIG_MAPPING[name](**DECODERS[name].defaults).to_dict()
    bare = CONFIG_MAPPING[name]().to_dict()
    for field, value in DECODERS[name].defaults.items():
        if field in bare and field != "sliding_window":  # set to null where no window is asked for
            assert bare[field] == value, field
        elif field == "num_experts":  # an alias there
            assert bare["num_local_experts"] == value
        else:
            assert field in ("sliding_window", "sliding_window_pattern") or value is False, field
    assert theirs.get("layer_types") == bare.get("layer_types")
    assert theirs.get("no_rope_layers") == bare.get("no_rope_layers")


def test_a_family_that_states_fewer_actions_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the exporter, in one sentence that says which are supported."""
    import msgspec
    from transformers import AutoConfig

    fewer = msgspec.structs.replace(FAMILIES["vipllava"], actions=("plan", "score", "prune"))
    monkeypatch.setitem(FAMILIES._made, "vipllava", fewer)
    expected = r"model_type = 'vipllava': this family is not supported yet\. Supported: .*llava"
    with pytest.raises(InputError, match=expected):
        check_family(AutoConfig.for_model("vipllava"))
    assert "vipllava" in families_that("prune")


def test_families_import_no_torch() -> None:
    """Every record, its sizes and its counts are had without torch or transformers."""
    code = (
        "import sys; from topovlm.families.known_models import list_known_models;"
        "[m.facts.visual_tokens(m.facts.workload()) for m in list_known_models()];"
        "from topovlm.families.catalogue import FAMILIES; dict(FAMILIES);"
        "bad = {'torch', 'transformers', 'huggingface_hub', 'numpy'} & set(sys.modules); assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
