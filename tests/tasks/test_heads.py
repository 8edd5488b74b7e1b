import numpy as np
import pytest
from scipy.special import expit, softmax

from research.tasks.heads import HEADS

OUTPUTS = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)


def test_outputs_of_classes():
    counts = {name: [head.outputs(k) for k in (2, 3, 10)] for name, head in HEADS.items()}
    assert counts == {"softmax": [2, 3, 10], "sigmoid": [1, 3, 10], "regression": [1, 1, 1]}


def test_softmax():
    head = HEADS["softmax"]
    np.testing.assert_allclose(head.probabilities(OUTPUTS), softmax(OUTPUTS, axis=1), rtol=1e-5)
    np.testing.assert_array_equal(head.predict(OUTPUTS), OUTPUTS.argmax(1))


def test_sigmoids():
    head = HEADS["sigmoid"]
    np.testing.assert_allclose(head.probabilities(OUTPUTS), expit(OUTPUTS), rtol=1e-5)
    np.testing.assert_array_equal(head.predict(OUTPUTS), OUTPUTS.argmax(1))


def test_one_sigmoid_stands_for_two_classes():
    head, outputs = HEADS["sigmoid"], OUTPUTS[:, :1]
    probabilities = head.probabilities(outputs)
    np.testing.assert_allclose(probabilities[:, 1], expit(outputs[:, 0]), rtol=1e-5)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    np.testing.assert_array_equal(head.predict(outputs), probabilities.argmax(1))
    assert set(np.asarray(head.predict(outputs))) == {0, 1}


def test_regression_predicts_the_nearest_number():
    predictions = HEADS["regression"].predict(np.float32([[0.2], [2.6], [-0.7], [11.2]]))
    assert predictions.tolist() == [0, 3, -1, 11]


@pytest.mark.parametrize("name", HEADS)
def test_the_right_outputs_have_the_least_loss(name):
    head, labels = HEADS[name], np.array([0, 1, 2])
    right = labels[:, None].astype(np.float32) if name == "regression" else 10 * np.eye(3)
    right = np.float32(right)
    assert np.all(head.loss(right, labels) < head.loss(np.roll(right, 1, 0), labels))
    np.testing.assert_array_equal(head.predict(right), labels)
