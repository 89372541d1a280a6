"""matplotlib figures as inline SVG that follows the page's light or dark theme.

Colours are drawn with placeholders and replaced by CSS variables (with a light fallback, so that a plot also
stands alone).
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from topovlm.text import for_html

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

# Placeholder colour -> (CSS variable, light fallback).
_THEME = {
    "#010101": ("--ink", "#1b1f24"),
    "#020202": ("--muted", "#57606a"),
    "#030303": ("--line", "#d0d7de"),
    "#040404": ("--dense", "#3b6ea8"),
    "#050505": ("--slim", "#c2570c"),
    "#060606": ("--paper", "#ffffff"),
    "#070707": ("--shade", "#eaeef2"),
}
# Colours to draw with.
INK, MUTED, LINE, DENSE, SLIM, PAPER, SHADE = _THEME
_STYLE: dict[str, str | float | bool] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10.5,
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.labelcolor": INK,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": MUTED,
    "ytick.color": INK,
    "grid.color": LINE,
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "hatch.linewidth": 1.2,
    "figure.facecolor": "none",
}


def render_svg(
    name: str, title: str, description: str, size: tuple[float, float], draw: Callable[[Canvas], None]
) -> str:
    """Let `draw` fill a figure of `size` inches; `name` is the plot's id on the page."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure as Canvas

    style: Any = {**_STYLE, "svg.hashsalt": name}
    with mpl.rc_context(style), warnings.catch_warnings():
        # The page's fonts draw the text, not those of matplotlib.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        canvas = Canvas(figsize=size, layout="constrained")
        FigureCanvasSVG(canvas)
        draw(canvas)
        buffer = io.StringIO()
        canvas.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return _themed(buffer.getvalue(), name, title, description)


def _themed(text: str, name: str, title: str, description: str) -> str:
    """Only the svg element, responsive, named, with theme colours and ids that are unique on a page."""
    body = text[text.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.S)
    view = re.search(r'viewBox="([^"]*)"', body)
    assert view is not None
    heading, words = for_html(title), for_html(description)
    label = f'<title id="{name}-title">{heading}</title><desc id="{name}-desc">{words}</desc>'
    opening = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{view[1]}" role="img" aria-labelledby="{name}-title {name}-desc" '
        f'style="width:100%;height:auto">{label}'
    )
    body = opening + body[body.index(">") + 1 :]
    # Only within tags: what a label says is nobody's id or colour.
    return re.sub(r"<[^>]+>", lambda tag: _themed_tag(tag[0], name), body).strip()


def _themed_tag(tag: str, name: str) -> str:
    tag = re.sub(rf'\bid="(?!{name}-)([^"]*)"', rf'id="{name}-\1"', tag)
    tag = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", tag)
    tag = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px; font-family: inherit", tag)
    for placeholder, (variable, fallback) in _THEME.items():
        tag = tag.replace(placeholder, f"var({variable}, {fallback})")
    return tag
