"""What a model made of a split: metrics, and the outputs that they were taken from."""

import dataclasses

import jax
import numpy as np

from research import metrics
from research.tasks.heads import Head


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What a model makes of N examples.

    Attributes:
        metrics: by name, `accuracy`, `loss`, …; see `summarize`. What is told of examples, below,
            is None where they are not classified.
        outputs: float[N, O], of the model.
        labels: int[N].
        predictions: int[N], the predicted classes.
        probabilities: float[N, K]; None for a head that has none.
        confusion: int[K, K], rows by label, columns by prediction.
    """

    metrics: dict[str, float]
    outputs: np.ndarray | None = None
    labels: np.ndarray | None = None
    predictions: np.ndarray | None = None
    probabilities: np.ndarray | None = None
    confusion: np.ndarray | None = None


def summarize(
    head: Head, outputs: np.ndarray, labels: np.ndarray, num_classes: int, means: dict[str, float]
) -> Evaluation:
    """Return the evaluation of `outputs`, in float64.

    Its metrics are `means` (accuracy, loss) and, of a head with probabilities, `top5` (of more than
    five classes), `precision`, `recall` and `f1` (means over all classes, 0 where undefined),
    `balanced_accuracy`, `mcc` (Matthews' correlation), `auc` (mean of each class against the rest,
    of the classes that occur) and `ece` (15 bins); of a regression `mse` and `mae`, in units of the
    class number.
    """
    with jax.enable_x64(True):
        outputs = np.asarray(outputs, np.float64)
        predictions = np.asarray(head.predict(outputs))
        confusion = np.asarray(metrics.confusion_matrix(labels, predictions, num_classes))
        probabilities = None
        if head.probabilities is None:
            means = means | metrics.mean([metrics.regression_sums(outputs[:, 0], labels)])
        else:
            probabilities = np.asarray(head.probabilities(outputs))
            means = means | _classification(probabilities, predictions, labels, confusion)
    return Evaluation(means, outputs, labels, predictions, probabilities, confusion)


def _classification(
    probabilities: np.ndarray, predictions: np.ndarray, labels: np.ndarray, confusion: np.ndarray
) -> dict[str, float]:
    found = {}
    if probabilities.shape[1] > 5:
        found["top5"] = float(metrics.top_k_correct(probabilities, labels, 5)) / len(labels)
    found |= metrics.precision_recall_f1(confusion, "macro")._asdict()
    confidences = np.take_along_axis(probabilities, predictions[:, None], 1)[:, 0]
    calibration = metrics.calibration_sums(confidences, predictions == labels)
    return found | {
        "balanced_accuracy": metrics.balanced_accuracy(confusion),
        "mcc": metrics.matthews(confusion),
        "auc": metrics.roc_auc_one_vs_rest(probabilities, labels),
        "ece": metrics.expected_calibration_error(jax.device_get(calibration)),
    }
