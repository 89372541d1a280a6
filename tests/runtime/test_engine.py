"""The engine against a numpy transformer without a cache, over the forms that exported graphs take."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto
from PIL import Image

from tests.runtime.toy_export import Toy
from topovlm.errors import InputError, MissingToolError
from topovlm.runtime.engine import Engine
from topovlm.runtime.manifest import load_manifest

PROMPTS = [
    "what colour",
    "is the ball red",
    "blue",
    "the ball",
    "what colour is the ball red blue",
    "red blue",
]


def picture(seed: int, side: int = 8) -> Image.Image:
    """A noise picture."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8))


@pytest.fixture(scope="module")
def toy() -> Toy:
    return Toy()


@pytest.fixture(scope="module")
def engine(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return Engine(toy.write(tmp_path_factory.mktemp("toy") / "x", ("plain", "fused")), threads=1)


@pytest.mark.parametrize("images", [0, 1, 3])
def test_tokens_equal_the_uncached_oracle(engine: Engine, toy: Toy, images: int) -> None:
    """Prefill plus cached steps give the tokens of a full recomputation, with any number of pictures."""
    for seed, prompt in enumerate(PROMPTS):
        pictures = [picture(10 * seed + i) for i in range(images)]
        ready = engine.prepare(pictures, prompt)
        result = engine.generate(pictures, prompt, max_new_tokens=12)
        assert result.token_ids == toy.generate(ready, 12)
        assert result.prompt_tokens == len(ready.ids)
        assert len(result.token_ms) == len(result.token_ids) - 1
        assert (result.vision_ms > 0) == (images > 0)


@pytest.mark.parametrize(
    "change",
    [
        {"position_ids": False},
        {"fixed_batch": True},
        {"flat_features": True},
        {"id_type": TensorProto.INT32},
        {"kv_heads": 4},
        {"blocks": True},
        {"stacked": 2},
        {"keeps": True},
    ],
    ids=str,
)
def test_graph_forms(toy: Toy, tmp_path: Path, change: dict) -> None:
    """Whatever a graph asks for beside embeddings and mask, the tokens are the oracle's; batched too."""
    other = replace(toy, weights={}, **change)
    engine = Engine(other.write(tmp_path / "x"), threads=1)
    items = [([picture(seed), picture(seed + 1)], prompt) for seed, prompt in enumerate(PROMPTS)]
    want = [other.generate(engine.prepare(*item), 10) for item in items]
    assert [engine.generate(*item, max_new_tokens=10).token_ids for item in items] == want
    assert [answer.token_ids for answer in engine.generate_batch(items, 4, 10)] == want


def test_the_last_logits_alone_are_computed(toy: Toy, tmp_path: Path) -> None:
    """A graph that can leave out logits is asked for one row; one that cannot gives the same logits."""
    item = ([picture(1)], PROMPTS[4])
    found = {}
    for keeps in (False, True):
        engine = Engine(replace(toy, weights={}, keeps=keeps).write(tmp_path / f"{keeps}"), threads=1)
        shapes: list[tuple[int, ...]] = []
        run = engine.decoder.session.run_with_ort_values

        def watched(outputs: list, feeds: dict, run: Any = run, shapes: list = shapes) -> list:
            results = run(outputs, feeds)
            shapes.append(tuple(results[0].shape()))
            return results

        engine.decoder.session = Watched(engine.decoder.session, watched)
        found[keeps] = engine.answer_logits([item])[0]
        rows = 1 if keeps else len(engine.prepare(*item).ids)
        assert shapes == [(1, rows, toy.vocab)]
    np.testing.assert_allclose(found[True], found[False], rtol=1e-5, atol=1e-5)


class Watched:
    """A session whose runs are watched."""

    def __init__(self, session: Any, run: Any) -> None:
        self._session, self.run_with_ort_values = session, run

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)


def test_bound_outputs_change_nothing(toy: Toy, tmp_path: Path) -> None:
    """The path that keeps the cache on a device gives the same tokens (bound to host memory here)."""
    engine = Engine(toy.write(tmp_path / "x"), threads=1)
    want = [engine.generate([picture(i)], PROMPTS[i], 8).token_ids for i in range(4)]
    engine.decoder.cache_device = "cpu"
    assert [engine.generate([picture(i)], PROMPTS[i], 8).token_ids for i in range(4)] == want


