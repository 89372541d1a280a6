"""A board's profile: the same slices, lengths, fit and document as for the machine at hand."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from topovlm.exporters.onnx.slices import slice_export
from topovlm.machine.telemetry import Doubt
from topovlm.measure.probe import context_limit, default_layer_counts, default_lengths
from topovlm.measure.profile import DRIFT_LIMIT, Watched, document
from topovlm.measure.ssh.checks import target_of
from topovlm.measure.ssh.parcel import TENSORRT, Case, Preparer, pack, synthetic
from topovlm.measure.ssh.rounds import Generations, Rounds
from topovlm.measure.timing import TimingRules
from topovlm.predict.target import UNRECOGNISED
from topovlm.stats.robust import summarise

if TYPE_CHECKING:
    from topovlm.machine.environment import Environment
    from topovlm.measure.footprint import Footprint
    from topovlm.measure.ssh.device import SshDevice
    from topovlm.runtime.engine import Engine
    from topovlm.runtime.manifest import Manifest


@dataclass(frozen=True)
class _Graph:
    path: Path
    dtypes: dict[str, Any]


@dataclass(frozen=True)
class _Opened:
    """What the document asks of the dense engine, which was open on the board only."""

    manifest: Manifest
    variant: str
    threads: int
    providers_used: dict[str, list[str]]
    decoder: _Graph


def measure_board(
    device: SshDevice,
    folder: str | Path,
    *,
    layer_counts: Sequence[int] | None = None,
    lengths: Sequence[int] | None = None,
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
    """Profile of a board, its `target` the board's id where known; arguments as `probe.measure_local`."""
    began = perf_counter()
    ready = device.prepare(providers)
    rules = rules or TimingRules(time_limit_s=30)
    local = Preparer(folder)
    manifest = local.manifest
    native = ready.backend == TENSORRT
    name = manifest.resolve("plain" if native and variant == "auto" else variant)
    new_tokens = max(2, new_tokens)  # a profile needs a time per token, whatever the workload asks for
    total = None if prompt_tokens is None else prompt_tokens + images * manifest.tokens_per_image
    base = synthetic(folder, images=images, prompt_tokens=total, new_tokens=new_tokens)
    shortest, limit = len(local.prompter.encode("", images)), context_limit(manifest.folder)
    wanted = lengths or default_lengths(shortest, base.prompt_tokens, limit, new_tokens)
    workloads = {base.prompt_tokens: base}
    for tokens in wanted:
        workloads[tokens] = synthetic(folder, images=images, prompt_tokens=tokens, new_tokens=new_tokens)
    order = sorted(workloads)
    with tempfile.TemporaryDirectory(prefix="topovlm-slices-", dir=scratch) as room:
        folders: dict[str, str | Path] = {str(manifest.layers): folder}
        for layers in layer_counts or default_layer_counts(manifest.layers):
            folders[str(layers)] = slice_export(folder, layers, Path(room) / str(layers), name)
        cells = {f"{depth}@{tokens}": (int(depth), tokens) for depth in folders for tokens in order}
        parcel = pack(
            folders,
            [workloads[tokens].prompts[0] for tokens in order],
            [Case(case, str(layers), (order.index(tokens),)) for case, (layers, tokens) in cells.items()],
            rules,
            new_tokens=new_tokens,
            backend=ready.backend,
            footprint_prompt=order.index(base.prompt_tokens),
            variant=name,
            threads=threads,
            providers=providers,
        )
        precision = rules.precision
        rounds = Rounds(rules.min_rounds, lambda runs: _precise(runs, precision), progress)

        def partial(environment: Environment, warnings: list[str]) -> dict[str, Any]:
            samples = {case: [asdict(run) for run in runs] for case, runs in rounds.generations.items()}
            facts = {"environment": environment.to_dict(), "warnings": warnings}
            return {"kind": "measured", "rounds": rounds.count, "samples": samples, **facts}

        campaign = device.campaign(ready, parcel, rounds, rules, partial)
    run = rounds.sweep(cells)
    found = list(campaign.doubts)
    found += [Doubt("load", text) for text in campaign.environment.warnings()]
    if abs(run.drift) > DRIFT_LIMIT:
        text = f"the pace changed by {100 * run.drift:+.1f} % during the run: clocks, heat or other work"
        found.append(Doubt("drift", text, grave=True))
    watched = Watched(
        run,
        campaign.environment.to_dict(),
        {
            "before": ready.look.telemetry.to_dict(),
            "after": campaign.after.telemetry.to_dict(),
        },
        None,
        [asdict(doubt) for doubt in found],
    )
    loaded = rounds.loaded[str(manifest.layers)]
    decoder = _Graph(manifest.parts(name)[2], {"inputs_embeds": np.dtype(loaded["dtype"])})
    dense = _Opened(manifest, name, loaded["threads"], loaded["providers"], decoder)
    measured = document(cast("Engine", dense), base, watched, _memory(rounds.footprints))
    facts = ready.look.to_dict()
    return {
        **measured,
        "runtime": TENSORRT if native else measured["runtime"],
        "target": target_of(ready.look) or UNRECOGNISED,
        "board": {key: facts[key] for key in ("board", "compatible", "l4t")},
        "seconds": perf_counter() - began,
    }


def _precise(runs: Generations, precision: float) -> bool:
    """Whether prefill and the tokens of every cell are known that well."""
    return all(
        2 * summarise(samples).relative_width <= precision
        for found in runs.values()
        for samples in ([run.prefill_ms for run in found], [float(np.median(run.token_ms)) for run in found])
    )


def _memory(footprints: dict[str, Footprint]) -> dict[str, float] | None:
    """Peak bytes as a line in layers, libraries apart; None without two footprints that say something."""
    known = {int(name): footprint for name, footprint in footprints.items() if footprint.model_bytes > 0}
    if len(known) < 2:
        return None
    depth = sorted(known)
    slope, intercept = np.polyfit(np.array(depth, float), [known[n].model_bytes for n in depth], 1)
    return {
        "intercept_bytes": float(intercept),
        "slope_bytes_per_layer": float(slope),
        "libraries_bytes": float(np.median([known[n].libraries_bytes for n in depth])),
    }
