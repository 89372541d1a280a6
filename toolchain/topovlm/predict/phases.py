"""The published functional form of each phase, in seconds, for any constants: used to predict and to fit.

    vision  = F / (eta P) + c L / f
    prefill = ((F_linear / (eta P_q) + F_attention / (eta P_16))^p + (B_weights / (mu BW))^p)^(1/p) + c L / f
    decode  = max(h L, (B_linear + B_head + B_kv) / (mu BW) + c L / f)

P: dense peak of the arithmetic, BW: peak bandwidth, f: GPU clock, L: layers. The fixed cost per layer is
counted in GPU clocks (c), not in microseconds: the published rows of two boards whose clocks differ by
two agree only so. p is 2 (arithmetic and reads overlap) or 1 (they add).
"""

from __future__ import annotations

from dataclasses import dataclass

from topovlm.predict.efficiencies import Entry


@dataclass(frozen=True)
class Machine:
    """Peaks in the units that the form needs; `attention` is the arithmetic of the attention products."""

    arithmetic_flop_per_s: float
    attention_flop_per_s: float
    bandwidth_bytes_per_s: float
    gpu_hz: float


def overhead_s(entry: Entry, layers: float, machine: Machine) -> float:
    """Fixed cost of `layers` layers."""
    return entry.layer_kcycles * 1e3 * layers / machine.gpu_hz


def vision_s(entry: Entry, flop: float, layers: float, machine: Machine) -> float:
    """Tower and projector on `flop` operations in `layers` layers."""
    return flop / (entry.efficiency * machine.attention_flop_per_s) + overhead_s(entry, layers, machine)


def prefill_s(
    entry: Entry,
    bandwidth_share: float,
    machine: Machine,
    *,
    linear_flop: float,
    attention_flop: float,
    weight_bytes: float,
    layers: float,
) -> float:
    """All prompt tokens through the decoder. `bandwidth_share` comes from the decode rows."""
    compute = linear_flop / (entry.efficiency * machine.arithmetic_flop_per_s)
    compute += attention_flop / (entry.efficiency * machine.attention_flop_per_s)
    reads = weight_bytes / (bandwidth_share * machine.bandwidth_bytes_per_s)
    both = compute + reads if entry.overlap == 1 else (compute**2 + reads**2) ** 0.5
    return both + overhead_s(entry, layers, machine)


def decode_s(entry: Entry, read_bytes: float, layers: float, machine: Machine) -> float:
    """One new token that reads `read_bytes` of weights and cache."""
    device = read_bytes / (entry.efficiency * machine.bandwidth_bytes_per_s) + overhead_s(
        entry, layers, machine
    )
    return max(entry.host_us_per_layer * 1e-6 * layers, device)
