"""What scoring costs beside the calibration pass it scores: `python -m benchmarks.scoring_share`.

Measured: hidden states of the reference model on N samples, then barcode and scores, in turns; the share is
scoring over calibration. Then every scorer once, and what some of them ask of the model. Predicted for larger
decoders: scoring measured on synthetic states of their shape; calibration as the decoder's floating-point
operations at the matrix-product rate of this machine, which no forward pass reaches, without the vision
tower: so the share is an upper bound.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.zigzag_cases import trajectory
from topovlm.checkpoint.live import Live
from topovlm.pipeline.constants import CONSTANTS
from topovlm.samples import Sample
from topovlm.topology.descriptors import mean_persistence
from topovlm.topology.zigzag import warm_up, zigzag_barcode

ASKED, ELIMINATED = CONSTANTS.bypass_samples, CONSTANTS.elimination_samples
SHAPES = Path(__file__).parent / "data" / "model_shapes.json"


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def decoder_flops(shape: dict[str, Any], tokens: int) -> float:
    """Floating-point operations of one prompt through the decoder blocks, without embedding and head."""
    attention = shape["hidden"] * shape["head_dim"] * (2 * shape["heads"] + 2 * shape["kv_heads"])
    mlp = 3 * shape["hidden"] * shape["intermediate"]
    scores = 2 * shape["heads"] * shape["head_dim"] * tokens / 2
    flops: float = 2.0 * shape["layers"] * tokens * (attention + mlp + scores)
    return flops


def matrix_rate(size: int = 1536) -> float:
    """Best float32 operations per second of a square product on this machine."""
    left = np.random.default_rng(0).normal(size=(size, size)).astype(np.float32)
    return 2.0 * size**3 / min(seconds(lambda: left @ left) for _ in range(5))


def by_scorer(live: Live, chosen: Sequence[Sample], states: np.ndarray, k: int) -> dict[str, float]:
    """Seconds of each scorer, and of what some ask of the model, on so many samples of it."""
    from topovlm.choose.bypasses import collect_bypassed
    from topovlm.choose.eliminations import collect_elimination
    from topovlm.choose.scorers import SCORERS, Settings
    from topovlm.choose.scoring import score
    from topovlm.choose.sensitivities import collect_sensitivity

    found, asked = {}, list(chosen[:ASKED])
    start = time.perf_counter()
    bypassed = collect_bypassed(live, asked)
    found[f"without each layer, {ASKED} samples"] = time.perf_counter() - start
    start = time.perf_counter()
    sensitivity = collect_sensitivity(live, asked)
    found[f"slopes, {ASKED} samples"] = time.perf_counter() - start
    start = time.perf_counter()
    elimination = collect_elimination(live, chosen[:ELIMINATED])
    found[f"elimination, {ELIMINATED} samples"] = time.perf_counter() - start
    settings = Settings(
        k=k,
        barcode=zigzag_barcode(states, k),
        points=states,
        bypassed=bypassed,
        sensitivity=sensitivity,
        elimination=elimination,
    )
    for name in SCORERS:
        if name != "persistence" or importlib.util.find_spec("gudhi"):
            found[name] = seconds(lambda: score(states, name, settings))  # noqa: B023
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=512)
    parser.add_argument("--k", type=int, default=15)
    parser.add_argument("--tokens", type=int, default=640, help="prompt tokens with image, larger decoders")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--decoders", nargs="*", default=["Qwen3-0.6B", "Qwen3-4B", "Llama-3-8B"])
    options = parser.parse_args()

    from topovlm.checkpoint.live import load
    from topovlm.choose.calibration import collect_states
    from topovlm.reference import model_dir
    from topovlm.reference.data import samples

    print(f"warm-up (compilation or cache): {warm_up():.2f} s, in no figure below")
    live = load(model_dir())
    chosen = samples("train", options.samples, 0)
    passes, scorings = [], []
    states = collect_states(live, chosen[:16])
    for _ in range(options.repeats):
        start = time.perf_counter()
        states = collect_states(live, chosen)
        passes.append(time.perf_counter() - start)
        scorings.append(seconds(lambda: mean_persistence(zigzag_barcode(states, options.k))))  # noqa: B023
    share = median(s / p for s, p in zip(scorings, passes, strict=True))
    print(f"reference model, {states.shape[0]} layers, {options.samples} samples, width {states.shape[2]}:")
    print(f"  measured: calibration {median(passes):.2f} s, scoring {median(scorings):.3f} s, {share:.2%}")

    for name, scoring in by_scorer(live, chosen, states, options.k).items():
        print(f"    {name}: {scoring:.3f} s")

    rate = matrix_rate()
    print(f"larger decoders at {rate / 1e9:.0f} GFLOP/s, {options.tokens} tokens a sample:")
    shapes = json.loads(SHAPES.read_text())["decoders"]
    for name in options.decoders:
        shape = shapes[name]
        clouds = trajectory("residual", options.samples, shape["layers"], shape["hidden"])
        scoring = median(
            seconds(lambda: mean_persistence(zigzag_barcode(clouds, options.k)))  # noqa: B023
            for _ in range(options.repeats)
        )
        forward = options.samples * decoder_flops(shape, options.tokens) / rate
        text = f"scoring measured {scoring:.2f} s, calibration predicted at least {forward:,.0f} s"
        print(f"  {name}: {text}, at most {scoring / forward:.4%}")


if __name__ == "__main__":
    main()
