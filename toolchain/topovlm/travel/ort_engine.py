"""An exported folder on a board's ONNX Runtime, for the timer. Python >= 3.8."""

from __future__ import annotations

import os
from collections.abc import Mapping
from time import perf_counter
from typing import Any

import numpy as np

from .failure import Failure
from .ort_graphs import CPU, CUDA, OrtDecoder, OrtGraphs, OrtPart, device_of, open_session
from .steps import Opened


def open_engine(facts: Mapping[str, Any], request: Mapping[str, Any]) -> Opened:
    """Open one engine of a request (`measure.ssh.messages.Request`). Raises `Failure`."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # a board's runtime sends nothing anywhere either
    import onnxruntime as ort

    start, threads = perf_counter(), request["threads"]
    providers = choose_providers(ort, request["providers"])
    sessions = {
        part: open_session(ort, facts[part], providers, threads)
        for part in ("vision", "embed", "decoder")
        if part in facts  # a model without pictures has no vision graph
    }
    vision = OrtPart(sessions["vision"]) if "vision" in sessions else None
    decoder = OrtDecoder(ort, sessions["decoder"])
    load_ms = (perf_counter() - start) * 1e3
    return Opened(
        graphs=OrtGraphs(vision, OrtPart(sessions["embed"]), decoder),
        new_tokens=request["new_tokens"],
        threads=threads,
        providers={part: session.get_providers() for part, session in sessions.items()},
        dtype=np.dtype(decoder.dtype).name,
        load_ms=load_ms,
    )


def choose_providers(ort: Any, wanted: list[str]) -> list[str]:
    """What was asked for, or the GPU where this build of ONNX Runtime knows it; the CPU comes last."""
    present = ort.get_available_providers()
    chosen = wanted or ([CUDA] if CUDA in present else [])
    for name in chosen:
        if name not in present:
            rule = "is not in this onnxruntime ({})".format(", ".join(present))
            raise Failure("provider", "provider", name, rule)
    if CUDA in present and CUDA not in chosen and any(device_of(name) == "cuda" for name in chosen):
        chosen = [*chosen, CUDA]  # for what the first one does not take
    return [name for name in chosen if name != CPU] + [CPU]
