"""Diagnostics through time against an LSTM in a loop, restarted at each of its steps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.data.sources import load_dataset
from research.files import read_rows
from research.models.rnn.network import RecurrentNetwork
from research.tasks import through_time as module
from research.tasks.sequence import SequenceRegression
from research.tasks.through_time import through_time

B, T, D, H = 4, 6, 2, 3
RNG = np.random.default_rng(0)
BATCH = {
    "inputs": 3 * RNG.normal(size=(B, T, D)).astype(np.float32),
    "length": np.array([6, 4, 1, 5], np.int32),
    "mask": np.array([1, 1, 1, 0], np.float32),
    "target": RNG.normal(size=B).astype(np.float32),
}
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def lstm():
    task = SequenceRegression(RecurrentNetwork(num_classes=1, hidden_size=H))
    return task, task.init(KEY, BATCH)


def gates(params, t, h):
    p = params["layer1_forward"]
    y = BATCH["inputs"][:, t] @ p["input_kernel"] + p["input_bias"]
    y = y + h @ p["recurrent_kernel"] + p["recurrent_bias"]
    i, f, g, o = jnp.split(y, 4, axis=1)
    return jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g), jax.nn.sigmoid(o)


def run(params, first, state, until=T):
    """From the state before step `first` to that before `until`; padding leaves it as it is."""
    for t in range(first, until):
        i, f, g, o = gates(params, t, state[0])
        c = f * state[1] + i * g
        on = (t < BATCH["length"])[:, None]
        state = jnp.where(on, o * jnp.tanh(c), state[0]), jnp.where(on, c, state[1])
    return state


def mean_loss(params, h):
    outputs = (h @ params["head"]["kernel"] + params["head"]["bias"])[:, 0]
    return jnp.sum(jnp.square(outputs - BATCH["target"]) * BATCH["mask"]) / BATCH["mask"].sum()


def test_the_gradient_of_each_state(lstm, monkeypatch):
    """Of a sequence that has ended at step t, h_t is its last state, which is not nudged again."""
    task, variables = lstm
    found = jax.jit(lambda *v: through_time(task, *v))(variables, BATCH, KEY)
    params, zeros = variables["params"], jnp.zeros((B, H))
    for t in range(T):
        h, c = run(params, 0, (zeros, zeros), t + 1)
        slope = jax.grad(lambda h: mean_loss(params, run(params, t + 1, (h, c))[0]))(h)  # noqa: B023
        slope = slope[t < BATCH["length"]]
        expected = np.linalg.norm(slope)
        assert found[f"state_gradient/layer1_forward/t={t + 1}"] == pytest.approx(
            expected, rel=1e-4, abs=1e-9
        )
    monkeypatch.setattr(module, "PLACES", 3)
    fewer = jax.eval_shape(lambda *v: through_time(task, *v), variables, BATCH, KEY)
    places = [name.rpartition("=")[2] for name in fewer if name.startswith("state_gradient")]
    assert places == ["1", "3", "6"]


def test_the_share_of_gates_that_are_shut_or_open(lstm):
    task, variables = lstm
    found = through_time(task, variables, BATCH, KEY)
    params = variables["params"]
    state, values = (jnp.zeros((B, H)),) * 2, {0: [], 1: [], 3: []}
    for t in range(T):
        real = (t < BATCH["length"]) & (BATCH["mask"] > 0)
        now = gates(params, t, state[0])
        for which, kept in values.items():
            kept.append(now[which][real])
        state = run(params, t, state, t + 1)
    for which, gate in {0: "input_gate", 1: "forget_gate", 3: "output_gate"}.items():
        every = np.concatenate(values[which])
        below, above = np.mean(every < 0.1), np.mean(every > 0.9)
        assert found[f"gate_below/layer1_forward/{gate}"] == pytest.approx(below, abs=1e-6)
        assert found[f"gate_above/layer1_forward/{gate}"] == pytest.approx(above, abs=1e-6)
    assert found["gate_above/layer1_forward/forget_gate"] > 0


def test_the_gates_of_a_recursive_forecast_are_those_of_past_and_future():
    """The shares against the gates themselves, over the 6 + 3 − 1 steps that are taught."""
    task = SequenceRegression(
        RecurrentNetwork(num_classes=D, hidden_size=H, readout="steps"), recursive=True
    )
    batch = {k: v for k, v in BATCH.items() if k != "target"} | {
        "length": np.full(B, T, np.int32),
        "targets": 9 * RNG.normal(size=(B, 3, D)).astype(np.float32),
    }
    variables = jax.tree.map(lambda x: 3 * x, task.init(KEY, batch))
    found = through_time(task, variables, batch, KEY)
    series = np.concatenate([batch["inputs"], batch["targets"]], axis=1)[:, :-1]
    _, endpoints = task.model.apply(variables, series, record=True)
    for gate in ("input_gate", "forget_gate", "output_gate"):
        every = np.asarray(endpoints[f"layer1_forward/{gate}"])[:3]  # the last sequence is padding
        assert every.shape == (3, 8, H)
        share = found[f"gate_above/layer1_forward/{gate}"]
        assert share == pytest.approx(np.mean(every > 0.9), abs=1e-6) and share > 0


def test_every_layer_and_direction_is_told_of():
    model = RecurrentNetwork(
        num_classes=1, cell="min_gru", hidden_size=H, num_layers=2, bidirectional=True
    )
    task = SequenceRegression(model)
    variables = jax.eval_shape(task.init, KEY, BATCH)
    found = jax.eval_shape(lambda *v: through_time(task, *v), variables, BATCH, KEY)
    layers = {name.split("/")[1] for name in found}
    assert layers == {f"layer{i}_{d}" for i in (1, 2) for d in ("forward", "backward")}
    quantities = {name.split("/")[0] for name in found}
    assert quantities == {"state_gradient", "gate_below", "gate_above"}


def test_a_run_records_them_and_is_not_changed_by_them(train_run, tmp_path):
    adding = {"data.name": "adding", "data.train_size": 64, "data.length": 8}
    changes = {"model.name": "recurrent", "model.hidden": None, "model.hidden_size": 4}
    changes |= adding | {"train.steps": 2, "train.eval_every": 2}
    dataset = load_dataset("adding", train_size=64, length=8)
    plain = train_run("plain", changes, dataset=dataset)
    seen = train_run("seen", changes | {"train.diagnostics_every": 2}, dataset=dataset)
    assert plain["metrics"].items() <= seen["metrics"].items()  # which also tell of the gradient
    rows = [
        row
        for row in read_rows(tmp_path / "seen" / "metrics.jsonl")
        if "diagnostics/state_gradient/layer1_forward/t=1" in row
    ]
    assert [row["step"] for row in rows] == [1, 2]
    assert all(0 < row["diagnostics/state_gradient/layer1_forward/t=8"] < 10 for row in rows)