def test_half_precision_logits(toy: Toy, tmp_path: Path) -> None:
    """fp16 graphs are fed fp16; their logits stay near the fp32 oracle."""
    half = replace(toy, weights={}, float_type=TensorProto.FLOAT16)
    engine = Engine(half.write(tmp_path / "x"), threads=1)
    ready = engine.prepare([picture(3)], PROMPTS[1])
    want = toy.logits(ready)
    got = engine.answer_logits([([picture(3)], PROMPTS[1])])[0]
    np.testing.assert_allclose(got, want, atol=0.02 * np.abs(want).max())


@pytest.mark.parametrize("fixed_batch", [False, True])
def test_batches_equal_single_runs(toy: Toy, tmp_path: Path, fixed_batch: bool) -> None:
    """Batched answers are the single answers in the same order, whatever the mix of lengths and pictures."""
    engine = Engine(replace(toy, weights={}, fixed_batch=fixed_batch).write(tmp_path / "x"), threads=1)
    items = [([picture(i + j) for j in range(i % 3)], PROMPTS[i % len(PROMPTS)]) for i in range(17)]
    done: list[int] = []
    batched = engine.generate_batch(items, 4, 9, progress=done.append)
    single = [engine.generate(*item, max_new_tokens=9) for item in items]
    assert [a.token_ids for a in batched] == [a.token_ids for a in single]
    assert [(a.text, a.stopped) for a in batched] == [(a.text, a.stopped) for a in single]
    assert {a.stopped for a in batched} == {"eos", "length"}
    assert done[-1] == len(items)
    assert done == sorted(done)


