"""A profile for tests: a made-up machine, timed with the tiny model of `test_cost` at one prompt length."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from topovlm.machine.environment import Environment
from topovlm.machine.telemetry import Telemetry
from topovlm.predict.profile import Affine, Line, Looks, Profile, Spread, TimedWorkload
from topovlm.predict.surface import Surface


def _surface(**coefficients: float) -> Surface:
    return Surface(coefficients=coefficients, residual=0.01, held_out=(0.02, -0.01))


# In ms: embedding 0.4 at any length, prefill 0.6 + 0.5 a layer, a new token 0.2 + 0.1 a layer.
SURFACES = {
    "embed": _surface(fixed_ms=0.4),
    "prefill": _surface(fixed_ms=0.6, per_layer_ms=0.5),
    "token": _surface(fixed_ms=0.2, per_layer_ms=0.1),
}
_FIRST = Line(intercept_ms=1.0, slope_ms_per_layer=0.5)
_TOKEN = Line(intercept_ms=0.2, slope_ms_per_layer=0.1)
WORKLOAD = TimedWorkload(
    images=1,
    image_height=48,
    image_width=48,
    visual_tokens=36,
    prompt_tokens=20,
    prefill_tokens=56,
    new_tokens=5,
)


def make_profile(**changes: Any) -> Profile:
    """Vision 2 ms, prefill 1 + 0.5 n ms, a token 0.2 + 0.1 n ms for n layers of 16.

    `changes` replace fields.
    """
    environment = Environment(
        system="Linux",
        machine="x86_64",
        cpu="a processor",
        cores=2,
        usable_cores=2,
        governor=None,
        cpu_mhz=None,
        load_1min=0.0,
        memory_total_bytes=8 << 30,
        memory_available_bytes=4 << 30,
        device_model=None,
        gpus=(),
        python="3.11",
        versions={},
    )
    profile = Profile(
        target="local",
        mode="default",
        runtime="onnxruntime-cpu",
        dtype="fp32",
        variant="fused",
        threads=2,
        model_sha256="0" * 64,
        config_sha256=None,
        layers=16,
        depths=(2, 6, 16),
        lengths=(56,),
        workload=WORKLOAD,
        surfaces=SURFACES,
        phases={"prefill": _FIRST, "token": _TOKEN},
        affine=Affine(vision_ms=2.0, prefill=_FIRST, decode=_TOKEN),
        spread=Spread(vision=0.02, prefill=0.03, decode=0.04),
        noise={"prefill": 0.005, "token": 0.005},
        drift=0.0,
        memory=None,
        energy=None,
        samples={},
        rounds=4,
        stopped="rounds",
        environment=environment,
        telemetry=Looks(before=Telemetry(), after=Telemetry()),
        doubts=(),
        warnings=(),
    )
    return replace(profile, **changes)
