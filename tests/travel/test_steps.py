"""The steps that a board runs: the runtime's own, opened the way the timer opens them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tests.runtime.toy_export import Toy
from topovlm.runtime.engine import Engine
from topovlm.travel.failure import Failure
from topovlm.travel.ort_engine import choose_providers, open_engine
from topovlm.travel.ort_graphs import CPU, CUDA
from topovlm.travel.steps import Opened

TRT = "TensorrtExecutionProvider"


def as_a_board(engine: Engine, new_tokens: int) -> Opened:
    """The plain graphs of an engine's folder, opened as the timer does."""
    facts = dict(zip(("vision", "embed", "decoder"), map(str, engine.manifest.parts("plain")), strict=True))
    request = {"threads": 1, "providers": [], "image_token_id": engine.manifest.image_token_id}
    return open_engine(facts, {**request, "new_tokens": new_tokens})


@pytest.mark.parametrize("images", [0, 2])
@pytest.mark.parametrize("bound", [False, True])
def test_a_board_steps_as_the_runtime_does(tmp_path: Path, images: int, bound: bool) -> None:
    """The same tokens, all of them, with the cache in host memory or bound to a device (host memory here)."""
    folder = Toy().write(tmp_path / "x")
    engine = Engine(folder, threads=1)
    pictures = [Image.new("RGB", (8, 8), (90 * i, 40, 200)) for i in range(images)]
    prompt = engine.prepare(pictures, "what colour is the ball")
    vision, embed, decoder = map(str, engine.manifest.parts("plain"))
    request = {
        "threads": 1,
        "providers": [],
        "image_token_id": engine.manifest.image_token_id,
        "new_tokens": 9,
    }
    opened = open_engine({"vision": vision, "embed": embed, "decoder": decoder}, request)
    if bound:
        opened.graphs.decoder.cache_device = "cpu"  # type: ignore[attr-defined]  # of OrtGraphs
    found = opened.generate(prompt.input_ids, prompt.pixels)
    assert found.tokens == engine.generate_prepared(prompt, 9, stop_at_eos=False).token_ids
    assert len(found.token_ms) == 8
    assert (found.vision_ms > 0) == (images > 0)
    assert opened.dtype == "float32"


def test_pictures_and_their_tokens_must_agree(tmp_path: Path) -> None:
    """A prompt with more image tokens than pictures is refused, not answered without them."""
    engine = Engine(Toy().write(tmp_path / "x"), threads=1)
    prompt = engine.prepare([Image.new("RGB", (8, 8))], "red")
    vision, embed, decoder = map(str, engine.manifest.parts("plain"))
    request = {
        "threads": 1,
        "providers": [],
        "image_token_id": engine.manifest.image_token_id,
        "new_tokens": 2,
    }
    opened = open_engine({"vision": vision, "embed": embed, "decoder": decoder}, request)
    with pytest.raises(Failure, match="must equal the number of image tokens in the prompt, 4"):
        opened.generate(prompt.input_ids, None)


@pytest.mark.parametrize(
    ("present", "wanted", "chosen"),
    [
        ([CPU], [], [CPU]),
        ([CUDA, CPU], [], [CUDA, CPU]),
        ([CUDA, CPU], [CPU], [CPU]),
        ([TRT, CUDA, CPU], [TRT], [TRT, CUDA, CPU]),
    ],
)
def test_providers_of_a_board(present: list[str], wanted: list[str], chosen: list[str]) -> None:
    """What was asked for, else a GPU that is known; CUDA takes what TensorRT leaves, the CPU the rest."""
    ort = SimpleNamespace(get_available_providers=lambda: present)
    assert choose_providers(ort, wanted) == chosen
    with pytest.raises(Failure, match="is not in this onnxruntime"):
        choose_providers(ort, ["OpenVINOExecutionProvider"])


def test_graphs_that_do_not_load(tmp_path: Path) -> None:
    """The reason names the file, for the program and for people."""
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(np.zeros(8, np.uint8).tobytes())
    request = {"threads": 1, "providers": [], "image_token_id": 1, "new_tokens": 2}
    with pytest.raises(Failure, match=r"broken\.onnx: cannot be loaded") as caught:
        open_engine(dict.fromkeys(("vision", "embed", "decoder"), str(broken)), request)
    assert caught.value.kind == "graph"
