"""The functional form of each phase, in seconds, for any constants: used to predict and to fit.

    vision  = ((F / (eta P))^2 + (B / (mu BW))^2)^(1/2) + c L / f
    prefill = (((F_linear + a F_attention) / (eta P))^2 + (k B / (mu BW))^2)^(1/2)
              + (B_head + k U) / (mu BW) + k (c + d w) L / f
    decode  = ((B / (mu BW))^3 + (B / (i S f))^3)^(1/3) + c L / f

P: dense peak of the arithmetic, BW: peak bandwidth, f: GPU clock, S: multiprocessors that are on, L: layers,
k: passes that the runtime splits a prompt into, w: side of a layer's weights, were they one square. F:
operations, B: bytes, U: bytes of weights unpacked beforehand.

- Arithmetic and reads overlap, so the larger governs: a root of squares (of cubes in decode, nearer to a
  maximum, which the rows prefer).
- A token's bytes must also go through the multiprocessors (i: bytes per multiprocessor and clock). With few
  of them on, or with memory as fast as HBM, that binds before the bus does.
- The head is read once per prompt, for its last position, however many layers are left: prefill's intercept.
- A product adds up along a row one step after the other, however few tokens there are: `d` clocks per unit of
  `w`. That is what a short prompt costs beside its work, on boards of 8 and of 48 multiprocessors alike.
- The fixed cost per layer is counted in GPU clocks (c), not in microseconds: rows of two boards whose clocks
  differ by two agree only so.

Works on floats and on arrays of rows alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

# Towers were timed without their bytes: what they read is small beside what they compute, but on Thor.
_VISION_BANDWIDTH_SHARE = 0.8
_DECODE_POWER = 3

# What of a phase is fitted; `bandwidth_share` of prefill is that of decode.
CONSTANTS = {
    "vision": ("efficiency", "layer_clocks"),
    "prefill": ("efficiency", "layer_clocks", "attention_cost", "chain_clocks"),
    "decode": ("bandwidth_share", "bytes_per_sm_clock", "layer_clocks"),
}
PHASES = tuple(CONSTANTS)
# The larger, the faster; of the others, the slower.
FASTER = frozenset({"efficiency", "bandwidth_share", "bytes_per_sm_clock"})


@dataclass(frozen=True)
class Machine:
    """Peaks in the units that the form needs; `attention` is the arithmetic of the attention products.

    `sm_hz`: clocks of all multiprocessors that are on, per second.
    """

    arithmetic_flop_per_s: Any
    attention_flop_per_s: Any
    bandwidth_bytes_per_s: Any
    gpu_hz: Any
    sm_hz: Any


@dataclass(frozen=True)
class Work:
    """What one phase does: operations, bytes, layers. What a phase does not need is 0.

    `side`: root of the weights that a token goes through in a layer. `unpacked_bytes`: written before the
    products read them, and read to be written.
    """

    layers: Any
    linear_flop: Any = 0.0
    attention_flop: Any = 0.0
    weight_bytes: Any = 0.0
    head_bytes: Any = 0.0
    read_bytes: Any = 0.0
    tokens: Any = 1.0
    passes: Any = 1.0
    side: Any = 0.0
    unpacked_bytes: Any = 0.0


Constants = Mapping[str, Any]


def overhead_s(constants: Constants, work: Work, machine: Machine) -> Any:
    """Fixed cost of the layers."""
    clocks = constants["layer_clocks"] + constants.get("chain_clocks", 0.0) * work.side
    return work.passes * clocks * work.layers / machine.gpu_hz


def vision_s(constants: Constants, work: Work, machine: Machine) -> Any:
    """Tower and projector."""
    compute = work.linear_flop / (constants["efficiency"] * machine.attention_flop_per_s)
    reads = work.read_bytes / (_VISION_BANDWIDTH_SHARE * machine.bandwidth_bytes_per_s)
    return (compute**2 + reads**2) ** 0.5 + overhead_s(constants, work, machine)


def prefill_s(constants: Constants, work: Work, machine: Machine) -> Any:
    """All prompt tokens through the decoder, the last one through the head."""
    eta, bandwidth = constants["efficiency"], constants["bandwidth_share"] * machine.bandwidth_bytes_per_s
    compute = work.linear_flop / (eta * machine.arithmetic_flop_per_s)
    compute += constants["attention_cost"] * work.attention_flop / (eta * machine.attention_flop_per_s)
    reads = work.passes * work.weight_bytes / bandwidth
    both = (compute**2 + reads**2) ** 0.5
    serial = work.head_bytes + work.passes * work.unpacked_bytes
    return both + serial / bandwidth + overhead_s(constants, work, machine)


def decode_s(constants: Constants, work: Work, machine: Machine) -> Any:
    """One new token that reads weights, head and cache."""
    bus = work.read_bytes / (constants["bandwidth_share"] * machine.bandwidth_bytes_per_s)
    issue = work.read_bytes / (constants["bytes_per_sm_clock"] * machine.sm_hz)
    both = (bus**_DECODE_POWER + issue**_DECODE_POWER) ** (1 / _DECODE_POWER)
    return both + overhead_s(constants, work, machine)


FORMS: dict[str, Callable[[Constants, Work, Machine], Any]] = {
    "vision": vision_s,
    "prefill": prefill_s,
    "decode": decode_s,
}
