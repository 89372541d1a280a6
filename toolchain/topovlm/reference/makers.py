"""Which pictures there are, and which category of questions is asked of which."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from topovlm.reference.charts import bar_chart, line_chart
from topovlm.reference.diagrams import diagram
from topovlm.reference.frames import motion, order
from topovlm.reference.handwriting import arithmetic, digits
from topovlm.reference.scenes import Scene
from topovlm.reference.stills import still

# Draws a scene of a split.
Maker = Callable[[np.random.Generator, str], Scene]
MAKERS: dict[str, Maker] = {
    "still": still,
    "bar_chart": bar_chart,
    "line_chart": line_chart,
    "diagram": diagram,
    "digits": digits,
    "arithmetic": arithmetic,
    "motion": motion,
    "order": order,
}
# Which maker's pictures a category's questions are asked of.
CATEGORIES: dict[str, str] = {
    "diagram": "diagram",
    "bar_chart": "bar_chart",
    "line_chart": "line_chart",
    "counting": "still",
    "colour": "still",
    "shape": "still",
    "position": "still",
    "comparison": "still",
    "describe": "still",
    "digits": "digits",
    "arithmetic": "arithmetic",
    "motion": "motion",
    "order": "order",
}
