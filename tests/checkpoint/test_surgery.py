"""Layers leave a checkpoint: byte-exact tensors, rewritten configuration, all or nothing on disk."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file

from tests import tiny
from topovlm.checkpoint.card import license_of
from topovlm.checkpoint.surgery import SurgeryReport, check_drop, parse_layers, prune_checkpoint
from topovlm.errors import InputError
from topovlm.records import decode, encode


def _weights(folder: Path) -> dict:
    return {name: value for file in folder.glob("*.safetensors") for name, value in load_file(file).items()}


@pytest.mark.parametrize("shard_size", ["5GB", "100KB"])
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_kept_tensors_move_down_unchanged(family: str, shard_size: str, tmp_path: Path) -> None:
    """Layer old -> new by rank, all other tensors stay; dtype, shape and bytes as before."""
    source = tiny.build(tmp_path / "dense", family, max_shard_size=shard_size, dtype="float16")
    report = prune_checkpoint(source, tmp_path / "slim", [3, 1])
    before, after = _weights(source), _weights(tmp_path / "slim")
    kept = {0: 0, 2: 1, 4: 2, 5: 3}
    expected = {}
    for name, value in before.items():
        if name.startswith("language_model.model.layers."):
            layer, rest = name.removeprefix("language_model.model.layers.").split(".", 1)
            if int(layer) in kept:
                expected[f"language_model.model.layers.{kept[int(layer)]}.{rest}"] = value
        else:
            expected[name] = value
    assert set(after) == set(expected)
    for name, value in expected.items():
        assert after[name].dtype == value.dtype
        assert after[name].shape == value.shape
        assert after[name].tobytes() == value.tobytes()
    assert report.dropped == (1, 3)
    assert report.kept == (0, 2, 4, 5)
    assert report.weight_bytes_after == sum(value.nbytes for value in after.values())
    assert report.parameters_after == sum(value.size for value in after.values())
    assert decode(encode(report), SurgeryReport, field="surgery", name="report") == report
    index = tmp_path / "slim" / "model.safetensors.index.json"
    assert index.exists() == (shard_size == "100KB")
    if index.exists():
        content = json.loads(index.read_text())
        assert content["metadata"]["total_size"] == report.weight_bytes_after
        assert set(content["weight_map"]) == set(after)
        files = {path.name for path in (tmp_path / "slim").glob("*.safetensors")}
        assert set(content["weight_map"].values()) == files


def test_bfloat16_survives(tmp_path: Path) -> None:
    """A type that numpy lacks is copied, too."""
    from topovlm.checkpoint.files import open_checkpoint

    source = tiny.build(tmp_path / "dense", dtype="bfloat16", layers=3)
    prune_checkpoint(source, tmp_path / "slim", [1])
    dtypes = {entry.dtype for entry in open_checkpoint(tmp_path / "slim").tensors.values()}
    assert dtypes == {"BF16"}


def test_side_files_travel_and_the_card_tells(tiny_siglip_qwen2: Path, tmp_path: Path) -> None:
    """Tokenizer, processor and template are copied; README.md names the layers, the source, the licence."""
    prune_checkpoint(tiny_siglip_qwen2, tmp_path / "slim", [1, 2, 4])
    for name in ("tokenizer.json", "tokenizer_config.json", "processor_config.json", "chat_template.jinja"):
        assert (tmp_path / "slim" / name).read_bytes() == (tiny_siglip_qwen2 / name).read_bytes()
    card = (tmp_path / "slim" / "README.md").read_text()
    assert "license: apache-2.0" in card
    assert "| layers dropped (0-based) | 1-2, 4 |" in card
    assert tiny_siglip_qwen2.name in card
    assert str(tiny_siglip_qwen2.parent) not in card


def test_a_source_without_a_licence_is_said_to_have_none(tiny_siglip_qwen2: Path, tmp_path: Path) -> None:
    """No licence is invented."""
    source = Path(shutil.copytree(tiny_siglip_qwen2, tmp_path / "dense"))
    (source / "README.md").unlink()
    assert prune_checkpoint(source, tmp_path / "slim", [2]).license.id == "unknown"
    assert "states no licence" in (tmp_path / "slim" / "README.md").read_text()


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        ("---\nlicense: mit\n---\n", ("mit", None)),
        ("---\nlicense: other\nlicense_name: 'own terms: v2'\n---\n", ("other", "own terms: v2")),
        ("---\nlicense: [mit, apache-2.0]\n---\n", ("mit, apache-2.0", None)),
        ("---\nlicense: [\n---\n", ("unknown", None)),
        ("---\n- a list\n---\n", ("unknown", None)),
        ("no front matter", ("unknown", None)),
        ("", ("unknown", None)),
    ],
)
def test_the_licence_is_read_as_yaml(tmp_path: Path, card: str, expected: tuple[str, str | None]) -> None:
    """Quotes and colons mean what they mean in YAML; a damaged card states no licence, and is no error."""
    (tmp_path / "README.md").write_text(card)
    found = license_of(tmp_path)
    assert (found.id, found.name) == expected


def test_the_card_says_whose_terms_apply(tiny_clip_llama: Path, tmp_path: Path) -> None:
    """A licence of one's own travels by name and link, so that the hub shows it; the card reads back."""
    source = Path(shutil.copytree(tiny_clip_llama, tmp_path / "dense"))
    own = "license: other\nlicense_name: own-terms\nlicense_link: https://example.org/terms\n"
    (source / "README.md").write_text(f"---\n{own}---\n")
    prune_checkpoint(source, tmp_path / "slim", [2])
    text = (tmp_path / "slim" / "README.md").read_text()
    assert text.startswith(f"---\n{own}library_name: transformers\n")
    assert license_of(tmp_path / "slim") == license_of(source)
    assert "The source's licence (own-terms) applies" in text


