"""Which precision a deployment plans for, and which its graphs are written, timed and answered with in."""

from __future__ import annotations

from topovlm.config import DTYPES, Config, exported_dtype
from topovlm.errors import InputError, explain
from topovlm.exporters.protocol import Dtype
from topovlm.predict.profile import Profile
from topovlm.predict.target import LOCAL, ResolvedTarget
from topovlm.records import Part

# Unless asked otherwise.
_GRAPHS: Dtype = "fp32"
_PLANNED = "fp16"


class Precision(Part, frozen=True, kw_only=True):
    """Formats: `planned` of the plan, `exported` of the graphs; `why`: a sentence where they differ."""

    planned: str
    exported: Dtype
    why: str = ""


def measured_on_target(config: Config, target: ResolvedTarget) -> bool:
    """Whether this machine is the target, or --device leads to it."""
    return target.board.id == LOCAL or config.device != LOCAL


def precision(config: Config, target: ResolvedTarget) -> Precision:
    """Of a deployment. Raises `InputError` for a format that no graph is written in."""
    exported, planned = exported_dtype(config, _GRAPHS), planned_dtype(config, target)
    if planned == exported:
        return Precision(planned=planned, exported=exported)
    why = (
        f"the plan is for {planned} weights on {target.board.name}; the graphs are {exported}, and so are "
        f"the answers and timings of this report. --dtype {planned} exports, answers and times in {planned}"
    )
    return Precision(planned=planned, exported=exported, why=why)


def planned_dtype(config: Config, target: ResolvedTarget, profile: Profile | None = None) -> str:
    """The precision to plan for: what was (or will be) measured, else what the target runs best.

    Raises `InputError` for one that is not what was measured.
    """
    if profile is not None and profile.dtype in DTYPES:
        if config.dtype not in ("auto", profile.dtype):
            rule = f"is asked for, and the profile was measured in {profile.dtype}"
            remedy = f"Leave --dtype out, or measure with `topovlm profile --dtype {config.dtype}`"
            raise InputError(explain("--dtype", config.dtype, rule, remedy))
        return profile.dtype
    if measured_on_target(config, target):
        return exported_dtype(config, _GRAPHS)
    return _PLANNED if config.dtype == "auto" else config.dtype
