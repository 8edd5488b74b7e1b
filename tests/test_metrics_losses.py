import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn.metrics import accuracy_score, log_loss

from research.losses import masked_mean, softmax_cross_entropy
from research.metrics import classification_sums, mean

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(50, 7)) * 3
LABELS = RNG.integers(0, 7, 50)


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
    targets = 0.7 * np.eye(7)[LABELS] + 0.3 / 7
    expected = -np.sum(targets * log_softmax(LOGITS, axis=1), axis=1)
    np.testing.assert_allclose(softmax_cross_entropy(LOGITS, LABELS, smoothing=0.3), expected)


def test_large_logits_are_finite():
    losses = softmax_cross_entropy(np.float32([[1e30, 0], [1e4, -1e4]]), np.array([0, 0]))
    np.testing.assert_array_equal(losses, 0)


def test_sums_add_over_batches_and_leave_padding_out():
    losses = np.array(softmax_cross_entropy(LOGITS, LABELS))
    mask = np.ones(60, np.float32)
    mask[50:] = 0
    padded = (
        np.r_[losses, np.full(10, np.nan)],
        np.r_[LOGITS, np.zeros((10, 7))],
        np.r_[LABELS, np.zeros(10, int)],
        mask,
    )
    sums = [
        jax.device_get(classification_sums(*(a[i : i + 20] for a in padded))) for i in (0, 20, 40)
    ]
    metrics = mean(sums, "test/")
    assert metrics == {
        "test/loss": pytest.approx(losses.mean()),
        "test/accuracy": pytest.approx(accuracy_score(LABELS, LOGITS.argmax(1))),
    }


def test_masked_mean():
    values = jnp.array([1.0, 2.0, 6.0, np.nan, np.inf])
    assert masked_mean(values, jnp.array([1, 0, 1, 0, 0])) == 3.5
    assert masked_mean(values, jnp.zeros(5)) == 0


def test_means_keep_float64():
    assert mean([{"a": np.float32(2**24), "count": 1}, {"a": np.float32(1), "count": 0}]) == {
        "a": 2**24 + 1
    }
