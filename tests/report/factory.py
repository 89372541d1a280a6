"""A synthetic but complete report: known accuracies, known latencies, seeded noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace as replace_outcome
from functools import cache

import numpy as np
from msgspec.structs import replace

from topovlm.evaluation.evaluate import Outcome
from topovlm.evaluation.task import ParseState
from topovlm.report.document import (
    SCHEMA_VERSION,
    Artifact,
    Bars,
    Benchmark,
    Budget,
    Environment,
    Figure,
    Judge,
    Latency,
    LayerReason,
    MemoryUse,
    Model,
    Plan,
    PlanRow,
    Provenance,
    Report,
    Run,
    ScorerSet,
    Selection,
    Stage,
    Target,
    Workload,
    check,
)
from topovlm.report.sections import accuracy_section, latency_section

LAYERS = 16
DROPPED = (6, 7, 9, 10, 11, 13)
WORKLOAD = Workload(
    images=1, image_height=48, image_width=48, visual_tokens=36, prompt_tokens=61, new_tokens=4, dtype="fp32"
)
# category: (questions, chance, share the dense model gets right, share of those the slim model keeps)
CATEGORIES = {
    "colour": (220, 1 / 6, 0.98, 0.99),
    "counting": (200, 1 / 7, 0.86, 0.93),
    "position": (200, 1 / 9, 0.94, 0.97),
    "comparison": (180, 0.5, 0.91, 0.96),
    "diagram": (240, 0.25, 0.93, 0.97),
    "bar_chart": (240, 1 / 9, 0.82, 0.90),
    "arithmetic": (160, 1 / 19, 0.71, 0.83),
    "motion": (180, 0.25, 0.96, 0.98),
    "describe": (120, 0.0, 0.64, 0.80),
}


def outcomes(scores: dict[str, Sequence[float]], unparsed: int = 0) -> list[Outcome]:
    """Outcomes per category from scores (True is 1); the first `unparsed` ones of score 0 are unparsed."""
    made: list[Outcome] = []
    for category, row in scores.items():
        for number, score in enumerate(row):
            parsed = bool(score) or unparsed <= 0
            unparsed -= not parsed
            chance = CATEGORIES.get(category, (0, 0.25))[1]
            text = "B" if score else ("C" if parsed else "")
            name = f"{category}-{number}"
            parse: ParseState = "parsed" if parsed else "unparsed"
            made.append(Outcome(name, name, category, "letter", chance, "B", text, float(score), parse))
    return made


def dense_answers(seed: int = 0) -> dict[str, np.ndarray]:
    """Right/wrong of the dense model per category."""
    rng = np.random.default_rng(seed)
    return {category: rng.random(n) < share for category, (n, _, share, _) in CATEGORIES.items()}


def slim_answers(
    dense: dict[str, np.ndarray], seed: int = 1, extra_loss: float = 0.0
) -> dict[str, np.ndarray]:
    """Right/wrong of the slim model: it keeps most of what dense gets right and gains a little."""
    rng = np.random.default_rng(seed)
    slim = {}
    for family, right in dense.items():
        keep = CATEGORIES[family][3]
        draw = rng.random((2, len(right)))
        slim[family] = np.where(right, draw[0] < keep, draw[1] < 0.05)
    if extra_loss:  # the same answers, some right ones turned wrong
        slim = {f: right & (rng.random(len(right)) >= extra_loss) for f, right in slim.items()}
    return slim


def _shocks(n: int, seed: int) -> np.ndarray:
    """Standard normal noise in which neighbours resemble each other."""
    shock = np.random.default_rng(seed).normal(size=n)
    for i in range(1, n):
        shock[i] = 0.4 * shock[i - 1] + np.sqrt(1 - 0.16) * shock[i]
    return shock


def samples_ms(
    median: float, n: int = 40, noise: float = 0.03, seed: int = 0, common: int = 0
) -> list[float]:
    """Timings of one phase; half of the noise's variance is common to the round (seed `common`)."""
    shock = np.sqrt(0.5) * (_shocks(n, seed) + _shocks(n, 7919 + common))
    return (median * np.exp(noise * shock)).tolist()


