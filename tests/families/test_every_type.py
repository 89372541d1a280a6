"""Every image-text-to-text model of the installed transformers is handled, or refused with its reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import transformers
from transformers import CONFIG_MAPPING, AutoConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from topovlm.checkpoint.files import open_checkpoint, read_facts
from topovlm.errors import InputError
from topovlm.families.catalogue import FAMILIES, decoder_of, families_that, family_of, refused
from topovlm.families.facts import ModelFacts
from topovlm.families.layers import layer_count

# Types that came with the release named; older ones that we take do not know them.
_NEW_IN = {"5.24": {"apertus1p5", "hy_v4_vl", "inkling2_loop"}}
TYPES = sorted(MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES)


def _folder(folder: Path, name: str) -> Path:
    config: Any = AutoConfig.for_model(name)
    (folder / "config.json").write_text(json.dumps(config.to_dict(), default=str))
    return folder


@pytest.mark.parametrize("name", TYPES)
def test_each_type_is_handled_or_refused_with_its_reason(name: str, tmp_path: Path) -> None:
    """One sentence that says what about the model it is; no traceback, and none is forgotten."""
    folder = _folder(tmp_path, name)
    if name in families_that("prune"):
        facts = read_facts(folder)
        assert facts.visual_tokens(facts.workload()) > 0
        with pytest.raises(InputError, match="has no weights"):
            open_checkpoint(folder)
        return
    for look in (read_facts, open_checkpoint):
        with pytest.raises(InputError, match=rf"^model_type = '{name}': ") as caught:
            look(folder)
        assert refused()[name] in str(caught.value)


@pytest.mark.parametrize("name", sorted(set(families_that("prune")) & set(TYPES)))
def test_its_own_default_configuration_is_understood(name: str) -> None:
    """Layers, decoder and sizes of what transformers makes without being told anything."""
    theirs: Any = AutoConfig.for_model(name)
    config, text = theirs.to_dict(), theirs.get_text_config()
    family = family_of(config)
    decoder = decoder_of(config, family)
    assert decoder.model_type == text.model_type
    assert layer_count(config, family, decoder) == ModelFacts(config).layers == text.num_hidden_layers
    assert ModelFacts(config).shape.decoder.hidden == text.hidden_size


@pytest.mark.parametrize("name", sorted(name for name in FAMILIES if FAMILIES[name].text_only))
def test_decoders_by_themselves_are_understood(name: str, tmp_path: Path) -> None:
    """No tower, no pictures, the decoder's fields at the top."""
    facts = read_facts(_folder(tmp_path, name))
    theirs: Any = AutoConfig.for_model(name)
    assert facts.layers == theirs.num_hidden_layers
    assert facts.workload(images=2).images == facts.visual_tokens(facts.workload()) == 0
    assert facts.protected_layers() == {0, 1, 2, facts.layers - 2, facts.layers - 1}


def test_reasons_are_given_for_types_that_exist() -> None:
    """None twice, none for a type that is handled; each is one sentence without its full stop."""
    assert not set(refused()) & set(families_that("prune"))
    installed = tuple(map(int, transformers.__version__.split(".")[:2]))
    newer = [names for release, names in _NEW_IN.items() if installed < tuple(map(int, release.split(".")))]
    assert set(refused()) - set(CONFIG_MAPPING) == set().union(*newer)
    assert all(reason[-1].isalnum() and ". " not in reason for reason in refused().values())
