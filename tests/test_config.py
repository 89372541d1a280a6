"""Flag over file over default, one parser for all three."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from topovlm.config import OPTIONS, Config, resolve
from topovlm.errors import InputError
from topovlm.records import plain
from topovlm.units import LatencyBudget


def toml(folder: Path, text: str) -> Path:
    path = folder / "topovlm.toml"
    path.write_text(text)
    return path


def test_every_option_is_a_field_of_the_configuration() -> None:
    """The table and the dataclass list the same names."""
    assert [option.field for option in OPTIONS] == list(Config.__dataclass_fields__)


def test_precedence_is_flag_file_default(tmp_path: Path) -> None:
    """Each source wins over the next; file keys may have dashes or underscores and a [deploy] table."""
    top = 'target = "local"\nk = 5\n'
    text = top + '[deploy]\nmax-latency = "60%"\neval_samples = 40\nformat = ["onnx", "tensorrt"]'
    config = resolve({"k": "7"}, toml(tmp_path, text))
    assert (config.k, config.target, config.eval_samples) == (7, "local", 40)
    assert config.max_latency == LatencyBudget(share_of_dense=0.6)
    assert config.format == ("onnx", "tensorrt")
    assert config.scorer == "zigzag"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('max-latncy = "60%"', "max-latncy.*is not known. Did you mean max-latency"),
        ("max-latency = 200", "max-latency = '200': has no unit"),
        ("target = ", "is not TOML"),
        ("k = true", "must be a string, a number or a list"),
        ("deploy = 1", "deploy must be a table"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, text: str, words: str) -> None:
    """The message starts from the file and names the key."""
    path = toml(tmp_path, text)
    with pytest.raises(InputError, match=words) as raised:
        resolve({}, path)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize(
    ("flag", "value", "words"),
    [
        ("k", "0", "--k = 0: must be at least 1"),
        ("k", "many", "is no number and none of auto, plateau"),
        ("max_memory", "6G", "--max-memory = '6G'"),
        ("format", "tensorrt", "must contain onnx"),
        ("format", "onnx,tensort", "Did you mean tensorrt"),
        ("dtype", "fp7", "is none of"),
        ("sparsity", "100%", "some layers must stay"),
        ("drop", "3-1", "runs backwards"),
        ("drop", "a", "neither a layer nor a range"),
        ("target", " ", "is empty"),
        ("device", "ftp://board", "is neither local nor the address of a board"),
    ],
)
def test_a_bad_flag_is_named(flag: str, value: str, words: str) -> None:
    """The flag, its value and the rule are in the message."""
    with pytest.raises(InputError, match=words):
        resolve({flag: value})


def test_drop_takes_layers_and_ranges() -> None:
    """`12,13,20-24` as people write it; ascending."""
    assert resolve({"drop": "20-22,3,12"}).drop == (3, 12, 20, 21, 22)


def test_two_ways_to_say_how_much_goes_are_refused() -> None:
    """--sparsity and --drop contradict each other."""
    with pytest.raises(InputError, match="Give one of them"):
        resolve({"drop": "3", "sparsity": "25%"})


def test_a_configuration_can_be_typed_again() -> None:
    """Its words are flags that give it again, budgets in the units they were asked in."""
    from topovlm.commands.common import add_options

    flags = {"max_latency": "60%", "max_memory": "6GiB", "max_token_latency": "0.03s", "drop": "3,5-7"}
    config = resolve({**flags, "threads": "2", "target": "local", "format": "onnx,tensorrt"})
    parser = argparse.ArgumentParser()
    add_options(parser, [option.name for option in OPTIONS])
    typed = {
        name: value for name, value in vars(parser.parse_args(config.words())).items() if name != "config"
    }
    assert resolve(typed) == config
    assert config.words()[config.words().index("--max-latency") + 1] == "60%"


def test_the_saved_form_keeps_types_and_names_units() -> None:
    """What goes into run.json is no text to be parsed back; every number's field says its unit."""
    shown = plain(resolve({"max_latency": "60%", "max_memory": "6GiB", "max_token_latency": "0.03s"}))
    assert shown["max_latency"] == {"absolute_ms": None, "share_of_dense": 0.6}
    assert (shown["max_memory_bytes"], shown["max_token_latency_ms"]) == (6 << 30, 30.0)
    assert shown["output"] == "topovlm-out"


def test_values_of_python_are_checked_as_flags_are() -> None:
    """The Python interface takes typed values by the same rules: a bare number has no unit there either."""
    config = resolve({"k": 5, "drop": (3, 5), "max_latency": LatencyBudget(absolute_ms=200.0)})
    assert (config.k, config.drop, config.max_latency) == (5, (3, 5), LatencyBudget(absolute_ms=200.0))
    with pytest.raises(InputError, match="--k = 0: must be at least 1"):
        resolve({"k": 0})


def test_a_board_uses_its_own_cores() -> None:
    """Without --threads this machine's cores count here, and say nothing about a board over ssh."""
    assert resolve({}).threads == resolve({}).threads_here
    board = resolve({"device": "ssh://jetson@192.168.55.1"})
    assert board.threads is None
    assert board.threads_here == resolve({}).threads
    assert resolve({"device": "ssh://jetson@192.168.55.1", "threads": "6"}).threads == 6