def test_the_same_cut_gives_the_same_bytes(tiny_clip_llama: Path, tmp_path: Path) -> None:
    """Surgery is deterministic, and an empty cut copies every tensor."""
    for name in ("one", "two"):
        prune_checkpoint(tiny_clip_llama, tmp_path / name, [2])
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
    report = prune_checkpoint(tiny_clip_llama, tmp_path / "copy", [])
    assert report.kept == tuple(range(6))
    before, after = _weights(tiny_clip_llama), _weights(tmp_path / "copy")
    assert {name: value.tobytes() for name, value in before.items()} == {
        name: value.tobytes() for name, value in after.items()
    }


@pytest.mark.parametrize(
    ("drop", "message"),
    [
        ([6], "layers 0 to 5"),
        ([-1], "layer -1"),
        ([1, 1], "twice"),
        (list(range(6)), "all 6"),
        ([True], "True"),
    ],
)
def test_bad_drop_lists_are_refused_and_write_nothing(
    tiny_clip_llama: Path, tmp_path: Path, drop: list[int], message: str
) -> None:
    """Out of range, repeated, all layers, not a number."""
    with pytest.raises(InputError, match=message):
        prune_checkpoint(tiny_clip_llama, tmp_path / "slim", drop)
    assert not list(tmp_path.iterdir())


def test_an_unknown_per_layer_field_stops_surgery(tiny_clip_llama: Path, tmp_path: Path) -> None:
    """The field is named and nothing is written."""
    source = Path(shutil.copytree(tiny_clip_llama, tmp_path / "dense"))
    config = json.loads((source / "config.json").read_text())
    config["text_config"]["layer_rope_theta"] = [1.0] * 6
    (source / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="layer_rope_theta"):
        prune_checkpoint(source, tmp_path / "slim", [2])
    assert [path.name for path in tmp_path.iterdir()] == ["dense"]


def test_outputs_that_would_harm_are_refused(tiny_clip_llama: Path, tmp_path: Path) -> None:
    """Not onto the source, not into it, not over a file."""
    source = Path(shutil.copytree(tiny_clip_llama, tmp_path / "dense"))
    for target in (source, source / "slim", tmp_path):
        with pytest.raises(InputError, match="overlaps"):
            prune_checkpoint(source, target, [2])
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="is a file"):
        prune_checkpoint(source, tmp_path / "file", [2])
    assert (tmp_path / "file").read_text() == "mine"


def test_a_failure_midway_leaves_the_old_output(
    tiny_clip_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interrupted rewrite keeps what was there and leaves no temporary folder."""
    prune_checkpoint(tiny_clip_llama, tmp_path / "slim", [2])
    before = (tmp_path / "slim" / "model.safetensors").read_bytes()

    def stop(done: int, total: int) -> None:
        if done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prune_checkpoint(tiny_clip_llama, tmp_path / "slim", [3], progress=stop)
    assert [path.name for path in tmp_path.iterdir()] == ["slim"]
    assert (tmp_path / "slim" / "model.safetensors").read_bytes() == before


@given(st.sets(st.integers(0, 200), min_size=1))
def test_parse_layers_reads_what_people_write(layers: set[int]) -> None:
    """Any set of layers, written with ranges for its runs, is read back."""
    from topovlm.checkpoint.card import ranges

    text = ranges(tuple(sorted(layers)))
    assert parse_layers(text) == parse_layers(text.replace(" ", "")) == sorted(layers)


@pytest.mark.parametrize(
    "text", ["", "a", "1,,2", "3-", "-3", "5-3", "1-2-3", "1.5", "2,2", "1-3,2", "0-99999999999"]
)
def test_parse_layers_refuses_the_rest(text: str) -> None:
    """Nonsense, backward and endless ranges and repetitions."""
    with pytest.raises(InputError, match="--drop"):
        parse_layers(text)


def test_check_drop_sorts() -> None:
    """The order given does not matter."""
    assert check_drop([4, 2], 6) == (2, 4)
