"""Number formats of the decoder's weights, and which arithmetic a GPU uses for them."""

from __future__ import annotations

from dataclasses import dataclass

from topovlm.errors import InputError, explain


@dataclass(frozen=True)
class WeightFormat:
    """`weight_bits`: stored bits per weight, scales included; `arithmetic`: key of the board's peaks."""

    name: str
    weight_bits: float
    arithmetic: str

    @property
    def bytes_per_weight(self) -> float:
        return self.weight_bits / 8


# Scales: one fp16 per 128 weights (w4a16), one fp8 per 16 weights (nvfp4); int8 and fp8 per channel.
FORMATS = {
    fmt.name: fmt
    for fmt in (
        WeightFormat("fp32", 32, "fp32"),
        WeightFormat("fp16", 16, "f16_acc16"),
        WeightFormat("int8", 8, "int8"),
        WeightFormat("w4a16", 4.125, "warp:f16_acc16"),
        WeightFormat("fp8", 8, "fp8"),
        WeightFormat("nvfp4", 4.5, "fp4"),
    )
}


@dataclass(frozen=True)
class Stored:
    """Bits per weight as a file holds them, scales included: of the layers, and of the head."""

    weight_bits: float
    head_bits: float


# llama.cpp's files mix formats: Q4_K_M (its head in 6 bits) stands for four bits, Q8_0 for eight.
_STORED = {("w4a16", "llamacpp"): Stored(4.85, 6.56), ("int8", "llamacpp"): Stored(8.5, 8.5)}
# Its formats of four to six bits hold rows of whole blocks; others it stores in Q5_0 and Q8_0. Bits from the
# sizes of published Q4_K_M files: Qwen2.5-0.5B 398 MB, Gemma-3-1B 806 MB, SmolLM2-135M 105 MB.
_BLOCK, _RAGGED = 256, Stored(5.65, 8.5)


def stored(dtype: str, runtime: str, hidden: int = 0) -> Stored:
    """How a runtime holds weights of a format; the head stays in 16 bits elsewhere (32 in fp32).

    `hidden`: the decoder's width, on which some formats depend.
    """
    bits = FORMATS[dtype].weight_bits
    if (dtype, runtime) == ("w4a16", "llamacpp") and hidden % _BLOCK:
        return _RAGGED
    return _STORED.get((dtype, runtime), Stored(bits, max(16, bits if dtype == "fp32" else 0)))


# They add up in 32 bits, which GeForce cards do at half their rate.
_WIDE_SUMS = frozenset({"torch", "vllm"})


def arithmetic(dtype: str, runtime: str) -> str:
    """What a runtime's products with weights of a format compute in, a key of the board's peaks.

    llama.cpp has one kind of kernel for all of its packed formats.
    """
    if runtime == "llamacpp" and dtype == "int8":
        return FORMATS["w4a16"].arithmetic
    if runtime in _WIDE_SUMS and dtype == "fp16":
        return "f16_acc32"
    return FORMATS[dtype].arithmetic


# What exported graphs call a format that a plan knows by its layout.
PLANNED_AS = {"int4": "w4a16"}
ACTIVATION_BYTES = 2
ATTENTION_ARITHMETIC = "f16_acc16"


def attention_arithmetic(dtype: str) -> str:
    """What attention and towers compute in: 16 bits, but beside fp32 weights."""
    return FORMATS["fp32"].arithmetic if dtype == "fp32" else ATTENTION_ARITHMETIC


def weight_format(name: str) -> WeightFormat:
    """Format by name. Raises `InputError` listing the names."""
    if name not in FORMATS:
        rule, remedy = "is not a known weight format", f"One of {', '.join(FORMATS)}"
        if name in PLANNED_AS:
            rule = "is what exported graphs call it; a plan has another name for these weights"
            remedy = f"Give --dtype {PLANNED_AS[name]}"
        raise InputError(explain("--dtype", name, rule, remedy))
    return FORMATS[name]
