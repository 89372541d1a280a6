"""The line that shows an interval or a range."""

from __future__ import annotations

from typing import TYPE_CHECKING

from topovlm.report.document import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def whisker(axes: Axes, y: float, figure: Figure, color: str, scale: float = 1.0) -> None:
    if figure.low is not None and figure.high is not None:
        axes.plot(
            [scale * figure.low, scale * figure.high],
            [y, y],
            color=color,
            linewidth=1.6,
            solid_capstyle="butt",
        )