def test_large_pictures_wait_outside_of_memory(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompts are prepared until their pictures fill the bound, not all of the items at once."""
    items = [([picture(i)], PROMPTS[i % len(PROMPTS)]) for i in range(9)]
    answers = engine.generate_batch(items, 2, 4)
    one = engine.prepare(*items[0]).picture_bytes
    assert one == sum(value.nbytes for value in engine.prepare(*items[0]).pictures[0].values()) > 0
    monkeypatch.setattr("topovlm.runtime.engine._BYTES_PREPARED", 2 * one)
    prepared, seen, prepare = [0], [], engine.prompter.prepare

    def counted(*item: Any) -> Any:
        prepared[0] += 1
        return prepare(*item)

    monkeypatch.setattr(engine.prompter, "prepare", counted)
    bounded = engine.generate_batch(items, 2, 4, progress=lambda done: seen.append(prepared[0] - done))
    assert bounded == answers
    assert prepared == [len(items)]
    assert max(seen) <= 1  # two at most are held, of which one is answered


def test_answer_logits(engine: Engine, toy: Toy) -> None:
    """First-token logits are the oracle's."""
    items = [([picture(i)], prompt) for i, prompt in enumerate(PROMPTS)]
    want = np.stack([toy.logits(engine.prepare(*item)) for item in items])
    np.testing.assert_allclose(engine.answer_logits(items, 3), want, rtol=1e-4, atol=1e-4)


def test_stops(engine: Engine, toy: Toy) -> None:
    """The end token stops a run unless told otherwise; the token limit stops it at last; tokens stream."""
    for seed in range(40):
        ready = engine.prepare([picture(seed)], PROMPTS[seed % 6])
        stream: list[int] = []
        short = engine.generate_prepared(ready, 8, on_token=stream.append)
        full = engine.generate_prepared(ready, 8, stop_at_eos=False)
        assert stream == short.token_ids == full.token_ids[: len(stream)]
        assert len(full.token_ids) == 8
        if short.stopped == "eos":
            assert short.token_ids[-1] == 2
            assert "<|end|>" not in short.text
            return
    pytest.fail("no prompt of this toy ends early: the test says nothing")


def test_auto_takes_the_fused_graph(engine: Engine) -> None:
    """`auto` prefers the fused graph; the providers named are those of the sessions."""
    assert engine.variant == "fused"
    assert engine.providers_used["decoder"] == ["CPUExecutionProvider"]


def test_bad_folders(toy: Toy, tmp_path: Path) -> None:
    """What is no export is refused with the missing thing named."""
    with pytest.raises(InputError, match="no such folder"):
        Engine(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no exported model.*topovlm_runtime.json"):
        Engine(tmp_path / "empty")
    folder = toy.write(tmp_path / "x")
    with pytest.raises(InputError, match=r"variant = 'fused'.*it has plain"):
        Engine(folder, variant="fused")
    manifest = folder / "topovlm_runtime.json"
    whole = manifest.read_text()
    for text, message in (
        ("{", "is not JSON"),
        ("[]", "Expected `object`"),
        (json.dumps({**json.loads(whole), "schema": 9}), "has schema 9, this topovlm reads 2"),
        (json.dumps({"schema": 2}), "missing required field `model_type`"),
        (json.dumps({**json.loads(whole), "schema": 1}), "has schema 1, this topovlm reads 2.*Export again"),
        (json.dumps({**json.loads(whole), "first_position": "4"}), r"Expected `int`.*\$\.first_position"),
    ):
        manifest.write_text(text)
        with pytest.raises(InputError, match=rf"topovlm_runtime\.json.*{message}"):
            Engine(folder)
    manifest.write_text(whole)
    graph = folder / "onnx/decoder_model_merged.onnx"
    graph.write_bytes(graph.read_bytes()[:200])
    with pytest.raises(InputError, match="is no ONNX model: it is cut short"):
        Engine(folder)
    graph.unlink()
    with pytest.raises(InputError, match="missing"):
        Engine(folder)


def test_bad_calls(engine: Engine, toy: Toy, tmp_path: Path) -> None:
    """Bad numbers, providers, prompts and pictures are refused by name."""
    folder = engine.manifest.folder
    for bad, message in (({"threads": 0}, "threads"), ({"providers": ["gpu!"]}, "provider")):
        with pytest.raises(InputError, match=message):
            Engine(folder, **bad)
    with pytest.raises(MissingToolError, match=r"pip install .* onnxruntime-gpu"):
        Engine(folder, providers=["cuda"])
    with pytest.raises(InputError, match="max_new_tokens"):
        engine.generate([], "red", 0)
    with pytest.raises(InputError, match="stands for a picture"):
        engine.generate([], "<image> red")
    with pytest.raises(InputError, match="does not exist"):
        engine.generate([tmp_path / "none.png"], "red")
    with pytest.raises(InputError, match="batch_size"):
        engine.generate_batch([([], "red")], batch_size=0)


def test_import_pulls_no_heavy_package() -> None:
    """Importing the runtime imports neither torch nor transformers, onnx, matplotlib or scipy."""
    code = (
        "import sys, topovlm.runtime.engine, topovlm.measure.timing, topovlm.runtime.run;"
        "print(sorted({'torch', 'transformers', 'onnx', 'scipy', 'sklearn'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_precisions_are_matched(toy: Toy, tmp_path: Path) -> None:
    """A precision's decoder gets its own vision and embedding graphs; `auto` stays in full precision."""
    folder = toy.write(tmp_path / "x", ("plain", "fused", "fused_q4"))
    file = folder / "topovlm_runtime.json"
    manifest = json.loads(file.read_text())
    (folder / "onnx/embed_q4.onnx").write_bytes((folder / "onnx/embed_tokens.onnx").read_bytes())
    manifest["graphs"]["embed_q4"] = "onnx/embed_q4.onnx"
    file.write_text(json.dumps(manifest))
    found = load_manifest(folder)
    assert found.resolve("auto") == "fused"
    assert {part: path.name for part, path in found.parts("fused_q4").items()} == {
        "vision": "vision_encoder.onnx",
        "embed": "embed_q4.onnx",
        "decoder": "decoder_model_merged_fused_q4.onnx",
    }
    for name in ("decoder", "decoder_fused"):
        del manifest["graphs"][name]
    file.write_text(json.dumps(manifest))
    engine = Engine(folder, threads=1)
    assert engine.variant == "fused_q4"
    assert len(engine.generate_batch([([], "red")])) == 1


def test_a_graph_of_other_positions_is_refused(toy: Toy, tmp_path: Path) -> None:
    """Positions of another number of rows than declared would be fed wrongly: said at opening."""
    folder = replace(toy, weights={}, rows=3).write(tmp_path / "x")
    file = folder / "topovlm_runtime.json"
    content = json.loads(file.read_text())
    content["decoder"]["rows"] = 1
    file.write_text(json.dumps(content))
    with pytest.raises(InputError, match="position_ids of 3 axes; 1 rows are declared"):
        Engine(folder)


def test_a_model_without_pictures(toy: Toy, tmp_path: Path) -> None:
    """A decoder alone answers words; a picture is refused in a sentence."""
    folder = toy.write(tmp_path / "x")
    file = folder / "topovlm_runtime.json"
    content = json.loads(file.read_text())
    for field in ("strategy", "image_token_id"):
        content[field] = None
    del content["graphs"]["vision"]
    file.write_text(json.dumps(content))
    (folder / "onnx/vision_encoder.onnx").unlink()
    engine = Engine(folder, threads=1)
    assert set(engine.providers_used) == {"embed", "decoder"}
    ready = engine.prepare([], "the ball")
    assert engine.generate([], "the ball", 6).token_ids == toy.generate(ready, 6)
    with pytest.raises(InputError, match="reads text alone"):
        engine.generate([picture(0)], "the ball")