def latency(
    scale: float = 1.0, dense_scale: float = 1.0, seed: int = 0, slim: bool = True, n: int = 40
) -> Latency:
    """Measured phases; `scale` slows the slim model down, `dense_scale` the dense one (and the machine)."""
    dense_ms = {"vision": 1.9, "prefill": 7.6, "token": 1.25, "ttft": 9.8, "end_to_end": 13.6}
    slim_ms = {"vision": 1.9, "prefill": 4.9, "token": 0.82, "ttft": 7.1, "end_to_end": 9.6}

    def timed(medians: dict[str, float], factor: float, shift: int) -> dict[str, list[float]]:
        return {
            p: samples_ms(m * factor, n, seed=100 * seed + 10 * shift + number, common=100 * seed + number)
            for number, (p, m) in enumerate(medians.items())
        }

    def memory(dense: float, small: float, kind: str) -> MemoryUse:
        def figure(value: float) -> Figure:
            return Figure(value=value, unit="bytes", kind="measured", source="this machine", n=1)

        return MemoryUse(name=kind, dense=figure(dense), slim=figure(small) if slim else None)

    return latency_section(
        timed(dense_ms, dense_scale, 1),
        timed(slim_ms, scale, 2) if slim else None,
        workload=WORKLOAD,
        where="this machine, ONNX Runtime 1.32 CPU",
        runtime="onnxruntime-cpu",
        variant="fused",
        threads=2,
        warmup=5,
        order=("dense", "slim") * n if slim else ("dense",) * n,
        is_target=True,
        memory=(memory(19.2e6, 14.1e6, "weights"), memory(212e6, 201e6, "peak resident set")),
        seed=seed,
    )


def _predicted(value: float, unit: str = "ms") -> Figure:
    return Figure(
        value=value,
        unit=unit,
        kind="predicted",
        source="profile of this machine",
        low=0.9 * value,
        high=1.12 * value,
    )


def plan() -> Plan:
    rows = tuple(
        PlanRow(
            kept=n,
            vision=_predicted(1.9),
            prefill=_predicted(0.6 + 0.44 * n),
            token=_predicted(0.1 + 0.072 * n),
            ttft=_predicted(2.7 + 0.44 * n),
            total=_predicted(2.7 + 0.44 * n + 3 * (0.1 + 0.072 * n)),
            memory=_predicted(8e6 + 0.7e6 * n, "bytes"),
            exceeds=("latency",) if 2.7 + 0.44 * n > 7.4 else (),
            at_risk=("latency",) if 2.7 + 0.44 * n <= 7.4 < 1.12 * (2.7 + 0.44 * n) else (),
            fits=2.7 + 0.44 * n <= 7.4,
        )
        for n in range(1, LAYERS + 1)
    )
    return Plan(
        verdict="prune",
        keep_layers=10,
        total_layers=LAYERS,
        floor="vision",
        floor_text="the vision tower and the embeddings alone take 2.7 ms",
        predictor="measured-here",
        source="affine in layers kept, fitted on this machine",
        rows=rows,
    )


def selection() -> Selection:
    rng = np.random.default_rng(3)
    scores = [
        round(float(s), 4)
        for s in np.clip(np.sin(np.linspace(0, np.pi, LAYERS)) + rng.normal(0, 0.05, 16), 0, 1)
    ]
    protected = (0, 1, 2, 14, 15)
    ranks = {layer: rank for rank, layer in enumerate(sorted(range(LAYERS), key=lambda i: -scores[i]), 1)}
    reasons = {
        "dropped": "consistent with its neighbours: adds no new structure",
        "kept": "structure changes here",
        "protected": "first three and last two stay",
    }

    def decision(layer: int) -> str:
        return "dropped" if layer in DROPPED else "protected" if layer in protected else "kept"

    kept = tuple(i for i in range(LAYERS) if i not in DROPPED)
    bars = tuple(
        Bars(dim=p, birth=b, death=min(30, b + span), count=1 + (p + b + span) % 5)
        for p in (0, 1)
        for b in range(0, 30, 3)
        for span in (1, 6, 14)
    )
    return Selection(
        scorer="zigzag",
        scores=tuple(scores),
        dropped=DROPPED,
        kept=kept,
        protected=protected,
        layers=tuple(
            LayerReason(
                layer=i, decision=decision(i), score=scores[i], rank=ranks[i], why=reasons[decision(i)]
            )
            for i in range(LAYERS)
        ),
        calibration_samples=512,
        calibration_source="reference calibration split",
        parameters={"k": 15, "alpha": 0, "homology": 1},
        other_sets=(
            ScorerSet(
                scorer="block-influence",
                scores=tuple(reversed(scores)),
                dropped=(7, 8, 9, 10, 11, 12),
                judged=0.21,
            ),
            ScorerSet(
                scorer="zigzag",
                scores=tuple(scores),
                dropped=(6, 7, 8, 9, 10, 11),
                judged=0.17,
                note="proposal",
            ),
        ),
        judge=Judge(
            name="KL to the dense answers",
            unit="nats",
            proposal=0.17,
            final=0.09,
            swaps=("8 -> 13",),
            samples=128,
            text="one swap halved the divergence",
        ),
        barcode=bars,
    )


def _model(name: str, layers: int) -> Model:
    parameters = 800_000 + 230_000 * layers
    return Model(
        name=name,
        architecture="LlavaForConditionalGeneration",
        layers=layers,
        parameters=parameters,
        decoder_parameters=230_000 * layers,
        weight_bytes=2 * parameters,
        weights_sha256=f"{layers:064x}",
        hidden_size=128,
        path="/somewhere",
    )


