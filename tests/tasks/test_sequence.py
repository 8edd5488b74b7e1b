import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from scipy.special import expit, log_softmax, logsumexp

from research.metrics import edit_distance
from research.models.rnn.network import RecurrentNetwork
from research.tasks.heads import HEADS
from research.tasks.sequence import (
    CTC,
    Polyphony,
    SequenceClassification,
    SequenceRegression,
    collapse,
    least_steps,
)

RNG = np.random.default_rng(0)
B, T, D = 5, 7, 3
LENGTH = np.array([7, 4, 1, 6, 3], np.int32)
MASK = np.array([1, 1, 1, 1, 0], np.float32)
INPUTS = RNG.normal(size=(B, T, D)).astype(np.float32)
BATCH = {"inputs": INPUTS, "length": LENGTH, "mask": MASK}
REAL = (np.arange(T) < LENGTH[:, None]) & (MASK[:, None] > 0)


def network(num_classes, **switches):
    return RecurrentNetwork(num_classes=num_classes, hidden_size=4, **switches)


def outputs_of(task, variables, batch=BATCH):
    outputs, _ = task.model.apply(variables, batch["inputs"], batch["length"])
    return np.asarray(outputs, np.float64)


def judged(task, batch):
    """Variables, outputs, the training loss, and the sums of training and of evaluation."""
    variables = task.init(jax.random.key(0), batch)
    loss, (_, trained, _) = task.loss(variables, batch, jax.random.key(1))
    sums, examples = task.evaluate(variables, batch)
    return variables, outputs_of(task, variables, batch), loss, trained, sums, examples


def test_the_class_of_a_sequence():
    batch = BATCH | {"label": RNG.integers(0, 6, B).astype(np.int32)}
    task = SequenceClassification(network(6), num_classes=6, label_smoothing=0.3)
    _, outputs, loss, _, sums, examples = judged(task, batch)
    log_p, real = log_softmax(outputs, axis=1), MASK > 0
    smoothed = 0.7 * np.eye(6)[batch["label"]] + 0.3 / 6
    np.testing.assert_allclose(loss, -(smoothed * log_p).sum(1)[real].mean(), rtol=1e-5)
    losses = -log_p[np.arange(B), batch["label"]]
    np.testing.assert_allclose(sums["loss"], losses[real].sum(), rtol=1e-5)
    right = outputs.argmax(1) == batch["label"]
    assert sums["accuracy"] == right[real].sum() and sums["count"] == 4
    kept = {name: np.asarray(examples[name])[real] for name in ("outputs", "label")}
    found = task.summarize({"loss": 1.0}, kept)
    assert found.confusion.sum() == 4 and found.metrics["loss"] == 1.0


def test_rare_classes_weigh_more():
    batch = BATCH | {"label": np.array([0, 0, 1, 0, 0], np.int32)}
    task = SequenceClassification(network(2), num_classes=2, class_weights=(0.5, 3.0))
    _, outputs, loss, *_ = judged(task, batch)
    losses = -log_softmax(outputs, axis=1)[np.arange(B), batch["label"]]
    weighted = losses * np.array([0.5, 3.0])[batch["label"]]
    np.testing.assert_allclose(loss, weighted[MASK > 0].mean(), rtol=1e-5)


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_the_class_of_each_step(head):
    batch = BATCH | {"targets": RNG.integers(0, 6, (B, T)).astype(np.int32)}
    task = SequenceClassification(network(6, readout="steps"), head=HEADS[head], num_classes=6)
    _, outputs, loss, trained, sums, examples = judged(task, batch)
    own = np.eye(6)[batch["targets"]]
    if head == "softmax":
        losses = -(own * log_softmax(outputs, axis=-1)).sum(-1)
    else:
        losses = -np.log(np.where(own > 0, expit(outputs), expit(-outputs))).sum(-1)
    np.testing.assert_allclose(loss, losses[REAL].mean(), rtol=1e-5)
    np.testing.assert_allclose(sums["loss"], losses[REAL].sum(), rtol=1e-5)
    assert sums["count"] == trained["count"] == REAL.sum() and examples == {}
    assert sums["accuracy"] == (outputs.argmax(-1) == batch["targets"])[REAL].sum()


