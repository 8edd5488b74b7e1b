"""Metrics against scikit-learn, on scores that are random, imbalanced, tied and degenerate."""

import warnings

import jax
import numpy as np
import pytest
from scipy.special import softmax
from sklearn import metrics as reference
from sklearn.calibration import calibration_curve
from sklearn.exceptions import UndefinedMetricWarning

from research.config import UserError
from research.losses import softmax_cross_entropy
from research.metrics import (
    balanced_accuracy,
    calibration_sums,
    classification_sums,
    confusion_matrix,
    expected_calibration_error,
    matthews,
    mean,
    precision_recall_f1,
    regression_sums,
    roc_auc,
    roc_auc_one_vs_rest,
    roc_curve,
    specificity,
    top_k_correct,
)

RNG = np.random.default_rng(0)
K = 7


def scored(labels, spread=1.0, decimals=None):
    """Probabilities that favour the labels a little, of few values where `decimals` says so."""
    logits = RNG.normal(size=(len(labels), K)) + spread * np.eye(K)[labels]
    probabilities = softmax(logits, axis=1)
    return labels, probabilities if decimals is None else probabilities.round(decimals)


CASES = {
    "random": scored(RNG.integers(0, K, 200)),
    "imbalanced": scored(RNG.choice(K, 300, p=[0.9, 0.05, 0.02, 0.01, 0.01, 0.005, 0.005])),
    "tied": scored(RNG.integers(0, K, 200), decimals=1),
    "a class without examples": scored(RNG.choice([0, 1, 2, 4, 5, 6], 100)),
    "one class only": scored(np.full(20, 3)),
    "one example": scored(np.array([2])),
    "all predicted alike": (RNG.integers(0, K, 50), np.tile(softmax(np.arange(K)), (50, 1))),
    "constant scores": (RNG.integers(0, K, 50), np.full((50, K), 1 / K)),
    "perfect": (np.arange(50) % K, np.eye(K)[np.arange(50) % K]),
    "all wrong": (np.arange(50) % K, np.eye(K)[(np.arange(50) + 1) % K]),
}
EVERY = pytest.mark.parametrize(("labels", "scores"), CASES.values(), ids=CASES)
AVERAGE = pytest.mark.parametrize("average", [None, "macro", "micro", "weighted"])
CLASSES = list(range(K))


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


def confusion_of(labels, scores):
    return np.asarray(confusion_matrix(labels, scores.argmax(1), K))


@EVERY
def test_confusion_matrix(labels, scores):
    expected = reference.confusion_matrix(labels, scores.argmax(1), labels=CLASSES)
    np.testing.assert_array_equal(confusion_of(labels, scores), expected)


@EVERY
@AVERAGE
@pytest.mark.parametrize("zero_division", [0.0, 1.0, np.nan])
def test_precision_recall_f1(labels, scores, average, zero_division):
    found = precision_recall_f1(confusion_of(labels, scores), average, zero_division)
    *expected, _ = reference.precision_recall_fscore_support(
        labels, scores.argmax(1), labels=CLASSES, average=average, zero_division=zero_division
    )
    for name, value, wanted in zip(found._fields, found, expected, strict=True):
        assert np.shape(value) == (() if average else (K,))
        np.testing.assert_allclose(value, wanted, rtol=0, atol=1e-9, err_msg=name)


@EVERY
@AVERAGE
def test_specificity_is_the_recall_of_the_rest(labels, scores, average):
    found = specificity(confusion_of(labels, scores), average)
    predictions = scores.argmax(1)
    each = [reference.recall_score(labels != k, predictions != k, zero_division=0) for k in CLASSES]
    if average is None:
        return close(found, each)
    support = np.bincount(labels, minlength=K)
    rest = labels[:, None] != np.arange(K), predictions[:, None] != np.arange(K)
    expected = {
        "macro": np.mean(each),
        "weighted": np.average(each, weights=support),
        "micro": reference.recall_score(*(x.ravel() for x in rest)),
    }
    close(found, expected[average])


@EVERY
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@pytest.mark.filterwarnings("ignore:A single label was found")
def test_balanced_accuracy(labels, scores):
    expected = reference.balanced_accuracy_score(labels, scores.argmax(1))
    close(balanced_accuracy(confusion_of(labels, scores)), expected)


