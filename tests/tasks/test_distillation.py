"""Distillation in closed form: the loss, its gradient, the share of each part, and the hint."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from research.losses import distillation_divergence
from research.models import create_model
from research.tasks.classification import Classification
from research.tasks.distillation import HINT, LOGITS, Distillation

T, W, BETA = 3.0, 0.7, 0.25


@pytest.fixture(scope="module")
def batch(digits):
    """Some digits, of which the last are padding, and what a teacher says of them."""
    images, labels = (array[:12] for array in digits.train.arrays().values())
    rng = np.random.default_rng(0)
    answers = {LOGITS: rng.normal(size=(12, 10)), HINT: rng.normal(size=(12, 6))}
    mask = np.float32([1] * 9 + [0] * 3)
    batch = {"image": images, "label": labels, "mask": mask}
    return batch | {name: np.float32(array) for name, array in answers.items()}


@pytest.fixture(scope="module")
def student():
    model = create_model("mlp", num_classes=10, hidden=(8, 5))
    return Classification(model, mean=(0.3,), std=(0.4,), num_classes=10, label_smoothing=0.1)


def soft(logits, teacher):
    """T² Σ p (log p − log q), in float64."""
    p = softmax(np.float64(teacher) / T, -1)
    apart = log_softmax(np.float64(teacher) / T, -1) - log_softmax(np.float64(logits) / T, -1)
    return T**2 * (p * apart).sum(-1)


def test_soft_targets_in_closed_form():
    rng = np.random.default_rng(1)
    logits, teacher = np.float32(rng.normal(size=(2, 4, 7)) * 5)
    found = distillation_divergence(logits, teacher, T)
    np.testing.assert_allclose(found, soft(logits, teacher), rtol=1e-4)
    # Hinton et al., eq. 2, times T²: T (q − p); of the order of (z − v) / N at large T, eq. 4.
    gradient = jax.grad(lambda z: distillation_divergence(z, teacher, T).sum())(logits)
    np.testing.assert_allclose(
        gradient, T * (softmax(logits / T, -1) - softmax(teacher / T, -1)), atol=1e-5
    )
    hot = jax.grad(lambda z: distillation_divergence(z, teacher, 1e3).sum())(logits)
    z, v = (x - x.mean(-1, keepdims=True) for x in (logits, teacher))
    np.testing.assert_allclose(hot, (z - v) / 7, atol=0.02)
    np.testing.assert_allclose(distillation_divergence(teacher, teacher, T), 0, atol=1e-5)


def test_the_loss_is_the_mixture(student, batch):
    """(1 − w) hard + w T² KL + β MSE, over what is no padding, as NumPy has it."""
    task = Distillation(student, T, W, "act1", BETA, hint_channels=6)
    variables = task.init(jax.random.key(0), batch)
    alone = student.init(jax.random.key(0), batch)
    regressor = variables["params"]["hint_regressor"]
    assert regressor["kernel"].shape == (8, 6)
    own = {k: v for k, v in variables["params"].items() if k != "hint_regressor"}
    jax.tree.map(np.testing.assert_array_equal, own, alone["params"])  # the draws of one alone
    loss, (_, sums, endpoints) = task.loss(variables, batch, jax.random.key(1))
    hard, (_, before, _) = student.loss(alone, batch, jax.random.key(1))
    softened = soft(endpoints["logits"], batch[LOGITS])[:9].mean()
    regressed = endpoints["act1"] @ regressor["kernel"] + regressor["bias"]
    hint = np.square(regressed - batch[HINT])[:9].mean()
    assert float(loss) == pytest.approx(
        (1 - W) * float(hard) + W * softened + BETA * hint, rel=1e-5
    )
    assert float(sums["soft_loss"]) == pytest.approx(9 * softened, rel=1e-5)
    assert float(sums["hint_loss"]) == pytest.approx(9 * hint, rel=1e-5)
    for name in ("loss", "accuracy", "count"):
        assert float(sums[name]) == pytest.approx(float(before[name]))


def test_weights_zero_and_one(student, batch):
    """Of no weight, the teacher changes nothing; of all, the labels do not count."""
    variables = student.init(jax.random.key(0), batch)

    def gradient(weight, batch):
        task = Distillation(student, T, weight)
        return jax.grad(lambda v: task.loss(v, batch, jax.random.key(1))[0])(variables)

    other = batch | {LOGITS: -batch[LOGITS]}
    relabelled = batch | {"label": 9 - batch["label"]}

    def equal(one, two):
        return all(jax.tree.leaves(jax.tree.map(lambda x, y: bool(jnp.allclose(x, y)), one, two)))

    assert equal(gradient(0.0, batch), gradient(0.0, other))
    assert not equal(gradient(0.0, batch), gradient(0.0, relabelled))
    assert equal(gradient(1.0, batch), gradient(1.0, relabelled))
    assert not equal(gradient(1.0, batch), gradient(1.0, other))