@pytest.mark.parametrize("shape", [(), (4, D)])
def test_numbers(shape):
    name = "targets" if shape else "target"
    batch = BATCH | {name: RNG.normal(size=(B, *shape)).astype(np.float32)}
    task = SequenceRegression(network(int(np.prod(shape))))
    _, outputs, loss, _, sums, _ = judged(task, batch)
    error = outputs.reshape(B, *shape) - batch[name]
    np.testing.assert_allclose(loss, (error[MASK > 0] ** 2).mean(), rtol=1e-5)
    np.testing.assert_allclose(sums["mae"] / 4, np.abs(error[MASK > 0]).mean(), rtol=1e-5)


def test_persistence_is_the_last_step_for_all_of_the_future():
    batch = BATCH | {"targets": RNG.normal(size=(B, 4, D)).astype(np.float32)}
    _, _, _, trained, sums, _ = judged(SequenceRegression(network(4 * D)), batch)
    last = INPUTS[np.arange(B), LENGTH - 1]
    error = (last[:, None] - batch["targets"])[MASK > 0]
    np.testing.assert_allclose(sums["persistence_mse"] / 4, (error**2).mean(), rtol=1e-5)
    assert "persistence_mse" not in trained


class Doubling(nn.Module):
    """Forecasts twice the last step, plus how many it has seen before."""

    @nn.compact
    def __call__(self, inputs, lengths=None, state=None, *, train=False):
        scale = self.param("scale", nn.initializers.constant(2.0), ())
        before = jnp.zeros((1, len(inputs), 1)) if state is None else state
        seen = before[0][:, None] + jnp.arange(inputs.shape[1])[None, :, None]
        steps = inputs.shape[1] if lengths is None else lengths[:, None]
        return scale * inputs + seen, {"final_state": before + steps}


def test_recursive_forecasts_are_fed_back():
    full = {"inputs": INPUTS, "length": np.full(B, T, np.int32), "mask": MASK}
    batch = full | {"targets": np.zeros((B, 3, D), np.float32)}
    task = SequenceRegression(Doubling(), recursive=True)
    variables = task.init(jax.random.key(0), full)
    expected, x = [], INPUTS[:, -1]
    for step in range(3):
        x = 2 * x + T - 1 + step
        expected.append(x)
    found = task._unroll(variables, batch)
    np.testing.assert_allclose(found, np.stack(expected, axis=1), rtol=1e-5)
    # In training every step of past and future is forecast from the true one before it.
    batch["targets"] = RNG.normal(size=(B, 3, D)).astype(np.float32)
    loss, _ = task.loss(variables, batch, jax.random.key(0))
    series = np.concatenate([INPUTS, batch["targets"]], axis=1)
    error = 2 * series[:, :-1] + np.arange(T + 2)[:, None] - series[:, 1:]
    np.testing.assert_allclose(loss, (error[MASK > 0] ** 2).mean(), rtol=1e-5)


def test_notes():
    batch = BATCH | {"targets": (RNG.random((B, T, 6)) < 0.3).astype(np.float32)}
    batch["targets"][0, 0] = 0
    task = Polyphony(network(6, readout="steps"))
    _, outputs, loss, _, sums, _ = judged(task, batch)
    played = batch["targets"] > 0
    losses = -np.log(np.where(played, expit(outputs), expit(-outputs))).sum(-1)
    np.testing.assert_allclose(loss, losses[REAL].mean(), rtol=1e-5)
    accuracy = 0.0
    for guessed, meant in zip(outputs[REAL] > 0, played[REAL], strict=True):
        either = (guessed | meant).sum()
        accuracy += (guessed & meant).sum() / either if either else 1
    np.testing.assert_allclose(sums["frame_accuracy"], accuracy, rtol=1e-5)


