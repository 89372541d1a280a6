"""An exported folder from elsewhere: every damage is bad input, said in seconds and in little memory."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from tests.cases.command import edit, topovlm

RUNTIME, IMAGES, WORDS = "topovlm_runtime.json", "preprocessor_config.json", "tokenizer.json"
# Libraries alone map some 3 GB of addresses, hardly any of it in memory.
ADDRESSES = 5 << 30


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped model, exported, and a picture beside it."""
    room = tmp_path_factory.mktemp("export")
    assert topovlm("export", "--model", "reference", "-o", room / "good", cwd=room).code == 0
    Image.new("RGB", (48, 48)).save(room / "p.png")
    return room / "good"


def asked(good: Path, folder: Path, *, command: str = "run", limit_s: float = 60) -> Any:
    """`run` on the damaged folder, or `bench` of it."""
    words = ["run", folder, "--image", good.parent / "p.png", "--prompt", "x", "--max-new-tokens", 2]
    if command == "bench":
        words = ["bench", folder, "--measure-time", "100ms"]
    return topovlm(*words, "--threads", 1, cwd=folder.parent, limit_s=limit_s, memory_bytes=ADDRESSES)


def damaged(good: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return shutil.copytree(good, tmp_path / "m")


def put(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """Set a key, dots going down."""

    def change(content: dict[str, Any]) -> None:
        *way, last = key.split(".")
        for name in way:
            content = content[name]
        content[last] = value

    return change


def swap(content: dict[str, Any]) -> None:
    content["graphs"]["vision"] = content["graphs"]["embed"]


CHANGES: dict[str, tuple[str, Callable[[dict[str, Any]], Any]]] = {
    "graphs are a list": (RUNTIME, put("graphs", [])),
    "a graph is a number": (RUNTIME, put("graphs.embed", 3)),
    "no decoder": (RUNTIME, lambda c: c["graphs"].pop("decoder") and c["graphs"].pop("decoder_fused")),
    "negative image token": (RUNTIME, put("image_token_id", -5)),
    "image token beyond": (RUNTIME, put("image_token_id", 10**12)),
    "tokens per image infinite": (RUNTIME, put("tokens_per_image", float("inf"))),
    "tokens per image 1e9": (RUNTIME, put("tokens_per_image", 10**9)),
    "negative end token": (RUNTIME, put("eos_token_ids", [-1])),
    "a billion layers": (RUNTIME, put("decoder.layers", 10**9)),
    "another depth": (RUNTIME, put("decoder.layers", 3)),
    "other heads": (RUNTIME, put("decoder.kv_heads", 7)),
    "small vocabulary": (RUNTIME, put("decoder.vocab", 3)),
    "unknown strategy": (RUNTIME, put("strategy", "os")),
    "another strategy": (RUNTIME, put("strategy", "native")),
    "swapped graphs": (RUNTIME, swap),
    "a graph outside": (RUNTIME, put("graphs.vision", "../../../../../../etc/passwd")),
    "an absolute graph": (RUNTIME, put("graphs.vision", "/etc/passwd")),
    "out and in again": (RUNTIME, put("graphs.vision", "../m/onnx/vision_encoder.onnx")),
    "a graph with a NUL": (RUNTIME, put("graphs.vision", "onnx/\x00")),
    "a graph that is a folder": (RUNTIME, put("graphs.vision", "onnx")),
    "size list": (IMAGES, put("size", [48, 48])),
    "size 0": (IMAGES, put("size", {"height": 0, "width": 0})),
    "size 20000": (IMAGES, put("size", {"height": 20000, "width": 20000})),
    "size in words": (IMAGES, put("size", {"height": "48", "width": "48"})),
    "size of the wrong edge": (IMAGES, put("size", {"longest_edge": 48})),
    "mean of 7": (IMAGES, put("image_mean", [0.5] * 7)),
    "mean in words": (IMAGES, put("image_mean", "x")),
    "std of 0": (IMAGES, put("image_std", [0, 0, 0])),
    "std NaN": (IMAGES, put("image_std", float("nan"))),
    "factor infinite": (IMAGES, put("rescale_factor", float("inf"))),
    "resample 99": (IMAGES, put("resample", 99)),
    "resample list": (IMAGES, put("resample", [3])),
    "resize in words": (IMAGES, put("do_resize", "no")),
    "settings that are a list": (IMAGES, lambda c: None),
    "crop of 10^6": (IMAGES, lambda c: c.update(do_center_crop=True, crop_size=10**6)),
    "negative crop": (IMAGES, lambda c: c.update(do_center_crop=True, crop_size={"height": -1, "width": 9})),
    "crop without width": (IMAGES, lambda c: c.update(do_center_crop=True, crop_size={"height": 48})),
    "patches of 0": ("config.json", put("vision_config.patch_size", 0)),
    "patches in words": ("config.json", put("vision_config.patch_size", "8")),
    "a tower of 10^9 px": ("config.json", put("vision_config.image_size", 10**9)),
    "words that are a list": (WORDS, put("model", [])),
    "words of another kind": (WORDS, put("model.type", "Magic")),
    "special tokens of a kind": ("tokenizer_config.json", put("extra_special_tokens", 7)),
}
NOT_DAMAGED = {"special tokens of a kind"}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_file_is_bad_input(good: Path, tmp_path: Path, name: str) -> None:
    """Exit code 2 and one sentence; what no reader needs may be anything."""
    folder = damaged(good, tmp_path)
    file, change = CHANGES[name]
    if name == "settings that are a list":
        (folder / file).write_text("[1]")
    else:
        edit(folder / file, change)
    done = asked(good, folder)
    assert done.code == 0 if name in NOT_DAMAGED else done.refused, (done.code, done.last)


def explosive(content: dict[str, Any]) -> None:
    """Six steps, each of which makes a thousand letters of one."""
    step = {"type": "Replace", "pattern": {"String": "x"}, "content": "x" * 1000}
    content["normalizer"] = {"type": "Sequence", "normalizers": [step] * 6}


def nested(content: dict[str, Any]) -> None:
    """Every letter, one step inside the other."""
    step: dict[str, Any] = {"type": "Replace", "pattern": {"Regex": "."}, "content": "yy" * 500}
    for _ in range(3):
        step = {"type": "Sequence", "normalizers": [step, step]}
    content["normalizer"] = step


@pytest.mark.parametrize("change", [explosive, nested])
def test_a_tokenizer_that_explodes(good: Path, tmp_path: Path, change: Callable[[Any], None]) -> None:
    """Refused by its file, before any word is given to it."""
    folder = damaged(good, tmp_path)
    edit(folder / WORDS, change)
    done = asked(good, folder)
    assert done.refused
    assert "multiply" in done.last


def graph(folder: Path, part: str = "vision_encoder") -> Path:
    return folder / "onnx" / f"{part}.onnx"


def random_bytes(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(4096))


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def saved(path: Path, change: Callable[[onnx.ModelProto], object]) -> None:
    model = onnx.load(path)
    change(model)
    onnx.save(model, path)


def later_opset(path: Path) -> None:
    saved(path, lambda model: model.opset_import[0].__setattr__("version", 999))


def other_input(path: Path) -> None:
    def rename(model: onnx.ModelProto) -> None:
        old, model.graph.input[0].name = model.graph.input[0].name, "other"
        for node in model.graph.node:
            for place, name in enumerate(node.input):
                if name == old:
                    node.input[place] = "other"

    saved(path, rename)


def other_output(path: Path) -> None:
    """A scalar where features are expected."""
    info = helper.make_tensor_value_info
    pixels = info("pixel_values", TensorProto.FLOAT, ["n", 3, 48, 48])
    node = helper.make_node("ReduceSum", ["pixel_values"], ["image_features"], keepdims=0)
    made = helper.make_graph([node], "g", [pixels], [info("image_features", TensorProto.FLOAT, [])])
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)


def weights_in(location: str) -> Callable[[Path], None]:
    """The graph's tensors in a file at `location`."""

    def change(path: Path) -> None:
        model = onnx.load(path)
        tensor = max(model.graph.initializer, key=lambda held: len(held.raw_data))
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        entry = tensor.external_data.add()
        entry.key, entry.value = "location", location
        path.write_bytes(model.SerializeToString())

    return change


def a_link_out(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/passwd")


def data_that_is_a_link_out(path: Path) -> None:
    path.with_name(f"{path.name}_data").symlink_to("/etc/passwd")


def a_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


BROKEN: tuple[Callable[[Path], None], ...] = (
    random_bytes,
    cut_short,
    later_opset,
    other_input,
    other_output,
    a_link_out,
    data_that_is_a_link_out,
    a_fifo,
    weights_in("/etc/passwd"),
    weights_in("../../../../etc/passwd"),
    weights_in("missing.bin"),
)


@pytest.mark.parametrize("number", range(len(BROKEN)))
def test_a_broken_graph_is_bad_input(good: Path, tmp_path: Path, number: int) -> None:
    """The file is named; nothing outside of the folder is read."""
    folder = damaged(good, tmp_path)
    BROKEN[number](graph(folder))
    done = asked(good, folder)
    assert done.refused, (done.code, done.last)
    assert "root:" not in done.err


@pytest.mark.parametrize("command", ["run", "bench", "eval"])
def test_every_reader_of_the_folder_refuses_it(good: Path, tmp_path: Path, command: str) -> None:
    """A link out of the folder: whoever opens it."""
    folder = damaged(good, tmp_path)
    a_link_out(graph(folder))
    words = {"bench": ["bench", folder], "eval": ["eval", folder, "--eval-samples", 8]}
    done = topovlm(*words[command], cwd=tmp_path) if command in words else asked(good, folder)
    assert done.refused, (done.code, done.last)
    assert "inside the exported folder" in done.last


def test_one_number_is_a_size(good: Path, tmp_path: Path) -> None:
    """`"size": 48` is a valid image processor."""
    folder = damaged(good, tmp_path)
    edit(folder / IMAGES, put("size", 48))
    wanted, found = asked(good, good), asked(good, folder)
    assert found.code == 0, found.last
    assert found.out == wanted.out
    assert json.loads((folder / IMAGES).read_text())["size"] == 48
