"""The profile of a machine as a document: put together from a sweep, filed, read back.

Layout (all times in ms):

    {"schema": 2, "kind": "measured", "target": "local", "mode": ..., "runtime": "onnxruntime-cpu",
     "dtype": "fp32", "variant": "fused", "threads": 2, "model_sha256": ..., "config_sha256": ...,
     "layers": 16, "depths": [2, 6, 11, 16], "lengths": [prefill tokens timed],
     "workload": {images, image_height, image_width, prompt_tokens, visual_tokens,
                                prefill_tokens, new_tokens, batch, source},
     "surfaces": {"embed" | "prefill" | "token": {"coefficients": {<term>_ms}, "residual", "held_out"}},    see surface.py
     "phases": {"vision" | "embed" | "prefill" | "token":
                {"intercept_ms", "slope_ms_per_layer" (0 for vision, embed), "spread"}},    at the workload
     "affine": {"vision_ms", "prefill": {"intercept_ms", "slope_ms_per_layer"}, "decode": {...}},
     "spread": {"vision", "prefill", "decode"},       relative, of the predictions
     "noise": {phase: relative}, "drift": relative,
     "memory": {"intercept_bytes", "slope_bytes_per_layer", "libraries_bytes"} or null,
     "energy": {"seconds", "energy_j", "mean_w"} or null,
     "samples": {"<layers>": {"<prefill tokens>": {phase: [ms]}}}, "rounds", "stopped", "seconds",
     "environment": {...}, "telemetry": {"before", "after"},
     "doubts": [{"kind", "text", "grave"}], "warnings": [texts],
     "machine": {...}}                                what microbench.py measures; `topovlm profile` adds it

In `affine`, prefill is all between the picture features and the first token: embedding and prefill graph.
`prompt_tokens` counts text with its template, as the predictor's workload does; visual tokens come on top.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from topovlm.artifacts import read_json, sha256_file, write_json
from topovlm.errors import InputError, VerificationError, explain
from topovlm.predict.surface import FORMS, LEAST_SPREAD, Surface, first_token_line, fit_surface, usual_depth
from topovlm.records import plain

if TYPE_CHECKING:
    from topovlm.measure.sweep import Sweep
    from topovlm.measure.timing_workload import TimingWorkload
    from topovlm.runtime.engine import Engine

SCHEMA = 2
DRIFT_LIMIT = 0.03


@dataclass(frozen=True)
class Watched:
    """A sweep and what the machine told about itself meanwhile."""

    sweep: Sweep
    environment: dict[str, Any]
    telemetry: dict[str, Any]
    energy: dict[str, object] | None
    doubts: list[dict[str, Any]]


def save_profile(profile: Mapping[str, Any], directory: str | Path, *, force: bool = False) -> Path:
    """Write `<target>--<runtime>--<dtype>.json` in `directory`, whole or not at all; returns the file.

    Raises `VerificationError` for figures that describe a throttled or drifting machine, unless `force`.
    """
    grave = [doubt["text"] for doubt in profile.get("doubts", []) if doubt["grave"]]
    if grave and not force:
        rule = "was measured on a machine that did not hold still: " + "; ".join(grave)
        remedy = "Cool the machine, close other programs, measure again; -o FILE keeps it all the same"
        raise VerificationError(explain("profile", profile.get("target"), rule, remedy))
    name = "--".join(str(profile[key]) for key in ("target", "runtime", "dtype"))
    path = Path(directory) / f"{name}.json"
    write_json(path, dict(profile))
    return path


def load_profile(path: str | Path) -> dict[str, Any]:
    """Read a profile. Raises `InputError` when it is none, or of another schema."""
    profile = read_json(Path(path))
    if not isinstance(profile, dict) or profile.get("schema") != SCHEMA or "affine" not in profile:
        raise InputError(explain("profile", str(path), "is no profile of this version", "Measure again"))
    return profile


def fit_surfaces(run: Sweep, new_tokens: int) -> dict[str, Surface]:
    """Embed, prefill and token times over depth and length; a token's context is the mean of its steps'."""
    embed: dict[int, list[float]] = {}
    for (_, tokens), value in run.medians("embed").items():
        embed.setdefault(tokens, []).append(value)
    steps = {(n, tokens + new_tokens / 2): ms for (n, tokens), ms in run.medians("token").items()}
    depths = sorted({layers for layers, _ in run.samples})
    prefill = {(n, float(tokens)): ms for (n, tokens), ms in run.medians("prefill").items()}
    return {
        "embed": fit_surface("embed", {(0, s): float(np.median(v)) for s, v in embed.items()}),
        "prefill": fit_surface("prefill", prefill),
        "token": fit_surface("token", steps, depths[1:-1]),
    }


def document(
    dense: Engine, base: TimingWorkload, watched: Watched, memory: dict[str, float] | None
) -> dict[str, Any]:
    """The profile (see above) of the model `dense` at the workload `base`, from a watched sweep."""
    from topovlm.measure.sweep import PHASES

    run, total = watched.sweep, base.prompt_tokens
    surfaces = fit_surfaces(run, base.new_tokens)
    noise = {phase: run.noise(phase) for phase in PHASES}
    pooled = [value for samples in run.samples.values() for value in samples["vision"]]
    vision_ms = float(np.median(pooled)) if base.images else 0.0
    drift = abs(run.drift) if abs(run.drift) > DRIFT_LIMIT else 0.0
    context, depth = total + base.new_tokens / 2, usual_depth(dense.manifest.layers)
    spread = {
        "vision": max(LEAST_SPREAD, noise["vision"]) + drift,
        "prefill": surfaces["prefill"].spread + noise["prefill"] + drift,
        "decode": surfaces["token"].spread + noise["token"] + drift + surfaces["token"].bend(context, depth),
    }
    lines = {
        "vision": {"intercept_ms": vision_ms, "slope_ms_per_layer": 0.0},
        "embed": plain(surfaces["embed"].line(total)),
        "prefill": plain(surfaces["prefill"].line(total)),
        "token": plain(surfaces["token"].line(context, depth)),
    }
    spreads = {**spread, "embed": noise["embed"], "token": spread["decode"]}
    ran_on = dense.providers_used["decoder"][0]
    provider = ran_on.removesuffix("ExecutionProvider")
    workload = {**base.to_dict(), "prompt_tokens": total - base.to_dict()["visual_tokens"]}
    samples: dict[str, dict[str, Any]] = {}
    for (layers, tokens), found in run.samples.items():
        samples.setdefault(str(layers), {})[str(tokens)] = found
    environment = watched.environment
    return {
        "schema": SCHEMA,
        "kind": "measured",
        "target": "local",
        "mode": environment["power_mode"] or environment["governor"] or "default",
        "runtime": f"onnxruntime-{provider.lower()}" if provider != ran_on else ran_on,
        "dtype": _dtype(dense),
        "variant": dense.variant,
        "threads": dense.threads,
        "model_sha256": sha256_file(dense.decoder.path),
        "config_sha256": dense.manifest.raw.get("source_config_sha256"),
        "layers": dense.manifest.layers,
        "depths": sorted({layers for layers, _ in run.samples}),
        "lengths": sorted({tokens for _, tokens in run.samples}),
        "workload": {**workload, "prefill_tokens": total},
        "surfaces": {name: plain(surfaces[name]) for name in FORMS},
        "phases": {name: {**line, "spread": spreads[name]} for name, line in lines.items()},
        "affine": {
            "vision_ms": vision_ms,
            "prefill": plain(first_token_line(surfaces["embed"], surfaces["prefill"], total)),
            "decode": lines["token"],
        },
        "spread": spread,
        "noise": noise,
        "drift": run.drift,
        "memory": memory,
        "energy": watched.energy,
        "samples": samples,
        "rounds": run.rounds,
        "stopped": run.stopped,
        "environment": environment,
        "telemetry": watched.telemetry,
        "doubts": watched.doubts,
        "warnings": [doubt["text"] for doubt in watched.doubts],
    }


def _dtype(engine: Engine) -> str:
    """`fp32`, `fp16`, or the precision that the graph's name states (`q4`, `int8`)."""
    _, _, suffix = engine.variant.partition("_")
    if suffix:
        return suffix
    return "fp16" if engine.decoder.dtypes["inputs_embeds"] == np.float16 else "fp32"
