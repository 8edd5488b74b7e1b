"""The pictures of what recurrent networks do through time."""

import json

import numpy as np
import pytest
from synthetic_workdir import write_workdir

from research.report.plots.style import png
from research.report.plots.through_time import gates, state_gradients
from research.report.runs import read_experiment


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """Two arms, of which one has gates, two seeds, and diagnostics at steps 1 and 40."""
    workdir = tmp_path_factory.mktemp("through_time")
    write_workdir(
        workdir,
        arms=["rnn", "lstm"],
        seeds=range(2),
        diverged=(),
        unfinished=(),
        tune=False,
        steps=40,
        baseline="rnn",
    )
    for arm in ("rnn", "lstm"):
        for seed in range(2):
            path = workdir / arm / f"seed_{seed}" / "metrics.jsonl"
            rows = [json.loads(line) for line in path.read_text().splitlines()]
            for step in (1, 40):
                row = {"step": step}
                for t in (1, 10, 2):
                    value = 4.0**seed * 2.0**-t
                    row[f"diagnostics/state_gradient/layer1_forward/t={t}"] = value
                if arm == "lstm":
                    row["diagnostics/gate_below/layer1_forward/forget_gate"] = 0.1 * seed
                    row["diagnostics/gate_above/layer1_forward/forget_gate"] = step / 100
                rows.append(row)
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_experiment(workdir)


def test_gradients_are_geometric_means_in_order_of_time(experiment):
    figure, rows = state_gradients(experiment, {})
    (axis, _) = figure.axes
    curve = axis.lines[0]
    np.testing.assert_array_equal(curve.get_xdata(), [1, 2, 10])
    np.testing.assert_allclose(curve.get_ydata(), [1.0, 0.5, 2.0**-9])
    assert {row["step"] for row in rows} == {1, 40} and len(rows) == 2 * 2 * 3
    assert png(figure)


def test_gates_are_means_of_the_last_shares(experiment):
    figure, (row,) = gates(experiment, {})
    assert (row["arm"], row["gate"], row["n"]) == ("lstm", "forget_gate", 2)
    assert (row["below"], row["above"]) == (pytest.approx(0.05), pytest.approx(0.4))
    assert png(figure)


def test_runs_without_them_have_no_such_picture(tmp_path):
    write_workdir(tmp_path, arms=["none"], seeds=(0,), diverged=(), tune=False, steps=10)
    experiment = read_experiment(tmp_path)
    assert state_gradients(experiment, {}) is None and gates(experiment, {}) is None
