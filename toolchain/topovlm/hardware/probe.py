"""Measure the machine at hand with the model itself: each phase as intercept + slope x decoder layers.

The dense export and a few shallower ones are timed interleaved on one workload; the line through their
medians is a profile that the predictor uses in place of a data sheet. Layout (all times in ms):

    {"schema": 1, "kind": "measured", "target": "local", "mode": ..., "runtime": "onnxruntime-cpu",
     "dtype": "fp32", "variant": "fused", "threads": 2, "model_sha256": ..., "config_sha256": ...,
     "layers": 16, "workload": {images, image_height, image_width, prompt_tokens, visual_tokens,
                                prefill_tokens, new_tokens, batch, source},
     "phases": {"vision" | "embed" | "prefill" | "token":
                {"intercept_ms", "slope_ms_per_layer" (0 for vision, embed), "spread_ms", "residual"}},
     "affine": {"vision_ms", "prefill": {"intercept_ms", "slope_ms_per_layer"}, "decode": {...}},
     "spread": {"vision", "prefill", "decode"},       relative, of the predictions
     "memory": {"intercept_bytes", "slope_bytes_per_layer", "libraries_bytes"} or null,
     "samples": {"<layers>": {phase: [ms]}}, "order": [layers], "environment": {...}, "warnings": [...]}

In `affine`, prefill is all between the picture features and the first token: embedding and prefill graph.
`prompt_tokens` counts text with its template, as the predictor's workload does; visual tokens come on top.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from topovlm.artifacts import read_json, sha256_file, write_json
from topovlm.errors import InputError, explain

if TYPE_CHECKING:
    from topovlm.runtime.engine import Engine
    from topovlm.runtime.timing import Comparison, TimingRules

SCHEMA = 1
_LEAST_SPREAD = 0.01  # a prediction is never claimed to be closer than this
_FIXED = ("vision", "embed")  # phases that do not see the decoder's depth


def measure_local(
    folder: str | Path,
    shallower: Sequence[tuple[int, str | Path]] | None = None,
    *,
    layer_counts: Sequence[int] | None = None,
    images: int = 1,
    prompt_tokens: int | None = None,
    new_tokens: int = 8,
    variant: str = "auto",
    threads: int | None = None,
    providers: Sequence[str] | None = None,
    rules: TimingRules | None = None,
    scratch: str | Path | None = None,
    progress: Callable[[int, float], None] | None = None,
) -> dict[str, Any]:
    """Profile of this machine from the dense export `folder` and `shallower` ones, (layers, folder) each.

    Without `shallower`, slices of `layer_counts` layers (default: a quarter and five eighths) are cut out of
    the dense graph. `prompt_tokens` counts text with its template (default: 16 words). Slices are
    written below `scratch` (default: beside the export, so that unchanged files can be linked) and removed.
    Raises `InputError` for folders that are no exports or of one depth, `VerificationError` when the graph
    cannot be sliced.
    """
    from topovlm.hardware.slices import slice_export
    from topovlm.runtime.engine import Engine
    from topovlm.runtime.timing import TimingRules, compare
    from topovlm.runtime.workload import synthetic_workload

    dense = Engine(folder, variant=variant, threads=threads, providers=providers)
    rules = rules or TimingRules(time_limit_s=30)
    with ExitStack() as stack:
        if shallower is None:
            counts = layer_counts or default_layer_counts(dense.manifest.layers)
            room = _scratch(stack, Path(scratch) if scratch else dense.manifest.folder.parent)
            shallower = [(n, slice_export(folder, n, room / str(n), dense.variant)) for n in counts]
        engines: dict[str, Engine] = {str(dense.manifest.layers): dense}
        for layers, path in shallower:
            engine = Engine(path, variant=dense.variant, threads=threads, providers=providers)
            if engine.manifest.layers != layers or str(layers) in engines:
                rule = f"the export has {engine.manifest.layers} layers; depths must differ"
                raise InputError(explain("shallower", (layers, str(path)), rule))
            engines[str(layers)] = engine
        if len(engines) < 2:
            raise InputError(explain("shallower", [], "at least one other depth is needed for a slope"))
        visual = images * dense.manifest.tokens_per_image
        workload = synthetic_workload(
            dense,
            images=images,
            prompt_tokens=None if prompt_tokens is None else prompt_tokens + visual,
            new_tokens=max(2, new_tokens),  # a profile needs a time per token, whatever the workload asks for
        )
        run = compare(engines, workload, rules, progress=progress)
    return _profile(dense, run)


def default_layer_counts(layers: int) -> list[int]:
    """Depths to time beside the dense one: a quarter and five eighths of its layers, at least 2."""
    if layers < 3:
        rule = "is too few to cut slices from"
        raise InputError(explain("layers", layers, rule, "Give shallower exports"))
    return sorted({max(2, round(layers / 4)), max(2, round(layers * 5 / 8))} - {layers})


def fit_line(medians: Mapping[int, float]) -> tuple[float, float, float]:
    """Intercept, slope, worst relative residual of `medians` (layers -> ms); relative errors weigh alike."""
    depth = np.array(sorted(medians), float)
    values = np.array([medians[int(n)] for n in depth])
    design = np.stack([np.ones_like(depth), depth], axis=1) / values[:, None]
    (intercept, slope), *_ = np.linalg.lstsq(design, np.ones_like(values), rcond=None)
    residual = np.abs(intercept + slope * depth - values) / values
    return float(intercept), float(slope), float(residual.max())


def paired_medians(samples: Mapping[int, Sequence[float]]) -> dict[int, float]:
    """Median per depth, from ratios to the deepest within each round: a slow round divides out."""
    deepest = np.asarray(samples[max(samples)], float)
    scale = float(np.median(deepest))
    return {n: scale * float(np.median(np.asarray(values, float) / deepest)) for n, values in samples.items()}


def save_profile(profile: Mapping[str, Any], directory: str | Path) -> Path:
    """Write `<target>--<runtime>--<dtype>.json` in `directory`, whole or not at all; returns the file."""
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


def _scratch(stack: ExitStack, parent: Path) -> Path:
    try:
        held = tempfile.TemporaryDirectory(prefix=".slices-", dir=parent)
    except OSError:  # a read-only place: copies elsewhere cost space, not correctness
        held = tempfile.TemporaryDirectory(prefix="topovlm-slices-")
    return Path(stack.enter_context(held))


def _profile(dense: Engine, run: Comparison) -> dict[str, Any]:
    nothing = {"vision": [0.0] * run.rounds}  # a workload without pictures
    samples = {int(name): {**nothing, **timing.samples} for name, timing in run.engines.items()}
    names = (*_FIXED, "prefill", "token")
    phases = {name: _phase(name, {n: s[name] for n, s in samples.items()}) for name in names}
    first = _phase("prefill", {n: np.add(s["embed"], s["prefill"]).tolist() for n, s in samples.items()})
    total_tokens = run.workload["prompt_tokens"]
    text_tokens = total_tokens - run.workload["visual_tokens"]
    line = ("intercept_ms", "slope_ms_per_layer")
    decoder = dense.decoder
    provider = dense.providers_used["decoder"][0].removesuffix("ExecutionProvider").lower()
    return {
        "schema": SCHEMA,
        "kind": "measured",
        "target": "local",
        "mode": run.environment.governor or "default",
        "runtime": f"onnxruntime-{provider}",
        "dtype": _dtype(dense),
        "variant": dense.variant,
        "threads": dense.threads,
        "model_sha256": sha256_file(decoder.path),
        "config_sha256": dense.manifest.raw.get("source_config_sha256"),
        "layers": dense.manifest.layers,
        "workload": {**run.workload, "prompt_tokens": text_tokens, "prefill_tokens": total_tokens},
        "phases": phases,
        "affine": {
            "vision_ms": phases["vision"]["intercept_ms"],
            "prefill": {key: first[key] for key in line},
            "decode": {key: phases["token"][key] for key in line},
        },
        "spread": {
            "vision": phases["vision"]["spread"],
            "prefill": first["spread"],
            "decode": phases["token"]["spread"],
        },
        "memory": _memory(run),
        "samples": {str(n): s for n, s in samples.items()},
        "order": [int(name) for name in run.order],
        "rounds": run.rounds,
        "stopped": run.stopped,
        "environment": run.environment.to_dict(),
        "warnings": list(run.warnings),
    }


def _phase(name: str, samples: Mapping[int, Sequence[float]]) -> dict[str, float]:
    """One phase as a line in layers; `spread` is the relative error that its predictions should state."""
    from topovlm.runtime.robust import summarise

    if name in _FIXED:
        pooled = summarise([value for values in zip(*samples.values(), strict=True) for value in values])
        intercept, slope, residual, summaries = pooled.median_ms, 0.0, 0.0, [pooled]
    else:
        intercept, slope, residual = fit_line(paired_medians(samples))
        summaries = [summarise(values) for values in samples.values()]
    doubt = max(s.relative_width for s in summaries) + residual
    return {
        "intercept_ms": intercept,
        "slope_ms_per_layer": slope,
        "spread_ms": max(s.spread_ms for s in summaries),
        "residual": residual,
        "spread": max(_LEAST_SPREAD, doubt),
    }


def _memory(run: Comparison) -> dict[str, float] | None:
    """Peak bytes of the model as a line in layers, libraries apart; None when a footprint is missing."""
    footprints = {int(name): timing.footprint for name, timing in run.engines.items()}
    known = {n: f for n, f in footprints.items() if f is not None}
    if len(known) < 2 or any(f.model_bytes <= 0 for f in known.values()):
        return None
    intercept, slope, _ = fit_line({n: float(f.model_bytes) for n, f in known.items()})
    libraries = float(np.median([f.libraries_bytes for f in known.values()]))
    return {"intercept_bytes": intercept, "slope_bytes_per_layer": slope, "libraries_bytes": libraries}


def _dtype(engine: Engine) -> str:
    """`fp32`, `fp16`, or the precision that the graph's name states (`q4`, `int8`)."""
    _, _, suffix = engine.variant.partition("_")
    if suffix:
        return suffix
    return "fp16" if engine.decoder.dtypes["inputs_embeds"] == np.float16 else "fp32"
