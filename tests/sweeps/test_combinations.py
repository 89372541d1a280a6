"""Lists of models, targets and budgets: what they mean, how run directories are called, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from topovlm.config import resolve
from topovlm.errors import InputError
from topovlm.sweeps.combinations import Combination, combinations
from topovlm.units import LatencyBudget


def names(found: tuple[Combination, ...]) -> list[str]:
    return [one.name for one in found]


def test_every_combination_is_the_deployment_that_its_options_ask_for() -> None:
    """Models, then targets, then budgets; what is not listed is the same for all."""
    found = combinations(
        {"model": "a/x,b/y", "target": "jetson-orin,local", "max_latency": "0.2s,60%", "k": "7"}
    )
    assert names(found) == [
        f"{model}_{target}_{budget}"
        for model in "xy"
        for target in ("jetson-orin", "local")
        for budget in ("200ms", "60percent")
    ]
    asked = {"model": "b/y", "target": "local", "max_latency": "60%", "k": "7"}
    assert found[-1].config == resolve({**asked, "output": "topovlm-out/y_local_60percent"})


def test_all_budgets_may_be_listed() -> None:
    """Each is in the name with its unit, those that are not listed, too."""
    budgets = {"max_memory": "6GiB,8GiB", "sparsity": "25%,50%", "max_token_latency": "30ms"}
    found = combinations({"target": "jetson-orin", **budgets})
    assert len(set(names(found))) == 4
    assert names(found)[0] == "reference_jetson-orin_30ms-per-token_6GiB_25percent-fewer-layers"
    assert found[0].budget == {"max_token_latency": "30ms", "max_memory": "6GiB", "sparsity": "25%"}


def test_a_path_with_commas_is_taken_as_typed_when_it_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alone, and between others; a name with a comma that is not there is two."""
    monkeypatch.chdir(tmp_path)
    for name in ("a,b", "c"):
        Path(name).mkdir()

    def models(text: object) -> list[str]:
        return [one.config.model for one in combinations({"model": text})]

    assert models("a,b") == ["a,b"]
    assert models("c,a,b,d") == ["c", "a,b", "d"]
    assert models("b,a") == ["b", "a"]
    assert models(["x,y", Path("c")]) == ["x,y", "c"]


def test_values_from_python_and_from_a_file(tmp_path: Path) -> None:
    """Lists are as good as commas; a flag wins over the file."""
    file = tmp_path / "topovlm.toml"
    file.write_text('target = ["jetson-orin", "jetson-orin-nano"]\nmax-latency = "60%"\nseed = 3\n')
    found = combinations({"max_latency": ["200ms", LatencyBudget(share_of_dense=0.5)]}, file)
    assert names(found) == [
        f"reference_{target}_{budget}"
        for target in ("jetson-orin", "jetson-orin-nano")
        for budget in ("200ms", "50percent")
    ]
    assert {one.config.seed for one in found} == {3}
    assert len(combinations({}, file)) == 2


def test_models_of_one_name_have_directories_of_their_own() -> None:
    """A digest of what was typed tells them apart; file systems without capitals are thought of."""
    found = names(combinations({"model": "a/Llava,b/llava,c", "target": "local"}))
    assert len({name.casefold() for name in found}) == 3
    assert found[0].startswith("Llava_local_")
    assert found[2] == "c_local"


def test_names_are_plain(tmp_path: Path) -> None:
    """Whatever a folder or a board's file is called."""
    (name,) = names(combinations({"model": f"{tmp_path}/wörld of (x)", "target": "boards/my board.toml@7W"}))
    assert name == "w-rld-of-x_my-board@7W"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"max_latency": "200ms,0.2s"}, "--max-latency = '200ms,0.2s': has 200 ms twice"),
        ({"target": "jetson-orin,jetson-orin"}, "--target = .* has jetson-orin twice"),
        ({"target": "jetson-orin,"}, "--target = '': is empty"),
        ({"model": []}, r"--model = \[\]: is empty"),
        ({"max_latency": "200ms,300"}, "--max-latency = '300': has no unit"),
        ({"sparsity": "25%,50%", "drop": "3"}, "--sparsity and --drop"),
        ({"k": "5,7"}, "--k = '5,7': is no number and none of"),
    ],
)
def test_lists_that_cannot_be(given: dict[str, object], message: str) -> None:
    """Named by the flag and the value."""
    with pytest.raises(InputError, match=message):
        combinations(given)