@EVERY
@pytest.mark.filterwarnings("ignore:A single label was found")
def test_matthews(labels, scores):
    expected = reference.matthews_corrcoef(labels, scores.argmax(1))
    assert matthews(confusion_of(labels, scores)) == pytest.approx(expected, abs=1e-12)


def test_without_examples_nothing_is_known():
    nothing = np.zeros((3, 3))
    assert matthews(nothing) == 0
    assert np.isnan(balanced_accuracy(nothing))
    assert precision_recall_f1(nothing, "weighted").f1 == 0
    assert np.isnan(roc_auc(np.zeros(0), np.zeros(0)))
    assert np.isnan(roc_auc_one_vs_rest(np.zeros((0, 3)), np.zeros(0, int)))
    sums = calibration_sums(np.zeros(0), np.zeros(0, bool))
    assert np.isnan(expected_calibration_error(sums))


@EVERY
@pytest.mark.parametrize("k", [1, 2, 5, 6])
def test_top_k(labels, scores, k):
    expected = reference.top_k_accuracy_score(labels, scores, k=k, labels=CLASSES, normalize=False)
    assert top_k_correct(scores, labels, k) == expected


def test_what_is_not_a_number_is_in_no_top_k():
    scores = np.full((2, 8), np.nan)
    assert top_k_correct(scores, np.array([0, 7]), 5) == 0
    assert top_k_correct(np.eye(8), np.arange(8), 8) == 8


@EVERY
def test_roc_curve_and_area(labels, scores):
    for k in CLASSES:
        found = roc_curve(scores[:, k], labels == k)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UndefinedMetricWarning)
            expected = reference.roc_curve(labels == k, scores[:, k], drop_intermediate=False)
        for value, wanted in zip(found, expected, strict=True):
            close(value, wanted)
        area = roc_auc(scores[:, k], labels == k)
        close(area, np.trapezoid(found.true_positive_rate, found.false_positive_rate))
        if 0 < np.sum(labels == k) < len(labels):
            close(area, reference.roc_auc_score(labels == k, scores[:, k]))
        else:
            assert np.isnan(area)


@EVERY
@pytest.mark.parametrize("average", ["macro", "weighted", "micro", None])
def test_one_vs_rest_area(labels, scores, average):
    found = roc_auc_one_vs_rest(scores, labels, average)
    present, counts = np.unique(labels, return_counts=True)
    if len(present) == 1 and average != "micro":
        return np.testing.assert_array_equal(found, np.nan)
    binary = labels[:, None] == np.arange(K)
    if average == "micro":
        return close(found, reference.roc_auc_score(binary, scores, average="micro"))
    each = np.full(K, np.nan)
    each[present] = [reference.roc_auc_score(binary[:, k], scores[:, k]) for k in present]
    if average is None:
        return close(found, each)
    expected = np.average(each[present], weights=counts if average == "weighted" else None)
    close(found, expected)
    if len(present) == K and np.allclose(scores.sum(1), 1):
        close(
            found,
            reference.roc_auc_score(labels, scores, multi_class="ovr", average=average),
        )


def test_area_is_exact_for_single_precision():
    """Ranks, not sums of rates: half a million scores with many ties."""
    labels = RNG.random(500_000) < 0.01
    scores = (RNG.normal(size=500_000) + labels).round(2).astype(np.float32)
    close(roc_auc(scores, labels), reference.roc_auc_score(labels, scores))
    assert np.isnan(roc_auc(np.array([0.1, np.nan]), np.array([True, False])))


@EVERY
@pytest.mark.parametrize("bins", [1, 10, 15])
def test_calibration(labels, scores, bins):
    confidences, correct = scores.max(1), scores.argmax(1) == labels
    sums = jax.device_get(calibration_sums(confidences, correct, bins))
    filled = sums["count"] > 0
    accuracy, confidence = calibration_curve(correct, confidences, n_bins=bins)
    close(sums["accuracy"][filled] / sums["count"][filled], accuracy)
    close(sums["confidence"][filled] / sums["count"][filled], confidence)
    share = sums["count"][filled] / len(labels)
    close(expected_calibration_error(sums), np.sum(share * np.abs(accuracy - confidence)))


