"""Metrics as sums and counts: they add over batches, devices and hosts; a ratio is taken last.

A metric sum is a dict that holds `count` beside the sums, so that its means are `sum / count`. What
sums are taken of examples here is jittable, and leaves out those whose `mask` is 0; the ratios are
NumPy's, in float64. Only the area under the ROC curve is no ratio of sums: it needs all scores.

    confusion = sum(confusion_matrix(b["label"], predictions(b), 10, b["mask"]) for b in batches)
    precision, recall, f1 = precision_recall_f1(confusion, average="macro")
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from research.config import unknown

AVERAGES = (None, "macro", "micro", "weighted")


def classification_sums(
    loss: jax.Array, predictions: jax.Array, labels: jax.Array, mask: jax.Array
) -> dict[str, jax.Array]:
    """Return the sums of loss and accuracy over the examples where `mask` is 1.

    Args:
        loss: float[N], per example.
        predictions: int[N], the predicted classes.
        labels: int[N], or float[N, K], of which the largest counts.
        mask: float[N], 0 for padding.
    """
    if labels.ndim == 2:
        labels = jnp.argmax(labels, axis=-1)
    return {
        "loss": jnp.sum(jnp.where(mask > 0, loss, 0)),
        "accuracy": jnp.sum((predictions == labels) * mask),
        "count": jnp.sum(mask),
    }


def mean(sums: Iterable[Mapping[str, np.ndarray]], prefix: str = "") -> dict[str, float]:
    """Add metric sums (on the host, in float64) and divide by their count.

    Example:
        >>> mean([{"loss": 3.0, "count": 2}, {"loss": 1.0, "count": 2}], "train/")
        {'train/loss': 1.0}
    """
    sums = list(sums)
    total = {name: sum(np.float64(s[name]) for s in sums) for name in sums[0]}
    count = total.pop("count")
    return {prefix + name: float(value / count) for name, value in total.items()}


def regression_sums(outputs: jax.Array, targets: jax.Array, mask: jax.Array | None = None):
    """Return the sums of squared (`mse`) and absolute errors (`mae`) of outputs [N]."""
    real = _real(targets, mask)
    error = jnp.where(real, outputs - targets, 0)
    return {
        "mse": jnp.sum(jnp.square(error)),
        "mae": jnp.sum(jnp.abs(error)),
        "count": jnp.sum(real),
    }


def top_k_correct(
    scores: jax.Array, labels: jax.Array, k: int = 5, mask: jax.Array | None = None
) -> jax.Array:
    """Return how many labels are among the k highest of the scores [N, K].

    Of equal scores the later class ranks first, as in scikit-learn. A score that is not a number is
    never among them.
    """
    own = jnp.take_along_axis(scores, labels[:, None], axis=-1)
    later = jnp.arange(scores.shape[-1]) > labels[:, None]
    ahead = jnp.sum((scores > own) | ((scores == own) & later), axis=-1)
    return jnp.sum((ahead < k) & ~jnp.isnan(own[:, 0]) & _real(labels, mask))


def confusion_matrix(
    labels: jax.Array, predictions: jax.Array, num_classes: int, mask: jax.Array | None = None
) -> jax.Array:
    """Count the examples of each class (rows) by the class that is predicted (columns).

    Args:
        labels: int[N].
        predictions: int[N].
        num_classes: K.
        mask: [N], 0 for padding; None counts all.

    Returns:
        int32[K, K]; predictions outside [0, K) are in no cell.
    """
    inside = (predictions >= 0) & (predictions < num_classes) & _real(labels, mask)
    zeros = jnp.zeros((num_classes, num_classes), jnp.int32)
    return zeros.at[labels, predictions].add(inside.astype(jnp.int32))


def calibration_sums(
    confidences: jax.Array, correct: jax.Array, bins: int = 15, mask: jax.Array | None = None
) -> dict[str, jax.Array]:
    """Return the sums of confidence and accuracy in each of `bins` equal parts of [0, 1].

    Args:
        confidences: float[N], the probability of the predicted class.
        correct: bool[N], whether that is the label.
        bins: B; each holds its upper edge, the first 0 too.
        mask: [N], 0 for padding.

    Returns:
        A metric sum of [B] arrays, `confidence`, `accuracy` and `count`; see
        `expected_calibration_error`.
    """
    edges = jnp.linspace(0, 1, bins + 1, dtype=confidences.dtype)[1:-1]
    place = jnp.searchsorted(edges, confidences)
    real = _real(correct, mask)

    def add(values):
        return jnp.zeros(bins, confidences.dtype).at[place].add(jnp.where(real, values, 0))

    return {"confidence": add(confidences), "accuracy": add(correct), "count": add(real)}


def expected_calibration_error(sums: Mapping[str, np.ndarray]) -> float:
    """Return the mean distance of confidence and accuracy over the bins, by their counts.

    NaN where there are no examples.

    References:
        C. Guo et al., On Calibration of Modern Neural Networks, ICML 2017, equation 3.
    """
    gap = np.abs(np.float64(sums["accuracy"]) - np.float64(sums["confidence"]))
    return _ratio(gap.sum(), np.sum(sums["count"]), np.nan).item()


class PrecisionRecallF1(NamedTuple):
    """A number each, or one for each class, float64[K]."""

    precision: np.ndarray | float
    recall: np.ndarray | float
    f1: np.ndarray | float


def precision_recall_f1(
    confusion: np.ndarray, average: str | None = None, zero_division: float = 0.0
) -> PrecisionRecallF1:
    """Return precision, recall and F1 of a confusion matrix.

    Args:
        confusion: [K, K], rows by label, columns by prediction.
        average: None, each class by itself; "macro", the mean over the classes; "micro", of all
            classes' counts together (the accuracy, where each example has one label); "weighted",
            the mean by the number of examples.
        zero_division: the value of what is undefined, 0/0: the precision of a class that is never
            predicted, the recall of one without examples, the F1 of one that is neither. NaN leaves
            it out of averages. The same as in scikit-learn with `labels=range(K)`.
    """
    confusion = np.float64(confusion)
    hits, labelled, predicted = np.diag(confusion), confusion.sum(1), confusion.sum(0)
    support = labelled
    if average == "micro":
        hits, labelled, predicted = hits.sum(), labelled.sum(), predicted.sum()
    values = (
        _ratio(hits, predicted, zero_division),
        _ratio(hits, labelled, zero_division),
        _ratio(2 * hits, labelled + predicted, zero_division),
    )
    return PrecisionRecallF1(*(_average(value, average, support) for value in values))


def specificity(
    confusion: np.ndarray, average: str | None = None, zero_division: float = 0.0
) -> np.ndarray | float:
    """Return the share of the examples of other classes that are not taken for each class.

    It is the recall of "not this class". `average` and `zero_division` (of a class that every
    example belongs to) are as in `precision_recall_f1`.
    """
    confusion = np.float64(confusion)
    support = confusion.sum(1)
    others = confusion.sum() - support
    wrong = confusion.sum(0) - np.diag(confusion)
    if average == "micro":
        others, wrong = others.sum(), wrong.sum()
    return _average(_ratio(others - wrong, others, zero_division), average, support)


def balanced_accuracy(confusion: np.ndarray) -> float:
    """Return the mean recall of the classes that have examples; NaN where none has."""
    return precision_recall_f1(confusion, "macro", np.nan).recall


def matthews(confusion: np.ndarray) -> float:
    """Return Matthews' correlation coefficient, 0 where it is undefined; of K classes, Gorodkin's.

    References:
        J. Gorodkin, Comparing two K-category assignments by a K-category correlation coefficient,
        Computational Biology and Chemistry 28, 2004.
    """
    confusion = np.float64(confusion)
    labelled, predicted, total = confusion.sum(1), confusion.sum(0), confusion.sum()
    covariance = np.trace(confusion) * total - labelled @ predicted
    variances = (total**2 - labelled @ labelled) * (total**2 - predicted @ predicted)
    return float(covariance / np.sqrt(variances)) if variances > 0 else 0.0


class RocCurve(NamedTuple):
    """The points of a ROC curve, float64[T + 1] each, from (0, 0) to (1, 1)."""

    false_positive_rate: np.ndarray
    true_positive_rate: np.ndarray
    thresholds: np.ndarray


def roc_curve(scores: np.ndarray, positives: np.ndarray) -> RocCurve:
    """Return the shares of negatives and of positives that score at least each threshold.

    Equal scores make one point. The thresholds are infinity and then each distinct score, from the
    highest; a rate that is undefined, for want of positives or of negatives, is NaN.

    Args:
        scores: float[N].
        positives: bool[N].
    """
    scores, positives = np.asarray(scores, np.float64), np.asarray(positives, bool)
    order = np.argsort(-scores, kind="stable")
    scores, positives = scores[order], positives[order]
    last = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)[: len(scores)]
    found = np.append(0, np.cumsum(positives)[last])
    seen = np.append(0, last + 1)
    return RocCurve(
        _ratio(seen - found, np.sum(~positives), np.nan),
        _ratio(found, np.sum(positives), np.nan),
        np.append(np.inf, scores[last]),
    )


def roc_auc(scores: np.ndarray, positives: np.ndarray) -> np.ndarray:
    """Return the area under the ROC curve: the chance that a positive outscores a negative.

    Exact, by ranks (the statistic of Mann and Whitney); a tie counts as half.

    Args:
        scores: float[N], or [N, K] for K curves.
        positives: bool, of the same shape.

    Returns:
        float64, a scalar or [K]; NaN without positives, without negatives, or with a score that is
        not a number.
    """
    positives = np.asarray(positives, bool)
    if not positives.size:
        return np.full(positives.shape[1:], np.nan)
    # SciPy ranks single precision in single precision, which is short of half a million places.
    from scipy.stats import rankdata  # a second to import

    ranks = rankdata(np.asarray(scores, np.float64), axis=0)
    count = positives.sum(0, dtype=np.float64)
    above = np.sum(ranks, axis=0, where=positives) - count * (count + 1) / 2
    return _ratio(above, count * (len(positives) - count), np.nan)


def roc_auc_one_vs_rest(
    scores: np.ndarray, labels: np.ndarray, average: str | None = "macro"
) -> np.ndarray | float:
    """Return the area under the ROC curve of each class against the rest.

    Args:
        scores: float[N, K].
        labels: int[N].
        average: None: [K], NaN where a class has no examples or all; "macro": the mean over the
            other classes; "weighted": by the number of their examples; "micro": of the N·K
            decisions as one.
    """
    positives = np.asarray(labels)[:, None] == np.arange(np.shape(scores)[1])
    if average == "micro":
        return roc_auc(np.ravel(scores), positives.ravel()).item()
    return _average(roc_auc(scores, positives), average, positives.sum(0))


def edit_distance(found: Sequence[int], meant: Sequence[int]) -> int:
    """Return the fewest insertions, deletions and substitutions that make one of the other
    (Levenshtein 1966).

    Example:
        >>> edit_distance("kitten", "sitting")
        3
    """
    row = list(range(len(meant) + 1))
    for i, a in enumerate(found, start=1):
        diagonal, row[0] = row[0], i
        for j, b in enumerate(meant, start=1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (a != b))
    return row[-1]


def _real(like: jax.Array, mask: jax.Array | None) -> jax.Array:
    return jnp.ones(like.shape[:1], bool) if mask is None else mask > 0


def _ratio(top, bottom, undefined: float) -> np.ndarray:
    top, bottom = np.float64(top), np.float64(bottom)
    return np.where(bottom == 0, undefined, top / np.where(bottom == 0, 1, bottom))[()]


def _average(values: np.ndarray, average: str | None, support: np.ndarray) -> np.ndarray | float:
    """Average over the classes whose value is defined; NaN where none is."""
    if average not in AVERAGES:
        raise unknown("average", average, AVERAGES)
    if average is None:
        return values
    defined = ~np.isnan(values)
    weighted = average == "weighted" and np.sum(support, where=defined)
    weights = support if weighted else np.ones(values.shape)
    total = np.sum(np.where(defined, values * weights, 0))
    return _ratio(total, np.sum(weights, where=defined), np.nan).item()
