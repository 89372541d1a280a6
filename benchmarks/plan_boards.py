"""How many decoder layers a latency budget leaves on each board and power mode, without any weights.

    python -m benchmarks.plan_boards                       # Qwen3-VL-2B, W4A16, 265 visual tokens, 200 ms
    python -m benchmarks.plan_boards --model gemma3-4b --max-latency 400ms --family jetson

"interval counts" asks that the upper end of the prediction fits too. The first three and last two
layers are protected, as when pruning.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from topovlm.families.known_models import known_model
from topovlm.families.shape import ModelShape
from topovlm.planner.solve import Budgets, Plan, make_plan
from topovlm.predict.target import ResolvedTarget, list_boards, load_target
from topovlm.units import LatencyBudget, format_ms
from topovlm.workload import Workload

_PROTECTED_FIRST, _PROTECTED_LAST = 3, 2


def targets_of(family: str) -> list[ResolvedTarget]:
    """Every mode with clocks of the boards whose family starts with `family`, weakest arithmetic first."""
    found = [
        load_target(board.id, mode.name)
        for board in list_boards()
        if board.family.startswith(family)
        for mode in board.modes
        if mode.gpu_mhz is not None
    ]
    return sorted(found, key=lambda target: (target.peak_flop_per_s("f16_acc16") or 0.0, target.key))


def plans(
    shape: ModelShape, workload: Workload, target: ResolvedTarget, budgets: Budgets, dtype: str
) -> tuple[Plan, Plan]:
    """(central value must fit, upper end must fit)."""
    layers = shape.total_layers
    protected = {*range(_PROTECTED_FIRST), *range(layers - _PROTECTED_LAST, layers)}
    both = [
        make_plan(shape, workload, target, budgets, dtype, protected=protected, confident=confident)
        for confident in (False, True)
    ]
    return both[0], both[1]


def _kept(plan: Plan) -> str:
    if plan.keep_layers is None:
        return "refused"
    return f"{plan.keep_layers}/{plan.total_layers}" + (" dense" if plan.verdict == "dense" else "")


def main(argv: Sequence[str] | None = None) -> int:
    """Print one line per board and mode."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="qwen3-vl-2b")
    parser.add_argument("--family", default="jetson-orin", help="prefix, e.g. jetson, rtx, datacenter")
    parser.add_argument("--dtype", default="w4a16")
    parser.add_argument("--visual-tokens", type=int, default=265)
    parser.add_argument("--prompt-tokens", type=int, default=27)
    parser.add_argument("--max-latency", default="200ms")
    args = parser.parse_args(argv)
    shape = known_model(args.model).shape()
    workload = Workload(visual_tokens=args.visual_tokens, prompt_tokens=args.prompt_tokens)
    budgets = Budgets(LatencyBudget.parse(args.max_latency))
    table = Table(
        title=f"{args.model}, {args.dtype}, {args.visual_tokens} visual + {args.prompt_tokens} text tokens, "
        f"first token within {args.max_latency} (predicted)",
        title_justify="left",
    )
    for column in ("target", "vision", "dense first token", "layers kept", "interval counts", "floor"):
        table.add_column(column)
    for target in targets_of(args.family):
        central, confident = plans(shape, workload, target, budgets, args.dtype)
        dense = central.dense.prediction
        table.add_row(
            target.key,
            format_ms(dense.vision_ms.value),
            f"{format_ms(dense.ttft_ms.value)} ({dense.ttft_ms.low:.0f}-{dense.ttft_ms.high:.0f})",
            _kept(central),
            _kept(confident),
            central.floor.text if central.verdict != "dense" else confident.floor.text,
        )
    Console(width=None if sys.stdout.isatty() else 170).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
