"""docs/adding-a-family.md, carried out: its blocks, as they stand, add a family that was not there."""

from __future__ import annotations

import functools
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import tiny
from tests.exporters.answers import greedy
from topovlm import cli
from topovlm.checkpoint.files import open_checkpoint
from topovlm.checkpoint.surgery import prune_checkpoint
from topovlm.checkpoint.verify import verify_checkpoint
from topovlm.errors import InputError
from topovlm.exporters.onnx.export import export_onnx
from topovlm.families.catalogue import FAMILIES, read_family
from topovlm.runtime.engine import Engine

PAGE = Path(__file__).parents[2] / "docs" / "adding-a-family.md"
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
DROP = [2, 3]


def blocks(kind: str) -> list[str]:
    """The page's blocks of one language."""
    return [text for language, text in BLOCKS if language == kind]


def install(site: Path, record: str) -> None:
    """A package as pip would lay it down: the data file, the one function, and the entry point."""
    package = site / "mars_plugin"
    package.mkdir(parents=True)
    (package / "marsvlm.toml").write_text(record)
    function, init = blocks("python")
    (package / "__init__.py").write_text(init)
    (package / "pictures.py").write_text(function)
    facts = site / "mars_plugin-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: mars-plugin\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text(blocks("ini")[0])


def register_with_transformers() -> None:
    """What the family's own authors would publish: a configuration and a model, LLaVA's but brighter."""
    from transformers import (
        AutoConfig,
        AutoModelForImageTextToText,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaModel,
    )

    class MarsConfig(LlavaConfig):
        model_type = "marsvlm"

    class MarsModel(LlavaModel):
        @functools.wraps(LlavaModel.get_image_features)  # `generate` reads its signature
        def get_image_features(self, *args: Any, **kwargs: Any) -> Any:
            found = super().get_image_features(*args, **kwargs)
            found.pooler_output = [2 * features for features in found.pooler_output]
            return found

    class MarsForConditionalGeneration(LlavaForConditionalGeneration):
        config_class = MarsConfig

        def __init__(self, config: MarsConfig) -> None:
            super().__init__(config)
            self.model = MarsModel(config)
            self.post_init()

    AutoConfig.register("marsvlm", MarsConfig, exist_ok=True)
    AutoModelForImageTextToText.register(MarsConfig, MarsForConditionalGeneration, exist_ok=True)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A 6-layer checkpoint of the made-up family."""
    register_with_transformers()
    return tiny.build(tmp_path_factory.mktemp("mars") / "model", "siglip-qwen2", model_type="marsvlm")


def test_without_its_record_it_is_refused_by_name(model: Path) -> None:
    """Surgery and plan say that the family is not supported, and which are."""
    with pytest.raises(InputError, match=r"model_type = 'marsvlm': .* not supported yet. Supported: .*llava"):
        open_checkpoint(model)
    assert cli.main(["plan", "--target", "jetson-orin", "--model", str(model)]) == 2


def test_a_file_of_sizes_is_enough_to_plan(model: Path, tmp_path: Path) -> None:
    """The page's first block: planned with its own count of visual tokens, still refused by surgery."""
    install(tmp_path / "site", blocks("toml")[0])
    words = ["plan", "--target", "jetson-orin", "--json", "--model", str(model)]
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r})\n"
        "from topovlm import cli\nfrom topovlm.checkpoint.files import open_checkpoint\n"
        f"status = cli.main({words!r})\n"
        "assert status == 0 and 'torch' not in sys.modules\n"
        f"try: open_checkpoint({str(model)!r})\n"
        "except ValueError as error: assert 'not supported yet' in str(error), error\n"
        "else: raise SystemExit('opened')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    assert (plan["total_layers"], plan["workload"]["visual_tokens"]) == (6, 16)
    assert any("marsvlm: layers of this family cannot be removed yet" in note for note in plan["notes"])


def test_the_whole_record_prunes_exports_and_runs(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page's second block and its one function: surgery, gate and runtime agree with torch."""
    install(tmp_path / "site", blocks("toml")[1])
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert "marsvlm" in FAMILIES.names()
    assert open_checkpoint(model).layers == 6
    prune_checkpoint(model, tmp_path / "slim", DROP)
    verify_checkpoint(tmp_path / "slim", dense=model, dropped=DROP)
    export_onnx(tmp_path / "slim", tmp_path / "onnx", variants=("plain",))
    pairs = [(tiny.picture(3, 32), tiny.PROMPTS[0])]
    engine = Engine(tmp_path / "onnx", variant="plain", threads=1)
    got = [engine.generate([image], prompt, max_new_tokens=6).token_ids for image, prompt in pairs]
    assert got == greedy(tmp_path / "slim", pairs, 6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("layout =", "layuot ="), "layuot"),
        (("actions = ", "shiny = true\nactions = "), "shiny"),
        (('actions = ["plan"]', 'actions = ["plan", "prune"]'), "'prune' needs decoders and tensors"),
        (('actions = ["plan"]', 'actions = ["plan", "fly"]'), "fly"),
        (("model_type = ", "model_type "), "is not TOML"),
    ],
)
def test_a_wrong_record_is_refused_with_its_file_and_field(
    tmp_path: Path, change: tuple[str, str], message: str
) -> None:
    """A misspelt field, an action without what it needs, an unknown action, no TOML at all."""
    file = tmp_path / "marsvlm.toml"
    file.write_text(blocks("toml")[0].replace(*change))
    with pytest.raises(InputError, match=rf"marsvlm\.toml.*{message}"):
        read_family(file)
