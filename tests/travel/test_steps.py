"""The steps that a board runs: the runtime's own, opened the way the timer opens them."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.runtime.toy_export import Toy
from topovlm.runtime.engine import Engine
from topovlm.travel.failure import Failure
from topovlm.travel.ort_engine import choose_providers, open_engine
from topovlm.travel.ort_graphs import CPU, CUDA
from topovlm.travel.prompts import Prompt, pack, unpack
from topovlm.travel.steps import Opened, prefill_feeds, see_all

TRT = "TensorrtExecutionProvider"


def as_a_board(engine: Engine, new_tokens: int) -> Opened:
    """The plain graphs of an engine's folder, opened as the timer does."""
    facts = {part: str(path) for part, path in engine.manifest.parts("plain").items()}
    return open_engine(facts, {"threads": 1, "providers": [], "new_tokens": new_tokens})


def arrived(prompt: Prompt) -> Prompt:
    """A prompt that went through a file, as it does on its way to a board."""
    held = io.BytesIO()
    np.savez(held, **pack([prompt]))
    held.seek(0)
    with np.load(held) as arrays:
        (found,) = unpack(dict(arrays))
    return found


@pytest.mark.parametrize("images", [0, 2])
@pytest.mark.parametrize("bound", [False, True])
@pytest.mark.parametrize("change", [{}, {"blocks": True, "stacked": 1, "keeps": True}], ids=str)
def test_a_board_steps_as_the_runtime_does(tmp_path: Path, images: int, bound: bool, change: Any) -> None:
    """The same tokens, all of them, with the cache in host memory or bound to a device (host memory here)."""
    folder = Toy(**change).write(tmp_path / "x")
    engine = Engine(folder, threads=1)
    pictures = [Image.new("RGB", (8, 8), (90 * i, 40, 200)) for i in range(images)]
    prompt = engine.prepare(pictures, "what colour is the ball")
    opened = as_a_board(engine, 9)
    if bound:
        opened.graphs.decoder.cache_device = "cpu"  # type: ignore[attr-defined]  # of OrtGraphs
    found = opened.generate(arrived(prompt))
    assert found.tokens == engine.generate_prepared(prompt, 9, stop_at_eos=False).token_ids
    assert len(found.token_ms) == 8
    assert (found.vision_ms > 0) == (images > 0)
    assert opened.dtype == "float32"


def test_positions_of_three_rows(tmp_path: Path) -> None:
    """Frames, rows and columns of a picture reach the graph, and the answer goes on behind the farthest."""
    toy = Toy(rows=3)
    engine = Engine(toy.write(tmp_path / "x"), threads=1)
    flat = engine.prepare([Image.new("RGB", (8, 8), (90, 40, 200))], "what colour is the ball")
    places = np.flatnonzero(flat.ids == flat.image_token_id)
    start, grid = places[0], np.indices((1, 2, 2)).reshape(3, -1)
    positions = np.arange(len(flat.ids)) - 2 * (np.arange(len(flat.ids)) > places[-1])
    positions = np.stack([positions] * 3)
    positions[:, places] = start + grid
    prompt = replace(flat, positions=positions, next_position=int(positions.max()) + 1)
    found = as_a_board(engine, 9).generate(arrived(prompt))
    want: list[int] = []
    while len(want) < 9:
        want.append(int(toy.logits(prompt, want).argmax()))
    assert found.tokens == want
    assert engine.generate_prepared(prompt, 9, stop_at_eos=False).token_ids == want
    # Prompts of one length with positions of their own share a batch.
    other = replace(prompt, positions=positions + 1, next_position=prompt.next_position + 1)
    features = [see_all(engine.graphs, prompt)] * 2
    feeds = prefill_feeds(engine.graphs, [prompt, other], features)
    logits, _ = engine.graphs.step(feeds, engine.graphs.empty_cache(2), 0)
    np.testing.assert_allclose(logits, [toy.logits(prompt), toy.logits(other)], rtol=1e-4, atol=1e-4)


def test_pictures_and_their_tokens_must_agree(tmp_path: Path) -> None:
    """A prompt with more image tokens than pictures is refused, not answered without them."""
    engine = Engine(Toy().write(tmp_path / "x"), threads=1)
    prompt = engine.prepare([Image.new("RGB", (8, 8))], "red")
    with pytest.raises(Failure, match="must equal the number of image tokens in the prompt, 4"):
        as_a_board(engine, 2).generate(replace(prompt, pictures=[]))


def test_inputs_that_nothing_feeds_are_named(tmp_path: Path) -> None:
    """A vision graph that asks for what a prompt does not bring: its name, and what there is."""
    engine = Engine(Toy().write(tmp_path / "x"), threads=1)
    prompt = engine.prepare([Image.new("RGB", (8, 8))], "red")
    other = replace(prompt, pictures=[{"pixels": prompt.pictures[0]["pixel_values"]}])
    with pytest.raises(Failure, match=r"pixel_values \['pixels'\]: is an input .* nothing here feeds"):
        as_a_board(engine, 2).generate(other)


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
    request = {"threads": 1, "providers": [], "new_tokens": 2}
    with pytest.raises(Failure, match=r"broken\.onnx: cannot be loaded") as caught:
        open_engine(dict.fromkeys(("vision", "embed", "decoder"), str(broken)), request)
    assert caught.value.kind == "graph"
