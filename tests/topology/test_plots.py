from __future__ import annotations

import io

import numpy as np
import pytest

from tests.topology.strategies import trajectory
from topovlm.topology import plots
from topovlm.topology.barcode import Barcode
from topovlm.topology.descriptors import effective_bars, mean_persistence
from topovlm.topology.zigzag import zigzag_barcode

figure_module = pytest.importorskip("matplotlib.figure")
BARCODE = zigzag_barcode(trajectory(50, 6, 6, seed=2), k=4)


def axes():
    return figure_module.Figure().subplots()


def test_barcode_picture_shows_every_bar_or_says_how_many():
    """One line per bar; beyond the limit the longest, and the title tells."""
    panel = axes()
    plots.draw_barcode(panel, BARCODE, 1)
    bars = effective_bars(BARCODE, 1)
    segments = panel.collections[0].get_segments()
    assert sorted((s[0][0], s[1][0]) for s in segments) == sorted(map(tuple, bars.astype(float).tolist()))
    panel = axes()
    plots.draw_barcode(panel, BARCODE, 1, most=3)
    assert panel.get_title() == f"H1: the 3 longest of {len(bars)} bars"


def test_curves_show_the_descriptors():
    """The plotted values are those of the descriptors."""
    panel = axes()
    plots.draw_mean_persistence(panel, BARCODE, (0, 1), alpha=1.0)
    for dim, curve in enumerate(panel.lines):
        np.testing.assert_allclose(curve.get_ydata(), mean_persistence(BARCODE, dim, 1.0))


@pytest.mark.parametrize("barcode", [BARCODE, Barcode.from_rows(np.empty((0, 3)), 1)], ids=["bars", "none"])
def test_pictures_can_be_saved(barcode):
    """All pictures of any barcode, even an empty one, can be written as SVG."""
    target = io.BytesIO()
    panels = figure_module.Figure().subplots(2, 2).ravel()
    plots.draw_barcode(panels[0], barcode, 1)
    plots.draw_image(panels[1], barcode, 1)
    plots.draw_mean_persistence(panels[2], barcode, (0, 1))
    plots.draw_births(panels[3], barcode, (0, 1))
    panels[0].figure.savefig(target, format="svg")
    assert b"<svg" in target.getvalue()


def test_images_keep_the_mass():
    """The heat map of counts holds every bar once; the smoothed one is not negative."""
    counts = np.expm1(plots.draw_image(axes(), BARCODE, 1).get_array())
    assert counts.sum() == pytest.approx(len(effective_bars(BARCODE, 1)))
    assert (plots.draw_image(axes(), BARCODE, 1, sigma=1.0).get_array() >= 0).all()
