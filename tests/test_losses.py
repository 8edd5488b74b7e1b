import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit, log_softmax
from sklearn.metrics import log_loss
from sklearn.utils.class_weight import compute_class_weight

from research.losses import (
    balanced_weights,
    example_weights,
    masked_mean,
    sigmoid_cross_entropy,
    softmax_cross_entropy,
    squared_error,
)

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(50, 7)) * 3
LABELS = RNG.integers(0, 7, 50)
ONE_HOT = np.eye(7)[LABELS]
SHARES = RNG.dirichlet(np.ones(7), 50)


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def test_cross_entropy_is_that_of_scikit_learn():
    losses = softmax_cross_entropy(LOGITS, LABELS)
    assert losses.shape == (50,)
    probabilities = np.exp(log_softmax(LOGITS, axis=1))
    np.testing.assert_allclose(losses.mean(), log_loss(LABELS, probabilities, labels=range(7)))


def test_label_smoothing_spreads_its_share_over_all_classes():
    targets = 0.7 * ONE_HOT + 0.3 / 7
    expected = -np.sum(targets * log_softmax(LOGITS, axis=1), axis=1)
    np.testing.assert_allclose(softmax_cross_entropy(LOGITS, LABELS, smoothing=0.3), expected)


def test_large_logits_are_finite():
    losses = softmax_cross_entropy(np.float32([[1e30, 0], [1e4, -1e4]]), np.array([0, 0]))
    np.testing.assert_array_equal(losses, 0)
    losses = sigmoid_cross_entropy(np.float32([[1e30], [-1e4]]), np.array([1, 0]))
    np.testing.assert_array_equal(losses, 0)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_sigmoids_answer_each_class_by_itself(smoothing):
    losses = sigmoid_cross_entropy(LOGITS, LABELS, smoothing=smoothing)
    expected = np.zeros(50)
    for k in range(7):
        yes = (1 - smoothing) * (k == LABELS) + smoothing / 2
        expected -= yes * np.log(expit(LOGITS[:, k])) + (1 - yes) * np.log(expit(-LOGITS[:, k]))
    np.testing.assert_allclose(losses, expected)


def test_one_sigmoid_is_the_softmax_over_two_classes():
    logit, labels = LOGITS[:, :1], LABELS % 2
    both = np.concatenate([np.zeros_like(logit), logit], 1)
    expected = softmax_cross_entropy(both, labels)
    np.testing.assert_allclose(sigmoid_cross_entropy(logit, labels), expected)


def test_squared_error_is_taken_from_the_number_of_the_class():
    outputs = LOGITS[:, :1]
    np.testing.assert_allclose(squared_error(outputs, LABELS), (outputs[:, 0] - LABELS) ** 2)
    mean_number = SHARES @ np.arange(7)
    np.testing.assert_allclose(squared_error(outputs, SHARES), (outputs[:, 0] - mean_number) ** 2)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("loss", [softmax_cross_entropy, sigmoid_cross_entropy])
def test_labels_may_be_numbers_or_shares(loss, smoothing):
    numbers, shares = (loss(LOGITS, x, smoothing=smoothing) for x in (LABELS, ONE_HOT))
    np.testing.assert_allclose(numbers, shares)
    # Both losses are linear in the labels.
    each = np.stack([loss(LOGITS, np.full(50, k), smoothing=smoothing) for k in range(7)], 1)
    mixed = loss(LOGITS, jnp.asarray(SHARES), smoothing=smoothing)
    np.testing.assert_allclose(mixed, np.sum(SHARES * each, axis=1))


def test_one_sigmoid_takes_shares_of_two_classes():
    shares = np.stack([1 - SHARES[:, 0], SHARES[:, 0]], 1)
    each = [sigmoid_cross_entropy(LOGITS[:, :1], np.full(50, k)) for k in (0, 1)]
    expected = shares[:, 0] * each[0] + shares[:, 1] * each[1]
    np.testing.assert_allclose(sigmoid_cross_entropy(LOGITS[:, :1], shares), expected)


def test_balanced_weights_are_those_of_scikit_learn():
    labels = np.repeat([0, 1, 3], [70, 20, 10])
    weights = balanced_weights(labels, 5)
    expected = compute_class_weight("balanced", classes=np.array([0, 1, 3]), y=labels)
    np.testing.assert_allclose(weights[[0, 1, 3]], expected)
    assert weights[2] == weights[4] == 0
    assert weights[labels].mean() == pytest.approx(1)


def test_an_example_is_weighed_by_its_shares():
    weights = jnp.asarray(RNG.random(7))
    np.testing.assert_array_equal(example_weights(weights, LABELS), weights[LABELS])
    np.testing.assert_allclose(example_weights(weights, ONE_HOT), weights[LABELS])


def test_masked_mean():
    values = jnp.array([1.0, 2.0, 6.0, np.nan, np.inf])
    assert masked_mean(values, jnp.array([1, 0, 1, 0, 0])) == 3.5
    assert masked_mean(values, jnp.zeros(5)) == 0
