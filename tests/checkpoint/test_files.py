"""Opening checkpoints: what is whole opens, what is not is refused with field, value, rule and remedy."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors import safe_open

from tests import tiny
from topovlm.checkpoint.files import content_hash, open_checkpoint, read_facts, resolve
from topovlm.errors import InputError


@pytest.fixture
def copy(tiny_clip_llama: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_clip_llama, tmp_path / "model"))


@pytest.fixture(scope="session")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sharded") / "model"
    return tiny.build(folder, "clip-llama", max_shard_size="200KB")


def _edit_config(folder: Path, change: Callable[[dict], object]) -> None:
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))


def test_headers_agree_with_the_safetensors_library(tiny_siglip_qwen2: Path) -> None:
    """Names, shapes and sizes read by hand are those the library reads."""
    opened = open_checkpoint(tiny_siglip_qwen2)
    with safe_open(tiny_siglip_qwen2 / "model.safetensors", "np") as file:
        library = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        for name in library:
            entry = opened.tensors[name]
            raw = entry.file.read_bytes()[entry.offset_bytes : entry.offset_bytes + entry.size_bytes]
            assert raw == file.get_tensor(name).tobytes()
    assert {name: entry.shape for name, entry in opened.tensors.items()} == library
    assert opened.layers == 6


def test_shards_open_as_one_checkpoint(sharded: Path) -> None:
    """A sharded checkpoint opens with all its tensors."""
    opened = open_checkpoint(sharded)
    assert len(opened.metadata) > 3
    total = json.loads((sharded / "model.safetensors.index.json").read_text())["metadata"]["total_size"]
    assert opened.weight_bytes == total


def test_layer_count_left_out_means_the_decoders_default(copy: Path) -> None:
    """Old configurations leave num_hidden_layers out and mean 32: weights of 6 are then incomplete."""
    _edit_config(copy, lambda c: c["text_config"].pop("num_hidden_layers"))
    with pytest.raises(InputError, match=r"layers\.6\..* is missing"):
        open_checkpoint(copy)


def test_opening_imports_no_torch(tiny_siglip_qwen2: Path) -> None:
    """A plan reads the configuration, and surgery the headers, without torch or transformers."""
    code = (
        "import sys; from topovlm.checkpoint.files import open_checkpoint, read_facts;"
        "import topovlm.checkpoint.surgery, topovlm.checkpoint.verify, topovlm.choose.calibration;"
        "import topovlm.choose.scorers, topovlm.choose.search;"
        f"read_facts({str(tiny_siglip_qwen2)!r}); open_checkpoint({str(tiny_siglip_qwen2)!r});"
        "bad = {'torch', 'transformers', 'huggingface_hub'} & set(sys.modules); assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_refuses_what_is_no_checkpoint_folder(tmp_path: Path) -> None:
    """A missing path, a file, an empty folder, an adapter."""
    with pytest.raises(InputError, match="neither a folder nor a hub id"):
        read_facts(tmp_path / "nothing" / "here")
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="is a file"):
        read_facts(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no config\.json"):
        read_facts(tmp_path / "empty")
    (tmp_path / "empty" / "adapter_config.json").write_text("{}")
    with pytest.raises(InputError, match="adapter"):
        read_facts(tmp_path / "empty")


def test_hub_id_that_cannot_be_reached_is_explained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Offline and not in the cache: the message says so, and what to do."""
    code = (
        "from topovlm.checkpoint.files import resolve; from topovlm.errors import InputError\n"
        "for only in (True, False):\n"
        "    try: resolve('nobody/such-model', config_only=only)\n"
        "    except InputError as error: assert 'local hub cache' in str(error), error\n"
        "    else: raise SystemExit('no error')\n"
    )
    for variables in ({"HF_HUB_OFFLINE": "1"}, {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9"}):
        environment = {"HF_HOME": str(tmp_path), "PATH": "/usr/bin:/bin", **variables}
        subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=120)


def test_hub_id_in_the_local_cache_resolves_offline(
    tiny_siglip_qwen2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A snapshot in the hub cache is found by id with HF_HUB_OFFLINE=1; a local folder of that name wins."""
    revision = "0" * 40
    base = tmp_path / "models--owner--name"
    shutil.copytree(tiny_siglip_qwen2, base / "snapshots" / revision)
    (base / "refs").mkdir()
    (base / "refs" / "main").write_text(revision)
    code = (
        "from topovlm.checkpoint.files import open_checkpoint;"
        "assert open_checkpoint('owner/name').layers == 6"
    )
    environment = {"HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1", "PATH": "/usr/bin:/bin"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=120)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner" / "name").mkdir(parents=True)
    assert resolve("owner/name") == Path("owner/name")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(model_type="bert"), "'bert'.*Supported: .*llava"),
        (lambda c: c.update(model_type="qwen2_vl"), "'llama'.*inside a qwen2_vl model is not supported yet"),
        (lambda c: c.update(model_type="saturnvlm"), "'saturnvlm'.*not supported yet"),
        (lambda c: c.update(model_type="mllama"), "'mllama'.*cross-attention layers read the picture"),
        (lambda c: c["text_config"].update(model_type="lfm2"), "'lfm2'.*not supported yet: its convolution"),
        (lambda c: c.pop("model_type"), "names no model type"),
        (lambda c: c.pop("text_config"), "text_config"),
        (lambda c: c["text_config"].update(model_type="mamba"), "decoder.*not supported yet"),
        (lambda c: c["text_config"].update(num_hidden_layers=0), "num_hidden_layers"),
        (lambda c: c["text_config"].update(num_hidden_layers="6"), "num_hidden_layers"),
        (lambda c: c["text_config"].update(num_hidden_layers=5), "weights of layer 5"),
        (lambda c: c["text_config"].update(num_hidden_layers=7), r"layers\.6\..*missing"),
        (lambda c: c.update(auto_map={"AutoModel": "x.Y"}), "code of its own"),
        (lambda c: c.update(quantization_config={"quant_method": "gptq"}), "'gptq'.*quantised"),
        (lambda c: c.update(quantization_config="gptq"), "'gptq'.*quantised"),
        (lambda c: c.update(quantization_config=["awq"]), "'awq'.*quantised"),
        (lambda c: c.update(vision_config="x"), "vision_config = 'x': is missing or not an object"),
        (lambda c: c.pop("vision_config"), "vision_config = None"),
    ],
)
def test_refuses_configurations_by_name(copy: Path, change: Callable, message: str) -> None:
    """Every configuration that we cannot use is refused in one sentence that names the field."""
    _edit_config(copy, change)
    with pytest.raises(InputError, match=message):
        open_checkpoint(copy)


def test_refuses_broken_json(copy: Path) -> None:
    """The message says which file is not JSON."""
    (copy / "config.json").write_text('{"model_type": ')
    with pytest.raises(InputError, match=r"config\.json.*not JSON"):
        open_checkpoint(copy)
    (copy / "config.json").write_text("[]")
    with pytest.raises(InputError, match="JSON object"):
        open_checkpoint(copy)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pth"])
def test_refuses_pickles(copy: Path, name: str) -> None:
    """Weights that can run code are refused; beside safetensors they are ignored."""
    (copy / name).write_bytes(b"\x80\x02")
    open_checkpoint(copy)
    (copy / "model.safetensors").unlink()
    with pytest.raises(InputError, match="pickled"):
        open_checkpoint(copy)
    (copy / name).unlink()
    with pytest.raises(InputError, match="no weights"):
        open_checkpoint(copy)


def test_refuses_every_truncation(copy: Path) -> None:
    """Cut anywhere, the file is refused."""
    file = copy / "model.safetensors"
    whole = file.read_bytes()
    for size in (0, 4, 8, 100, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:size])
        with pytest.raises(InputError, match=r"model\.safetensors.*truncated"):
            open_checkpoint(copy)


def test_refuses_corrupt_headers(copy: Path) -> None:
    """Wrong lengths, JSON, dtypes, offsets and trailing bytes are each refused."""
    file = copy / "model.safetensors"
    whole = file.read_bytes()
    (length,) = struct.unpack("<Q", whole[:8])
    header, data = json.loads(whole[8 : 8 + length]), whole[8 + length :]

    def write(changed: dict, tail: bytes = b"") -> None:
        raw = json.dumps(changed).encode()
        file.write_bytes(struct.pack("<Q", len(raw)) + raw + data + tail)

    first = next(name for name in header if name != "__metadata__")
    cases: list[tuple[Callable[[], object], str]] = [
        (lambda: file.write_bytes(b"\xff" * 64), "header length"),
        (lambda: file.write_bytes(struct.pack("<Q", 20) + b"{" * 40), "corrupt header"),
        (lambda: file.write_bytes(struct.pack("<Q", 2) + b"[]" + data), "corrupt header"),
        (lambda: write({**header, first: {**header[first], "dtype": "X9"}}), "unknown dtype"),
        (lambda: write({**header, first: {**header[first], "shape": [1]}}), "do not fit"),
        (lambda: write({**header, first: {"dtype": "F32"}}), "corrupt header"),
        (lambda: write({name: facts for name, facts in header.items() if name != first}), "corrupt"),
        (lambda: write(header, b"\0" * 8), "belong to no tensor"),
    ]
    for damage, message in cases:
        damage()
        with pytest.raises(InputError, match=message):
            open_checkpoint(copy)


def test_refuses_missing_shards_and_lying_indices(sharded: Path, tmp_path: Path) -> None:
    """A shard that is not there, a tensor listed elsewhere, a path out of the folder, an empty index."""
    folder = Path(shutil.copytree(sharded, tmp_path / "model"))
    index = folder / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    shards = sorted(set(content["weight_map"].values()))
    first, last = shards[0], shards[-1]
    (folder / last).rename(folder / "aside")
    with pytest.raises(InputError, match=f"lacks 1 of the {len(shards)} shards.*{last}"):
        open_checkpoint(folder)
    (folder / "aside").rename(folder / last)
    for weight_map, message in (
        ({**content["weight_map"], "extra.weight": first}, "extra.weight"),
        ({**content["weight_map"], "extra.weight": "../../x.safetensors"}, r"\.\./"),
        ({}, "weight_map"),
    ):
        index.write_text(json.dumps({**content, "weight_map": weight_map}))
        with pytest.raises(InputError, match=message):
            open_checkpoint(folder)


def test_refuses_a_missing_tensor(copy: Path) -> None:
    """Whichever tensor of the decoder or the projector is taken away, its absence is named."""
    from safetensors.numpy import load_file, save_file

    weights = load_file(copy / "model.safetensors")
    names = [name for name in weights if not name.startswith("vision_tower")]
    for name in names[:: max(1, len(names) // 7)]:
        save_file({key: value for key, value in weights.items() if key != name}, copy / "model.safetensors")
        with pytest.raises(InputError, match="missing"):
            open_checkpoint(copy)


def test_content_hash_sees_what_matters(copy: Path) -> None:
    """Weights, configuration and tokenizer change the hash; a note beside them does not."""
    before = content_hash(copy)
    (copy / "notes.md").write_text("x")
    assert content_hash(copy) == before
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    changed = content_hash(copy)
    assert changed != before
    (copy / "generation_config.json").write_text("{}")
    assert content_hash(copy) not in (before, changed)
