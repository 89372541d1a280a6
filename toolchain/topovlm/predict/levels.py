"""Where a measurement's constants come from: the levels that each constant is a sum over.

A constant of a board is what all boards share, plus what its family, its memory, the board itself, the
runtime and the runtime's version add. What nothing was published for adds nothing, and counts in the interval
with the spread that its level has among the published rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from topovlm.predict.board import Board
from topovlm.predict.runtimes import engine

# Formats whose kernels do alike; fp32 differs from fp16 in bytes and in peak only.
_WIDTH = {"fp32": "16", "fp16": "16", "int8": "8", "fp8": "8", "w4a16": "4", "nvfp4": "fp4"}
# Sums start here: (value, whether it is a share, which is held below 1; logarithms are what is summed).
CAP = 4
CENTRE = {
    "efficiency": (0.45, False),
    "layer_clocks": (1e5, False),
    "attention_cost": (1.0, False),
    "chain_clocks": (50.0, False),
    "bandwidth_share": (0.82, True),
    "bytes_per_sm_clock": (20.0, False),
}


@dataclass(frozen=True)
class Setting:
    """A board, what runs on it, and in which format; `version` may be unknown ("").

    `kind`: unified (CPU and GPU share the memory) or card.
    """

    family: str
    kind: str
    memory: str
    arch: str
    board: str
    runtime: str
    version: str
    dtype: str

    @property
    def width(self) -> str:
        """The format as far as kernels differ by it."""
        return _WIDTH.get(self.dtype, self.dtype)


def setting_of(board: Board, runtime: str, version: str, dtype: str) -> Setting:
    """The setting of a board. Memory: type and bus width where CPU and GPU share it, else HBM or GDDR."""
    memory = board.memory
    held = "hbm" if "HBM" in memory.type else "gddr"
    if memory.unified and memory.bus_bits:
        held = f"{memory.type or board.family}/{memory.bus_bits}"
    kind, arch = "unified" if memory.unified else "card", board.match.compute_capability
    return Setting(board.family, kind, held, arch, board.id, runtime, version, dtype)


def levels(setting: Setting, phase: str, constant: str) -> tuple[str, ...]:
    """`level=name` of everything that the constant is a sum over, the most general first."""
    runtime, width = setting.runtime, setting.width
    general = ("all", f"engine={engine(runtime)}", f"runtime={runtime}")
    formats, combination = f"format={runtime}/{width}", f"{setting.family}/{runtime}/{width}"
    version = f"version={runtime}/{setting.version}"
    places: tuple[str, ...]
    if constant == "bandwidth_share":
        places = (
            formats,
            f"family={setting.family}",
            f"memory={setting.memory}",
            f"board={setting.board}",
            version,
        )
    elif constant == "bytes_per_sm_clock":
        places = (formats, f"arch={setting.arch}")
    elif constant == "efficiency" and phase == "vision":
        places = (f"kind={setting.kind}", f"family={setting.family}", f"board={setting.board}", version)
    elif constant == "efficiency":
        places = (
            *(f"width={width}", formats, f"kind={setting.kind}", f"family={setting.family}"),
            *(f"arch={setting.arch}", f"board={setting.board}", f"combination={combination}"),
            *(f"release={runtime}/{setting.version}/{width}", f"{version}/{setting.family}/{width}"),
        )
    elif constant == "layer_clocks":
        places = (f"kind={setting.kind}" if phase == "vision" else f"family={setting.family}/{runtime}",)
        if phase != "vision":
            released = (f"release={runtime}/{setting.version}",) if phase == "prefill" else ()
            places = (*places, *released, f"{version}/{setting.family}")
    elif constant == "chain_clocks":
        places = (formats, f"{version}/{setting.family}/{width}")
    else:
        places = ()
    known = [level for level in places if setting.version or not level.startswith(("version=", "release="))]
    known = [level for level in known if not level.endswith("=")]  # a fact that a target file leaves out
    return (*general, *known)


def level_of(name: str) -> str:
    """`memory=hbm` -> `memory`."""
    return name.partition("=")[0]


def linked(constant: str, value: float) -> float:
    """The value on the scale that effects add up on: its logarithm; a share's bends where it nears 1."""
    if not CENTRE[constant][1]:
        return math.log(value)
    return -math.log(value**-CAP - 1) / CAP


def unlinked(constant: str, value: float) -> float:
    """Back from that scale."""
    bounded = min(max(value, -60.0), 60.0)
    return (1 + math.exp(-CAP * bounded)) ** (-1 / CAP) if CENTRE[constant][1] else math.exp(bounded)