def report(
    *,
    slim: dict[str, np.ndarray] | None = None,
    timing: Latency | None = None,
    pruned: bool = True,
    title: str = "reference LVLM on this machine",
) -> Report:
    """A whole report; `pruned=False` is a dense deployment."""
    dense = dense_answers()
    answers = outcomes(slim if slim is not None else slim_answers(dense), unparsed=3)
    accuracy = accuracy_section(
        outcomes(dense, unparsed=2),
        answers if pruned else None,
        source="ONNX Runtime 1.32 CPU, fp32 plain graphs",
        sample_source="reference held-out test split",
        task="test",
    )
    artifacts = [
        Artifact(
            path="model",
            format="checkpoint",
            model="slim",
            checked=True,
            bytes=6_210_000,
            sha256="a" * 64,
            loads_in=("transformers",),
        ),
        Artifact(
            path="onnx",
            format="onnx",
            title="ONNX graphs",
            model="slim",
            checked=True,
            bytes=12_900_000,
            sha256="b" * 64,
            reproducible=False,
            loads_in=("ONNX Runtime", "transformers.js"),
        ),
        Artifact(
            path="tensorrt/jetson",
            format="tensorrt-bundle",
            title="TensorRT build bundle",
            model="slim",
            bytes=13_000_000,
            sha256="c" * 64,
        ),
    ]
    verifications = [
        check("reload with stock transformers", "slim", 10, "equal to", 10),
        check("cached = uncached generation", "slim", 2e-6, "at most", 1e-3, detail="32 tokens"),
        check("ONNX parity", "slim", 2.9e-5, "at most", 1e-3, detail="worst logit"),
        check("negative control: shifted position", "slim", 3.1, "more than", 1e-3, detail="rejected"),
    ]
    return Report(
        schema_version=SCHEMA_VERSION,
        topovlm_version="0.1.0",
        title=title,
        target=Target(
            requested="local",
            key="local@default",
            board="this machine",
            mode="default",
            runtime="onnxruntime-cpu",
            facts={"cores": 2.0},
        ),
        workload=WORKLOAD,
        budget=Budget(max_latency_share=0.75, latency_ms=7.4),
        plan=plan(),
        dense=_model("reference", LAYERS),
        provenance=Provenance(
            model_source="topovlm reference LVLM",
            model_licence="Apache-2.0",
            data_source="topovlm reference benchmark, test split",
            citations=("arXiv 2410.11042", "arXiv 2604.16502"),
            limits=("nothing here was timed on a Jetson",),
        ),
        run=Run(
            seed=0,
            argv=("topovlm-deploy", "--target", "local"),
            created="2026-11-23T12:00:00Z",
            config={"target": "local"},
            stages=(Stage(name="plan", seconds=0.2), Stage(name="score", seconds=21.5)),
        ),
        environment=Environment(
            machine="x86_64",
            cpu="Example CPU @ 2.5 GHz",
            cores=2,
            memory_bytes=8 * 2**30,
            system="Linux 6.1",
            python="3.11.2",
            threads=2,
            versions={"onnxruntime": "1.32.0"},
            providers=("CPUExecutionProvider",),
        ),
        slim=_model("reference, 10 of 16 layers", 10) if pruned else None,
        selection=selection() if pruned else None,
        accuracy=accuracy,
        latency=timing if timing is not None else latency(slim=pruned),
        artifacts=tuple(artifacts),
        verifications=tuple(verifications),
    )


def benchmark(
    name: str,
    dense: Sequence[float],
    slim: Sequence[float] | None,
    *,
    unread: int = 0,
    cluster: int = 1,
    protocol: str = "lmms-eval-0.7.3",
) -> Benchmark:
    """Scores of a public benchmark; the slim model's first `unread` wrong answers could not be read.

    `cluster`: so many questions share a picture.
    """
    rows = [outcomes({name: dense}), None if slim is None else outcomes({name: slim}, unread)]
    asked = [
        row and [replace_outcome(one, group=f"{name}-{k // cluster}") for k, one in enumerate(row)]
        for row in rows
    ]
    section = accuracy_section(asked[0], asked[1], source="engine", sample_source="small", task=name)
    return Benchmark(
        name=name,
        title=name.upper(),
        protocol=protocol,
        licence="CC0-1.0",
        asked=len(dense),
        available=len(dense),
        answer_tokens=16,
        differences=(),
        accuracy=section,
    )


@cache
def standard(pruned: bool = True) -> Report:
    """The report that most tests start from; frozen, so it can be shared."""
    return report(pruned=pruned)


@cache
def small(every: int) -> Report:
    """A whole report with one question of so many, few timings and few rows of the plan."""
    whole, dense = standard(), dense_answers()
    few = [outcomes(answers)[::every] for answers in (dense, slim_answers(dense))]
    return replace(
        whole,
        accuracy=accuracy_section(*few, source="engine", sample_source="few", task="test"),
        plan=replace(whole.plan, rows=whole.plan.rows[-7:]),
        latency=latency(n=8),
    )
