"""Published measurements as rows that the functional form can be fitted to.

A row is one JSON object: `metric` (decode_tok_s, prefill_ms, vision_encode_ms, peak_gpu_memory_mib),
`value`, `target` (board@mode), `runtime` and its `version`, `precision`, `model`, `llm`, and the workload;
`source` says where it was read, `mode_stated` whether the source names the power mode (else it is inferred
from clocks and ratios). Shapes of the models come beside it as plain config facts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from msgspec import structs

from topovlm.artifacts import sha256_file
from topovlm.errors import InputError, explain
from topovlm.families.shape import DecoderShape, ModelShape
from topovlm.families.sizes import read_shape
from topovlm.families.vision import vision_flop, vision_work
from topovlm.predict.levels import Setting, setting_of
from topovlm.predict.phases import Machine, Work
from topovlm.predict.runtimes import passes, unpacks
from topovlm.predict.target import load_target
from topovlm.predict.vision_reads import tower_bytes
from topovlm.predict.weight_formats import ACTIVATION_BYTES, ATTENTION_ARITHMETIC, arithmetic, stored
from topovlm.records import Part, read
from topovlm.workload import Workload

PHASE_OF_METRIC = {"vision_encode_ms": "vision", "prefill_ms": "prefill", "decode_tok_s": "decode"}
MEMORY_METRIC = "peak_gpu_memory_mib"
_VIT_SQUARES = 12  # a plain layer: four squares of attention, two matrices of four times the width

_GGUF, _GGUF8 = stored("w4a16", "llamacpp"), stored("int8", "llamacpp")
# What the sources call a format -> (our format, stored bits per weight, bits per weight of the head).
PRECISIONS = {
    "int4awq": ("w4a16", 4.125, 16),
    "int4awq+fp16vit": ("w4a16", 4.125, 16),
    "nvfp4": ("nvfp4", 4.5, 16),
    "nvfp4+head": ("nvfp4", 4.5, 4.5),
    "fp8": ("fp8", 8, 16),
    "w8a16": ("int8", 8, 16),
    "ort_int4": ("w4a16", 4.5, 4.5),
    "fp16": ("fp16", 16, 16),
    "q4_0": ("w4a16", 4.5, _GGUF.head_bits),
    "q4_k_m": ("w4a16", _GGUF.weight_bits, _GGUF.head_bits),
    "q8_0": ("int8", _GGUF8.weight_bits, _GGUF8.head_bits),
    "mlc_q4f16_ft": ("w4a16", 4.1, 16),
    "tinychat_int4": ("w4a16", 4.25, 16),
    "w4a16_vllm": ("w4a16", 4.15, 16),
}
RUNTIMES = {
    "trt-edge-llm": "edge-llm",
    "trt?": "tensorrt",
    "trt-llm": "tensorrt",
    "hf-fp16": "torch",
    "llama.cpp": "llamacpp",
}


@dataclass(frozen=True)
class PhaseRow:
    """One timing and everything the form needs for it. `seconds` is what was published."""

    phase: str
    setting: Setting
    model: str
    seconds: float
    layer_params: float
    machine: Machine
    work: Work
    target: str = ""

    @property
    def board(self) -> str:
        return self.setting.board

    @property
    def version(self) -> str:
        """Runtime and version; the runtime alone where the source states none."""
        return f"{self.setting.runtime} {self.setting.version}".strip()


@dataclass(frozen=True)
class MemoryRow:
    """One peak of GPU memory: `known_bytes` are weights and caches, the rest is the runtime's.

    `image_tokens`: those that the vision engine was built for.
    """

    model: str
    device: str
    peak_bytes: float
    known_bytes: float
    weight_bytes: float
    image_tokens: float
    version: str = ""


class Published(Part, frozen=True, kw_only=True):
    """One row as the file holds it; what its metric does not need is absent (0)."""

    metric: str
    value: float
    target: str  # board@mode
    runtime: str
    precision: str
    model: str
    llm: str | None = None
    prompt_tokens: int = 0
    context_tokens: int = 0
    visual_tokens: int = 0
    gflop: float = 0.0
    patches: int = 0
    kv_capacity_tokens: int = 0
    max_image_tokens: int = 0
    gpu_mhz: float = 0  # where the source states another clock than the mode's
    version: str = ""
    source: str = ""
    mode_stated: bool = False


class PlainTower(Part, frozen=True, kw_only=True):
    """A ViT of which the tables give operations and patches."""

    layers: int


class Shapes(Part, frozen=True, kw_only=True):
    """Sizes of the models in the rows; towers as in their `vision_config`."""

    decoders: dict[str, DecoderShape]
    towers: dict[str, dict[str, object]]
    plain_towers: dict[str, PlainTower]


def read_rows(rows_path: Path, shapes_path: Path) -> tuple[list[PhaseRow], list[MemoryRow], str]:
    """(timings, memory peaks, SHA-256 of the rows file). Raises `InputError` naming a bad row."""
    shapes = read(shapes_path, Shapes, field="shapes")
    published = read(rows_path, tuple[Published, ...], field="rows")
    timings, peaks = [], []
    for number, row in enumerate(published, start=1):
        try:
            if row.metric == MEMORY_METRIC:
                peaks.append(_memory_row(row, shapes))
            else:
                timings.append(_phase_row(row, shapes))
        except (KeyError, ValueError) as error:
            rule = f"row {number} ({row.model}, {row.metric}) cannot be used: {error}"
            raise InputError(explain("rows", str(rows_path), rule)) from None
    return timings, peaks, sha256_file(rows_path)


def _place(row: Published, dtype: str) -> tuple[Setting, Machine]:
    target = load_target(row.target)
    mode = target.mode if not row.gpu_mhz else structs.replace(target.mode, gpu_mhz=row.gpu_mhz)
    target = replace(target, mode=mode)
    runtime = RUNTIMES.get(row.runtime, row.runtime)
    machine = target.machine(arithmetic(dtype, runtime), ATTENTION_ARITHMETIC)
    if machine is None:
        raise ValueError(f"{row.target} lacks the figures for {dtype}")
    return setting_of(target.board, runtime, row.version, dtype), machine


def _phase_row(row: Published, shapes: Shapes) -> PhaseRow:
    phase = PHASE_OF_METRIC[row.metric]
    dtype, bits, head_bits = PRECISIONS[row.precision]
    setting, machine = _place(row, dtype)
    seconds = 1 / row.value if phase == "decode" else row.value / 1e3
    if phase == "vision":
        work, layer_params, tower = _tower(row, shapes)
        return PhaseRow(phase, setting, tower, seconds, layer_params, machine, work, row.target)
    if row.llm is None:
        raise ValueError("llm is missing")
    decoder = shapes.decoders[row.llm]
    if row.precision == "q4_k_m":
        held = stored(dtype, setting.runtime, decoder.hidden)
        bits, head_bits = held.weight_bits, held.head_bits
    weights = decoder.layers * decoder.linear_params_per_layer
    context = decoder.attended_tokens(row.context_tokens)
    cache = context * decoder.layers * decoder.kv_values_per_token_layer * ACTIVATION_BYTES
    width, head = decoder.heads * decoder.head_dim, decoder.head_params * head_bits / 8
    tokens = row.prompt_tokens
    unpacked = 0.0
    if unpacks(setting.runtime, setting.version) and bits < 16:
        unpacked = weights * (bits / 8 + ACTIVATION_BYTES)
    work = Work(
        layers=decoder.layers,
        linear_flop=2.0 * tokens * weights,
        attention_flop=2.0 * tokens * decoder.attended_tokens(tokens) * width * decoder.layers,
        weight_bytes=weights * (16 if unpacked else bits) / 8,
        unpacked_bytes=unpacked,
        head_bytes=head,
        read_bytes=weights * bits / 8 + head + cache,
        tokens=max(1, tokens),
        passes=passes(setting.runtime, tokens),
        side=decoder.linear_params_per_layer**0.5,
    )
    layer = decoder.linear_params_per_layer
    return PhaseRow(phase, setting, row.llm, seconds, layer, machine, work, row.target)


def _tower_shape(name: str, shapes: Shapes) -> ModelShape:
    tower = shapes.towers[name]
    decoder = {"model_type": "qwen3_vl_text", "hidden_size": tower["out_hidden_size"]}
    return read_shape({"model_type": "qwen3_vl", "text_config": decoder, "vision_config": tower})


def _tower(row: Published, shapes: Shapes) -> tuple[Work, float, str]:
    """(work, weights per layer, name); towers that differ in the projector share a name."""
    if row.model in shapes.towers:
        shape = _tower_shape(row.model, shapes)
        assert shape.vision is not None
        pictures = vision_work(shape, Workload(visual_tokens=row.visual_tokens))
        params: float = shape.vision.linear_params_per_layer
        flop, layers = vision_flop(shape.vision, pictures), shape.vision.layers
        patches, hidden, name = pictures.patches, shape.vision.hidden, f"vit-{shape.vision.hidden}"
    else:
        flop, layers, patches, name = (
            row.gflop * 1e9,
            shapes.plain_towers[row.model].layers,
            row.patches,
            row.model,
        )
        params = flop / (2 * patches * layers)
        hidden = round((params / _VIT_SQUARES) ** 0.5)
    reads = tower_bytes(layers, params, hidden, patches)
    return Work(layers=layers, linear_flop=flop, read_bytes=reads), params, name


def _memory_row(row: Published, shapes: Shapes) -> MemoryRow:
    name = {"Qwen3-VL-2B": "Qwen3-1.7B"}.get(row.model, row.model.replace("-VL", ""))
    decoder = shapes.decoders[name]
    _, bits, head_bits = PRECISIONS[row.precision]
    weights = decoder.layers * decoder.linear_params_per_layer * bits / 8
    head = decoder.head_params * head_bits / 8
    cache = row.kv_capacity_tokens * decoder.layers * decoder.kv_values_per_token_layer * ACTIVATION_BYTES
    vision = _tower_shape(row.model, shapes).vision if row.model in shapes.towers else None
    tower = vision.params * ACTIVATION_BYTES if vision else 0.0
    known = weights + 2 * head + cache + tower
    tokens = row.max_image_tokens
    return MemoryRow(name, row.target, row.value * 2.0**20, known, weights, tokens, row.version)