def test_calibration_error_by_hand():
    """Guo's bins hold their upper edge: 0.8 is in (0.6, 0.8], with 0.7."""
    sums = calibration_sums(np.array([0.8, 0.7, 0.9]), np.array([True, False, True]), 5)
    error = expected_calibration_error(jax.device_get(sums))
    assert error == pytest.approx((2 * abs(0.5 - 0.75) + abs(1 - 0.9)) / 3)


def test_regression():
    labels, outputs = RNG.integers(0, K, 60), RNG.normal(size=60) * 4
    found = mean([jax.device_get(regression_sums(outputs, labels))], "test/")
    assert found == {
        "test/mse": pytest.approx(reference.mean_squared_error(labels, outputs)),
        "test/mae": pytest.approx(reference.mean_absolute_error(labels, outputs)),
    }


def test_an_unknown_average_names_the_known():
    with pytest.raises(UserError, match=r"'macr', expected one of None, macro.*'macro'"):
        precision_recall_f1(np.eye(2), "macr")


def batches(labels, scores, size):
    """Batches of `size`, the last padded with what would count if it were seen."""
    padding = -len(labels) % size
    mask = np.r_[np.ones(len(labels)), np.zeros(padding)]
    labels, scores = np.r_[labels, np.zeros(padding, int)], np.r_[scores, np.ones((padding, K))]
    for i in range(0, len(labels), size):
        yield labels[i : i + size], scores[i : i + size], mask[i : i + size]


@EVERY
def test_sums_add_over_batches_and_leave_padding_out(labels, scores):
    parts = [
        jax.device_get(
            {
                "confusion": confusion_matrix(y, s.argmax(1), K, m),
                "top": top_k_correct(s, y, 2, m),
                "calibration": calibration_sums(s.max(1), s.argmax(1) == y, 10, m),
                "regression": regression_sums(s[:, 0], y, m),
            }
        )
        for y, s, m in batches(labels, scores, 16)
    ]
    added = jax.tree.map(lambda *x: sum(x), *parts)
    np.testing.assert_array_equal(added["confusion"], confusion_of(labels, scores))
    assert added["top"] == top_k_correct(scores, labels, 2)
    whole = calibration_sums(scores.max(1), scores.argmax(1) == labels, 10)
    jax.tree.map(close, added["calibration"], jax.device_get(whole))
    jax.tree.map(close, added["regression"], jax.device_get(regression_sums(scores[:, 0], labels)))


def test_sums_add_over_devices():
    """Compiled for a batch that is split over eight devices."""
    from jax.sharding import NamedSharding, PartitionSpec

    from research.distributed.mesh import make_mesh

    labels, scores = CASES["random"]
    sharding = NamedSharding(make_mesh(jax.devices()[:8]), PartitionSpec("data"))
    y, s = jax.device_put((labels, scores), sharding)

    def sums(y, s):
        p = s.argmax(1)
        return confusion_matrix(y, p, K), top_k_correct(s, y, 3), calibration_sums(s.max(1), p == y)

    jax.tree.map(close, *(jax.device_get(x) for x in (jax.jit(sums)(y, s), sums(labels, scores))))


def test_loss_and_accuracy():
    labels, scores = CASES["random"]
    losses = np.array(softmax_cross_entropy(scores, labels))
    padded = (
        np.r_[losses, np.full(10, np.nan)],
        np.r_[scores.argmax(1), np.zeros(10, int)],
        np.r_[labels, np.zeros(10, int)],
        np.r_[np.ones(200, np.float32), np.zeros(10, np.float32)],
    )
    sums = [jax.device_get(classification_sums(*(a[i : i + 70] for a in padded))) for i in (0, 70)]
    sums.append(jax.device_get(classification_sums(*(a[140:] for a in padded))))
    assert mean(sums, "test/") == {
        "test/loss": pytest.approx(losses.mean()),
        "test/accuracy": pytest.approx(reference.accuracy_score(labels, scores.argmax(1))),
    }
    shares = classification_sums(losses, scores.argmax(1), np.eye(K)[labels], np.ones(200))
    assert shares["accuracy"] == np.sum(scores.argmax(1) == labels)


def test_means_keep_float64():
    assert mean([{"a": np.float32(2**24), "count": 1}, {"a": np.float32(1), "count": 0}]) == {
        "a": 2**24 + 1
    }
