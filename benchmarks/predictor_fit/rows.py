"""Published measurements as rows that the functional form can be fitted to.

A row is one JSON object: `metric` (decode_tok_s, prefill_ms, vision_encode_ms, peak_gpu_memory_mib),
`value`, `target` (board@mode), `runtime`, `precision`, `model`, `llm`, and the workload. Shapes of the
models come beside it as plain config facts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from topovlm.errors import InputError, explain
from topovlm.families.shape import DecoderShape, ModelShape
from topovlm.families.sizes import read_shape
from topovlm.families.vision import vision_flop, vision_work
from topovlm.predict.phases import Machine
from topovlm.predict.target import load_target
from topovlm.predict.weight_formats import ACTIVATION_BYTES, ATTENTION_ARITHMETIC, FORMATS
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


def read_rows(rows_path: Path, shapes_path: Path) -> tuple[list[PhaseRow], list[MemoryRow], str]:
    """(timings, memory peaks, SHA-256 of the rows file). Raises `InputError` naming a bad row."""
    text = rows_path.read_text(encoding="utf-8")
    shapes = json.loads(shapes_path.read_text(encoding="utf-8"))
    timings, peaks = [], []
    for number, raw in enumerate(json.loads(text), start=1):
        try:
            if raw["metric"] == MEMORY_METRIC:
                peaks.append(_memory_row(raw, shapes))
            else:
                timings.append(_phase_row(raw, shapes))
        except (KeyError, ValueError) as error:
            rule = f"row {number} ({raw.get('model')}, {raw.get('metric')}) cannot be used: {error}"
            raise InputError(explain("rows", str(rows_path), rule)) from None
    return timings, peaks, hashlib.sha256(text.encode()).hexdigest()


def _machine(target_name: str, dtype: str) -> tuple[str, str, Machine]:
    target = load_target(target_name)
    peaks = [target.peak_flop_per_s(name) for name in (FORMATS[dtype].arithmetic, ATTENTION_ARITHMETIC)]
    bandwidth, clock = target.bandwidth_bytes_per_s, target.mode.gpu_mhz
    if None in (*peaks, bandwidth, clock):
        raise ValueError(f"{target_name} lacks the figures for {dtype}")
    machine = Machine(peaks[0], peaks[1], bandwidth, clock * 1e6)  # type: ignore[arg-type, operator]
    return target.board.family, target.board.id, machine


def _phase_row(raw: Mapping[str, Any], shapes: Mapping[str, Any]) -> PhaseRow:
    phase = PHASE_OF_METRIC[raw["metric"]]
    dtype, bits, head_bits = PRECISIONS[raw["precision"]]
    family, device, machine = _machine(raw["target"], dtype)
    runtime = RUNTIMES.get(raw["runtime"], raw["runtime"])
    value = float(raw["value"])
    seconds = 1 / value if phase == "decode" else value / 1e3
    common = {"phase": phase, "family": family, "runtime": runtime, "dtype": dtype, "device": device}
    common["tool"] = raw["runtime"]
    if phase == "vision":
        flop, layers, layer_params, tower = _tower(raw, shapes)
        return PhaseRow(
            **common,
            model=tower,
            seconds=seconds,
            layers=layers,
            layer_params=layer_params,
            machine=machine,
            linear_flop=flop,
        )
    decoder = DecoderShape(**shapes["decoders"][raw["llm"]])
    weights = decoder.layers * decoder.linear_params_per_layer
    prompt, context = raw.get("prompt_tokens", 0), raw.get("context_tokens", 0)
    cache = context * decoder.layers * decoder.kv_values_per_token_layer * ACTIVATION_BYTES
    width = decoder.heads * decoder.head_dim
    return PhaseRow(
        **common,
        model=raw["llm"],
        seconds=seconds,
        layers=decoder.layers,
        layer_params=decoder.linear_params_per_layer,
        machine=machine,
        linear_flop=2.0 * prompt * weights,
        attention_flop=2.0 * prompt**2 * width * decoder.layers,
        weight_bytes=weights * bits / 8,
        read_bytes=weights * bits / 8 + decoder.head_params * head_bits / 8 + cache,
    )


def _tower_shape(name: str, shapes: Mapping[str, Any]) -> ModelShape:
    decoder = {"model_type": "qwen3_vl_text", "hidden_size": shapes["towers"][name]["out_hidden_size"]}
    config = {"model_type": "qwen3_vl", "text_config": decoder, "vision_config": shapes["towers"][name]}
    return read_shape(config)


def _tower(raw: Mapping[str, Any], shapes: Mapping[str, Any]) -> tuple[float, int, float, str]:
    """(operations, layers, weights per layer, name); towers that differ in the projector share a name."""
    if raw["model"] in shapes["towers"]:
        vision = _tower_shape(raw["model"], shapes).vision
        assert vision is not None
        work = vision_work(
            _tower_shape(raw["model"], shapes), Workload(visual_tokens=int(raw["visual_tokens"]))
        )
        name = f"vit-{vision.hidden}"
        return vision_flop(vision, work), vision.layers, vision.linear_params_per_layer, name
    flop, layers = float(raw["gflop"]) * 1e9, shapes["plain_towers"][raw["model"]]["layers"]
    return flop, layers, flop / (2 * raw["patches"] * layers), raw["model"]


def _memory_row(raw: Mapping[str, Any], shapes: Mapping[str, Any]) -> MemoryRow:
    tower = raw["model"] in shapes["towers"]
    name = {"Qwen3-VL-2B": "Qwen3-1.7B"}.get(raw["model"], raw["model"].replace("-VL", ""))
    decoder = DecoderShape(**shapes["decoders"][name])
    _, bits, head_bits = PRECISIONS[raw["precision"]]
    weights = decoder.layers * decoder.linear_params_per_layer * bits / 8
    head = decoder.head_params * head_bits / 8
    cache = raw["kv_capacity_tokens"] * decoder.layers * decoder.kv_values_per_token_layer * ACTIVATION_BYTES
    vision = _tower_shape(raw["model"], shapes).vision if tower else None
    known = weights + 2 * head + cache + (vision.params * ACTIVATION_BYTES if vision else 0.0)
    image_tokens = max(0.0, raw.get("max_image_tokens", 0) - 2048)
    return MemoryRow(name, raw["target"], raw["value"] * 2.0**20, known, weights, image_tokens)
