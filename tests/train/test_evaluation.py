import dataclasses

import jax
import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn import metrics as reference

from research.checks import validate
from research.config import UserError
from research.data.images import Images
from research.data.sources import Dataset
from research.distributed.mesh import make_mesh
from research.train.evaluation import evaluate_model
from research.train.program import program_key
from research.train.tasks import make_task


@pytest.fixture(scope="module")
def parity(digits):
    """Digits told apart by being odd: two classes."""

    class Odd:
        def __init__(self, source):
            self.source = source

        def __len__(self):
            return len(self.source)

        def read(self, index):
            image, label = self.source.read(index)
            return image, label % 2

        def where(self, index):
            return self.source.where(index)

    def odd(split: Images) -> Images:
        return Images("parity", Odd(split.source), split.indices, split.image_shape, 2)

    splits = {s: odd(getattr(digits, s)) for s in ("train", "validation", "test")}
    return dataclasses.replace(digits, name="parity", class_names=("even", "odd"), **splits)


def evaluated(config, dataset: Dataset, mesh, **options):
    """A fresh model's evaluation on the test split."""
    task = make_task(config, dataset)
    images, labels = dataset.test.arrays().values()
    batch = {"image": images[:2], "label": labels[:2], "mask": np.ones(2, np.float32)}
    variables = task.init(jax.random.key(0), batch)
    return evaluate_model(task, variables, dataset.test, mesh=mesh, **options), labels


def test_softmax(tiny, digits, mesh):
    found, labels = evaluated(tiny(), digits, mesh, batch_size=100)
    np.testing.assert_array_equal(found.labels, labels)
    assert found.outputs.shape == (360, 10)
    probabilities = softmax(found.outputs, axis=1)
    np.testing.assert_allclose(found.probabilities, probabilities, atol=1e-12)
    predictions = found.outputs.argmax(1)
    np.testing.assert_array_equal(found.predictions, predictions)
    np.testing.assert_array_equal(found.confusion, reference.confusion_matrix(labels, predictions))
    macro = {"average": "macro", "zero_division": 0}
    expected = {
        "loss": reference.log_loss(labels, probabilities),
        "accuracy": reference.accuracy_score(labels, predictions),
        "top5": reference.top_k_accuracy_score(labels, probabilities, k=5),
        "precision": reference.precision_score(labels, predictions, **macro),
        "recall": reference.recall_score(labels, predictions, **macro),
        "f1": reference.f1_score(labels, predictions, **macro),
        "balanced_accuracy": reference.balanced_accuracy_score(labels, predictions),
        "mcc": reference.matthews_corrcoef(labels, predictions),
        "auc": reference.roc_auc_score(labels, probabilities, multi_class="ovr"),
    }
    assert found.metrics.keys() == expected.keys() | {"ece"}
    for name, value in expected.items():
        assert found.metrics[name] == pytest.approx(value, abs=1e-6), name


def test_devices_and_feeds_change_nothing(tiny, digits, mesh):
    one, _ = evaluated(tiny(), digits, mesh)
    other, _ = evaluated(
        tiny(), digits, make_mesh(jax.devices()[:8]), batch_size=64, feed="streaming"
    )
    np.testing.assert_allclose(one.outputs, other.outputs, atol=1e-5)
    np.testing.assert_array_equal(one.labels, other.labels)


def test_two_classes_have_one_logit(tiny, parity, mesh):
    found, labels = evaluated(tiny({"train.head": "sigmoid"}), parity, mesh)
    assert found.outputs.shape == (360, 1) and found.confusion.shape == (2, 2)
    scores = expit(found.outputs[:, 0])
    assert found.metrics["auc"] == pytest.approx(reference.roc_auc_score(labels, scores))
    assert found.metrics["loss"] == pytest.approx(reference.log_loss(labels, scores), abs=1e-6)
    assert found.metrics["accuracy"] == np.mean((scores > 0.5) == labels)
    assert "top5" not in found.metrics


def test_ten_classes_have_ten_sigmoids(tiny, digits, mesh):
    found, labels = evaluated(tiny({"train.head": "sigmoid"}), digits, mesh)
    np.testing.assert_allclose(found.probabilities, expit(found.outputs), atol=1e-12)
    each = [reference.roc_auc_score(labels == k, found.outputs[:, k]) for k in range(10)]
    assert found.metrics["auc"] == pytest.approx(np.mean(each))
    losses = [reference.log_loss(labels == k, found.probabilities[:, k]) for k in range(10)]
    assert found.metrics["loss"] == pytest.approx(sum(losses), rel=1e-5)


def test_regression(tiny, digits, mesh):
    found, labels = evaluated(tiny({"train.head": "regression"}), digits, mesh)
    outputs = found.outputs[:, 0]
    assert found.metrics == {
        "loss": pytest.approx(reference.mean_squared_error(labels, outputs), rel=1e-5),
        "mse": pytest.approx(reference.mean_squared_error(labels, outputs)),
        "mae": pytest.approx(reference.mean_absolute_error(labels, outputs)),
        "accuracy": pytest.approx(np.mean(outputs.round() == labels)),
    }
    assert found.probabilities is None


@pytest.mark.parametrize("head", ["sigmoid", "regression"])
def test_heads_learn(train_run, head):
    changes = {"train.head": head, "train.steps": 100, "optimizer.learning_rate": 0.01}
    result = train_run(head, changes | {"train.eval_every": 50, "optimizer.name": "adam"})
    assert result["metrics"]["test/accuracy"] > (0.25 if head == "regression" else 0.7)
    if head == "regression":
        assert result["metrics"]["test/mse"] == pytest.approx(result["metrics"]["test/loss"])
        assert result["metrics"]["test/mse"] < 8.25  # of guessing the mean of 0 to 9


def test_a_number_cannot_be_smoothed(tiny):
    with pytest.raises(UserError, match=r"train\.label_smoothing: found 0\.1 .*regression"):
        validate(tiny({"train.head": "regression", "train.label_smoothing": 0.1}))


def test_class_weights_are_of_the_training_split(tiny, digits):
    labels = digits.train.arrays()["label"]
    task = make_task(tiny({"train.class_weights": "balanced"}), digits)
    counts = np.bincount(labels)
    np.testing.assert_allclose(task.class_weights, len(labels) / (10 * counts))
    np.testing.assert_array_equal(digits.train.labels(), labels)
    assert make_task(tiny(), digits).class_weights == ()


def test_programs_with_other_class_weights_are_others(tiny, digits):
    config = tiny({"train.class_weights": "balanced"})
    relabelled = dataclasses.replace(digits, train=dataclasses.replace(digits.train))
    relabelled.train.remember("labels", lambda: np.arange(1257, dtype=np.int32) % 10)
    assert program_key(tiny(), digits) == program_key(tiny(), relabelled)
    assert program_key(config, digits) != program_key(config, relabelled)
