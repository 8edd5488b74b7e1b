"""The pictures of an inspection, of numbers that are out of the ordinary: warnings are errors."""

import matplotlib
import numpy as np
import pytest

from research.report.plots.inspection import PLOTS
from research.report.plots.style import STYLE, png

AT = np.linspace(-1, 1, 5)
BOWL = 0.02 + 3 * AT**2 + 5 * AT[:, None] ** 2
HOLED = np.where(np.abs(AT * AT[:, None]) == 1, np.nan, BOWL)


def drawn(name, found):
    with matplotlib.rc_context(STYLE):
        figure = PLOTS[name](found, "a model")
        assert png(figure).startswith(b"\x89PNG")
    return figure


@pytest.mark.parametrize(
    ("loss", "scale"),
    [
        (BOWL, "log"),
        (1e-5 * BOWL, "log"),
        (HOLED, "log"),
        (BOWL - 10, "linear"),
        (BOWL - BOWL.min(), "linear"),
        (0.685 + 0.001 * BOWL, "linear"),
        (0 * BOWL + 0.69, "linear"),
        (0 * BOWL, "linear"),
        (np.nan * BOWL, "linear"),
    ],
    ids=["bowl", "tiny", "holed", "negative", "from 0", "narrow", "constant", "zero", "nowhere"],
)
def test_any_loss_has_a_landscape(loss, scale):
    figure = drawn("landscape", {"at": AT, "loss": loss})
    _, right, *bar = figure.axes
    assert right.get_yscale() == scale and len(bar) == np.isfinite(loss).any()
    for axis in bar:  # the colours hold every finite loss, and the marks tell them apart
        low, high = axis.get_ylim()
        assert low <= np.nanmin(loss) + 1e-12 and np.nanmax(loss) <= high + 1e-12
        marks = [text.get_text() for text in axis.get_yticklabels()]
        assert len(marks) > 3 and len(set(marks)) == len(marks)


@pytest.mark.parametrize(
    ("size", "first", "dotted"),
    [(3, 2, ()), (6, 3, ("bottom", "right")), (21, -7, ("top", "bottom", "left", "right"))],
)
def test_a_receptive_field_is_framed_within_the_image(size, first, dotted):
    gradient = np.zeros((8, 8))
    gradient[4, 4] = 1
    row = {"endpoint": "conv", "size": [size] * 2, "first": [first] * 2, "effective_size": 1.0}
    axis = drawn("receptive_field", {"rows": [row | {"gradient": gradient}]}).axes[0]
    sides = dict(zip(("top", "bottom", "left", "right"), axis.lines, strict=True))
    for line in sides.values():
        assert np.all((line.get_xydata() >= -0.5) & (line.get_xydata() <= 7.5))
    assert tuple(name for name, line in sides.items() if line.get_linestyle() == ":") == dotted
    if not dotted:
        assert {*sides["top"].get_xdata()} == {*sides["left"].get_ydata()} == {1.5, 4.5}


def test_a_unit_that_no_pixel_moves_has_no_effective_field():
    row = {"endpoint": "conv", "size": [3, 3], "first": [2, 2], "effective_size": 0.0}
    figure = drawn("receptive_field", {"rows": [row | {"gradient": np.zeros((8, 8))}]})
    assert "theory 3, no gradient" in figure.axes[0].get_title()


def test_units_at_one_place_are_counted():
    """Gates that have hardly been trained are seldom nearly shut or open."""
    below, above = np.zeros(16), np.zeros(16)
    below[0], above[0] = 0.5, 0.25
    row = {"gate": "layer1_forward/forget_gate", "below": below, "above": above}
    (axis,) = drawn("gates", {"rows": [row]}).axes
    (points,) = axis.collections
    np.testing.assert_array_equal(points.get_offsets(), [[0, 0], [50, 24]])
    most, single = points.get_sizes()
    assert most > 5 * single
    assert [text.get_text() for text in axis.texts] == ["15 of 16 at (0, 0)"]


def test_the_gradient_through_time_ends_at_the_right():
    for last, scale in ((0.09, "log"), (0.9, "linear"), (None, "linear")):
        row = {"layer": "layer1_forward", "before_end": [0, 1, 2], "norm": [1.0, last, None]}
        (axis,) = drawn("state_gradient", {"rows": [row]}).axes
        first, end = axis.get_xlim()
        assert first > end and axis.get_xlabel() == "steps to the sequence's end"
        assert axis.get_yscale() == scale