def test_transcription_is_the_sum_over_all_alignments():
    targets = np.array([[2, 2, 1], [1, 0, 0], [2, 0, 0], [1, 2, 0], [1, 1, 0]], np.int32)
    lengths = np.array([3, 1, 1, 2, 2], np.int32)
    batch = BATCH | {"targets": targets, "target_length": lengths}
    task = CTC(network(3, readout="steps"))
    _, outputs, loss, _, sums, examples = judged(task, batch)
    log_p = log_softmax(outputs, axis=-1)
    losses = []
    for i in range(4):
        meant = list(targets[i, : lengths[i]])
        paths = [
            sum(log_p[i, t, k] for t, k in enumerate(path))
            for path in itertools.product(range(3), repeat=int(LENGTH[i]))
            if collapse(np.array(path)) == meant
        ]
        losses.append(-logsumexp(paths))
    np.testing.assert_allclose(sums["loss"], sum(losses), rtol=1e-4)
    np.testing.assert_allclose(loss, np.mean(losses), rtol=1e-4)
    kept = {k: np.asarray(v)[:4] for k, v in examples.items() if k != "mask"}
    best = np.where(REAL, outputs.argmax(-1), 0)[:4]
    np.testing.assert_array_equal(kept["path"], best)
    errors = [edit_distance(collapse(best[i]), list(targets[i, : lengths[i]])) for i in range(4)]
    found = task.summarize({}, kept).metrics
    assert found["error_rate"] == sum(errors) / 7
    assert found["accuracy"] == np.mean([e == 0 for e in errors])


def test_the_least_steps_of_a_transcription_are_those_of_its_shortest_path():
    targets = np.array([[2, 2, 1, 0], [1, 0, 0, 0], [1, 1, 1, 0], [1, 2, 1, 2], [2, 1, 1, 1]])
    lengths = np.array([3, 1, 3, 4, 2])
    shortest = [
        min(
            steps
            for steps in range(6)
            for path in itertools.product(range(3), repeat=steps)
            if collapse(np.array(path, int)) == list(target[:length])
        )
        for target, length in zip(targets, lengths, strict=True)
    ]
    assert least_steps(targets, lengths).tolist() == shortest == [4, 1, 5, 4, 2]


@pytest.mark.parametrize(
    ("found", "meant", "distance"),
    [
        ("", "", 0),
        ("abc", "", 3),
        ("", "ab", 2),
        ("flaw", "lawn", 2),
        ("intention", "execution", 5),
    ],
)
def test_edit_distance(found, meant, distance):
    assert edit_distance(found, meant) == edit_distance(meant, found) == distance


def test_what_stands_in_padding_changes_nothing():
    batch = BATCH | {"targets": RNG.integers(0, 6, (B, T)).astype(np.int32)}
    task = SequenceClassification(network(6, readout="steps"), num_classes=6)
    variables = task.init(jax.random.key(0), batch)
    other = {**batch}
    for name in ("inputs", "targets"):
        other[name] = np.where(
            REAL.reshape(B, T, *[1] * (batch[name].ndim - 2)), batch[name], 5
        ).astype(batch[name].dtype)
    gradient = [
        jax.grad(lambda p, b=b: task.loss({"params": p}, b, jax.random.key(0))[0])(
            variables["params"]
        )
        for b in (batch, other)
    ]
    for one, two in zip(*map(jax.tree.leaves, gradient), strict=True):
        np.testing.assert_array_equal(one, two)


def test_features_beside_the_sequence_are_read():
    side = RNG.normal(size=(B, 2)).astype(np.float32)
    batch = BATCH | {"label": np.zeros(B, np.int32), "side": side}
    task = SequenceClassification(network(2), num_classes=2)
    variables = task.init(jax.random.key(0), batch)
    assert variables["params"]["head"]["kernel"].shape == (4 + 2, 2)
    _, examples = task.evaluate(variables, batch)
    _, others = task.evaluate(variables, batch | {"side": side[::-1].copy()})
    moved = (side[::-1] - side) @ np.asarray(variables["params"]["head"]["kernel"])[4:]
    np.testing.assert_allclose(others["outputs"] - examples["outputs"], moved, atol=1e-5)
