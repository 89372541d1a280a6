"""Published measurements as rows that the functional form can be fitted to.

A row is one JSON object: `metric` (decode_tok_s, prefill_ms, vision_encode_ms, peak_gpu_memory_mib),
`value`, `target` (board@mode), `runtime`, `precision`, `model`, `llm`, and the workload. Shapes of the
models come beside it as plain config facts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from topovlm.artifacts import sha256_file
from topovlm.errors import InputError, explain
from topovlm.families.shape import DecoderShape, ModelShape
from topovlm.families.vision import vision_flop, vision_work
from topovlm.predict.phases import Machine
from topovlm.predict.target import load_target
from topovlm.predict.weight_formats import ACTIVATION_BYTES, ATTENTION_ARITHMETIC, FORMATS
from topovlm.records import Part, read
from topovlm.workload import Workload

PHASE_OF_METRIC = {"vision_encode_ms": "vision", "prefill_ms": "prefill", "decode_tok_s": "decode"}
MEMORY_METRIC = "peak_gpu_memory_mib"

# What the sources call a format -> (our format, stored bits per weight, bits per weight of the head).
PRECISIONS = {
    "int4awq": ("w4a16", 4.125, 16),
    "int4awq+fp16vit": ("w4a16", 4.125, 16),
    "nvfp4": ("nvfp4", 4.5, 16),
    "fp16": ("fp16", 16, 16),
    "q4_0": ("w4a16", 4.5, 6.56),
    "q4_k_m": ("w4a16", 4.85, 6.56),
    "mlc_q4f16_ft": ("w4a16", 4.1, 16),
    "tinychat_int4": ("w4a16", 4.25, 16),
    "w4a16_vllm": ("w4a16", 4.15, 16),
}
# All of these run TensorRT engines; the tables name the tool around it.
RUNTIMES = {"trt-edge-llm": "tensorrt", "trt?": "tensorrt", "trt-llm": "tensorrt", "hf-fp16": "torch"}


@dataclass(frozen=True)
class PhaseRow:
    """One timing and everything the form needs for it. `seconds` is what was published, by which `tool`."""

    phase: str
    family: str
    runtime: str
    dtype: str
    device: str
    model: str
    tool: str
    seconds: float
    layers: int
    layer_params: float
    machine: Machine
    linear_flop: float = 0.0
    attention_flop: float = 0.0
    weight_bytes: float = 0.0
    read_bytes: float = 0.0

    @property
    def key(self) -> tuple[str, str, str]:
        return self.family, self.runtime, self.dtype


@dataclass(frozen=True)
class MemoryRow:
    """One peak of GPU memory: `known_bytes` are weights and caches, the rest is the runtime's."""

    model: str
    device: str
    peak_bytes: float
    known_bytes: float
    weight_bytes: float
    image_tokens: float


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


def _machine(target_name: str, dtype: str) -> tuple[str, str, Machine]:
    target = load_target(target_name)
    arithmetic = target.peak_flop_per_s(FORMATS[dtype].arithmetic)
    attention = target.peak_flop_per_s(ATTENTION_ARITHMETIC)
    bandwidth, clock = target.bandwidth_bytes_per_s, target.mode.gpu_mhz
    if arithmetic is None or attention is None or bandwidth is None or clock is None:
        raise ValueError(f"{target_name} lacks the figures for {dtype}")
    return target.board.family, target.board.id, Machine(arithmetic, attention, bandwidth, clock * 1e6)


def _phase_row(row: Published, shapes: Shapes) -> PhaseRow:
    phase = PHASE_OF_METRIC[row.metric]
    dtype, bits, head_bits = PRECISIONS[row.precision]
    family, device, machine = _machine(row.target, dtype)
    bare = PhaseRow(
        phase=phase,
        family=family,
        runtime=RUNTIMES.get(row.runtime, row.runtime),
        dtype=dtype,
        device=device,
        tool=row.runtime,
        seconds=1 / row.value if phase == "decode" else row.value / 1e3,
        model=row.model,
        layers=0,
        layer_params=0.0,
        machine=machine,
    )
    if phase == "vision":
        flop, layers, layer_params, tower = _tower(row, shapes)
        return replace(bare, model=tower, layers=layers, layer_params=layer_params, linear_flop=flop)
    if row.llm is None:
        raise ValueError("llm is missing")
    decoder = shapes.decoders[row.llm]
    weights = decoder.layers * decoder.linear_params_per_layer
    cache = row.context_tokens * decoder.layers * decoder.kv_values_per_token_layer * ACTIVATION_BYTES
    width = decoder.heads * decoder.head_dim
    return replace(
        bare,
        model=row.llm,
        layers=decoder.layers,
        layer_params=decoder.linear_params_per_layer,
        linear_flop=2.0 * row.prompt_tokens * weights,
        attention_flop=2.0 * row.prompt_tokens**2 * width * decoder.layers,
        weight_bytes=weights * bits / 8,
        read_bytes=weights * bits / 8 + decoder.head_params * head_bits / 8 + cache,
    )


def _tower_shape(name: str, shapes: Shapes) -> ModelShape:
    tower = shapes.towers[name]
    decoder = {"model_type": "qwen3_vl_text", "hidden_size": tower["out_hidden_size"]}
    return ModelShape.from_config({"model_type": "qwen3_vl", "text_config": decoder, "vision_config": tower})


def _tower(row: Published, shapes: Shapes) -> tuple[float, int, float, str]:
    """(operations, layers, weights per layer, name); towers that differ in the projector share a name."""
    if row.model in shapes.towers:
        shape = _tower_shape(row.model, shapes)
        assert shape.vision is not None
        work = vision_work(shape, Workload(visual_tokens=row.visual_tokens))
        params = shape.vision.linear_params_per_layer
        return vision_flop(shape.vision, work), shape.vision.layers, params, f"vit-{shape.vision.hidden}"
    flop, layers = row.gflop * 1e9, shapes.plain_towers[row.model].layers
    return flop, layers, flop / (2 * row.patches * layers), row.model


def _memory_row(row: Published, shapes: Shapes) -> MemoryRow:
    name = {"Qwen3-VL-2B": "Qwen3-1.7B"}.get(row.model, row.model.replace("-VL", ""))
    decoder = shapes.decoders[name]
    _, bits, head_bits = PRECISIONS[row.precision]
    weights = decoder.layers * decoder.linear_params_per_layer * bits / 8
    head = decoder.head_params * head_bits / 8
    cache = row.kv_capacity_tokens * decoder.layers * decoder.kv_values_per_token_layer * ACTIVATION_BYTES
    vision = _tower_shape(row.model, shapes).vision if row.model in shapes.towers else None
    known = weights + 2 * head + cache + (vision.params * ACTIVATION_BYTES if vision else 0.0)
    image_tokens = max(0.0, row.max_image_tokens - 2048)
    return MemoryRow(name, row.target, row.value * 2.0**20, known, weights, image_tokens)
