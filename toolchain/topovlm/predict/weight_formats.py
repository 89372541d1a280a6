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
        WeightFormat("w4a16", 4.125, "f16_acc16"),
        WeightFormat("fp8", 8, "fp8"),
        WeightFormat("nvfp4", 4.5, "fp4"),
    )
}
# What exported graphs call a format that a plan knows by its layout.
PLANNED_AS = {"int4": "w4a16"}
ACTIVATION_BYTES = 2
ATTENTION_ARITHMETIC = "f16_acc16"


def weight_format(name: str) -> WeightFormat:
    """Format by name. Raises `InputError` listing the names."""
    if name not in FORMATS:
        rule, remedy = "is not a known weight format", f"One of {', '.join(FORMATS)}"
        if name in PLANNED_AS:
            rule = "is what exported graphs call it; a plan has another name for these weights"
            remedy = f"Give --dtype {PLANNED_AS[name]}"
        raise InputError(explain("--dtype", name, rule, remedy))
    return FORMATS[name]
