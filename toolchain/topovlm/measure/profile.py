"""A sweep becomes the profile of a machine (`predict.profile`): surfaces, lines, spreads, memory, doubts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from msgspec import structs

from topovlm.artifacts import sha256_file
from topovlm.machine.environment import Environment
from topovlm.machine.telemetry import Doubt
from topovlm.measure.footprint import Footprint
from topovlm.measure.sweep import PHASES, Sweep
from topovlm.measure.timing_workload import TimingWorkload
from topovlm.predict.profile import Affine, Energy, Line, Looks, MemoryLine, Profile, Samples, Spread
from topovlm.predict.surface import LEAST_SPREAD, Surface, first_token_line, usual_depth
from topovlm.predict.surface_fit import fit_surface
from topovlm.stats.robust import DRIFT_LIMIT


@dataclass(frozen=True)
class Watched:
    """A sweep and what the machine told about itself meanwhile."""

    sweep: Sweep
    environment: Environment
    telemetry: Looks
    energy: Energy | None
    doubts: tuple[Doubt, ...]


@dataclass(frozen=True)
class Subject:
    """The dense model of a profile, as it was run, and the machine that ran it."""

    target: str
    runtime: str  # `onnxruntime-cpu`
    dtype: str
    variant: str
    threads: int
    layers: int
    weights: Path  # the file that stands for the model
    config_sha256: str | None


def dtype_of(variant: str, embeds: str) -> str:
    """`fp32`, `fp16` by the type of the embeddings, or the precision that the graph's name states (`q4`)."""
    _, _, suffix = variant.partition("_")
    return suffix or ("fp16" if embeds == "float16" else "fp32")


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


def pace_doubts(run: Sweep, environment: Environment) -> list[Doubt]:
    """A busy machine, and a pace that changed during the run; the latter makes figures unfit to be kept."""
    found = [Doubt("load", environment.busy)] if environment.busy else []
    if abs(run.drift) > DRIFT_LIMIT:
        text = f"the pace changed by {100 * run.drift:+.1f} % during the run: clocks, heat or other work"
        found.append(Doubt("drift", text, grave=True))
    return found


def memory_line(footprints: Mapping[int, Footprint]) -> MemoryLine | None:
    """Peak bytes of the model as a line in layers, libraries apart; None without two that say something."""
    known = {layers: footprint for layers, footprint in footprints.items() if footprint.model_bytes > 0}
    if len(known) < 2:
        return None
    depths = sorted(known)
    slope, intercept = np.polyfit(np.array(depths, float), [known[n].model_bytes for n in depths], 1)
    return MemoryLine(
        intercept_bytes=float(intercept),
        slope_bytes_per_layer=float(slope),
        libraries_bytes=float(np.median([known[n].libraries_bytes for n in depths])),
    )


def document(subject: Subject, base: TimingWorkload, watched: Watched, memory: MemoryLine | None) -> Profile:
    """The profile of the dense model `subject` at the workload `base`, from a watched sweep."""
    run, workload, environment = watched.sweep, base.facts(), watched.environment
    total = workload.prefill_tokens
    surfaces = fit_surfaces(run, base.new_tokens)
    noise = {phase: run.noise(phase) for phase in PHASES}
    pooled = [value for samples in run.samples.values() for value in samples["vision"]]
    vision_ms = float(np.median(pooled)) if base.visual_tokens else 0.0
    drift = abs(run.drift) if abs(run.drift) > DRIFT_LIMIT else 0.0
    context, depth = total + base.new_tokens / 2, usual_depth(subject.layers)
    token = surfaces["token"]
    spread = Spread(
        vision=max(LEAST_SPREAD, noise["vision"]) + drift,
        prefill=surfaces["prefill"].spread + noise["prefill"] + drift,
        decode=token.spread + noise["token"] + drift + token.bend(context, depth),
    )
    lines = {
        "vision": (Line(intercept_ms=vision_ms, slope_ms_per_layer=0.0), spread.vision),
        "embed": (surfaces["embed"].line(total), noise["embed"]),
        "prefill": (surfaces["prefill"].line(total), spread.prefill),
        "token": (token.line(context, depth), spread.decode),
    }
    return Profile(
        target=subject.target,
        mode=environment.power_mode or environment.governor or "default",
        runtime=subject.runtime,
        dtype=subject.dtype,
        variant=subject.variant,
        threads=subject.threads,
        model_sha256=sha256_file(subject.weights),
        config_sha256=subject.config_sha256,
        layers=subject.layers,
        depths=tuple(sorted({layers for layers, _ in run.samples})),
        lengths=tuple(sorted({tokens for _, tokens in run.samples})),
        workload=workload,
        surfaces=surfaces,
        phases={name: structs.replace(line, spread=wide) for name, (line, wide) in lines.items()},
        affine=Affine(
            vision_ms=vision_ms,
            prefill=first_token_line(surfaces["embed"], surfaces["prefill"], total),
            decode=lines["token"][0],
        ),
        spread=spread,
        noise=noise,
        drift=run.drift,
        memory=memory,
        energy=watched.energy,
        samples=_samples(run),
        rounds=run.rounds,
        stopped=run.stopped,
        environment=environment,
        telemetry=watched.telemetry,
        doubts=watched.doubts,
        warnings=tuple(doubt.text for doubt in watched.doubts),
    )


def _samples(run: Sweep) -> Samples:
    samples: Samples = {}
    for (layers, tokens), found in run.samples.items():
        samples.setdefault(str(layers), {})[str(tokens)] = found
    return samples
