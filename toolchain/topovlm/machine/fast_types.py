"""Number formats that a machine multiplies matrices in at full speed, beside float32."""

from __future__ import annotations

import re

from topovlm.machine.telemetry import ROOT, read_text


def fast_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 matrices faster than float32 ones, as Linux tells."""
    text = read_text(ROOT / "proc/cpuinfo") or ""
    found = re.search(r"^(?:flags|Features)\s*:\s*(.*)$", text, re.MULTILINE)
    words = set(found[1].split()) if found else set()
    return "amx_bf16" in words or "bf16" in words  # tiles of x86; Arm's BFMMLA
