"""What the rows of a run say of its gradient, against powers of ten put there by hand."""

import math

import pytest

from research.train.history import gradients


def rows(layers, steps):
    """Two rows of diagnostics, of which the second is to be ignored, after one without."""
    first = {f"diagnostics/gradient_norm/{name}": norm for name, norm in layers.items()}
    first |= {f"diagnostics/state_gradient/layer1_forward/t={t}": g for t, g in steps.items()}
    return [{"step": 1, "train/loss": 2.0}, first, dict.fromkeys(first, 1.0)]


def test_flow_spread_and_reach_are_powers_of_ten():
    # As a compiled program returns them, steps stand in the order of their names.
    found = gradients(rows({"stem": 1e-3, "block": 1e-5, "head": 0.1}, {1: 1e-4, 10: 10.0, 2: 1.0}))
    assert found["gradient_first"] == pytest.approx(-3)
    assert found["gradient_flow"] == pytest.approx(-2)
    assert found["gradient_spread"] == pytest.approx(4)
    assert found["gradient_reach"] == pytest.approx(-5)


def test_what_underflows_counts_as_next_to_nothing_and_what_is_not_finite_as_unknown():
    found = gradients(rows({}, {1: 0.0, 2: 1.0}))
    assert found == {"gradient_reach": pytest.approx(-30)}
    found = gradients(rows({"stem": None, "block": 1.0, "head": 1.0}, {}))
    assert math.isnan(found["gradient_flow"]) and math.isnan(found["gradient_spread"])
    assert gradients([{"step": 1, "train/loss": 2.0}]) == {}
