"""What units do, against loops over them."""

import jax.numpy as jnp
import numpy as np
import scipy.ndimage
from sklearn.datasets import load_digits

from research.inspection.gradient_flow import layer_norms
from research.inspection.invariance import DIRECTIONS, translation_curve
from research.inspection.recurrent import before_end, by_peak, saturation
from research.inspection.units import dead_units, first_kernel, silent_share

RNG = np.random.default_rng(0)


def test_dead_units_and_zeros():
    maps = np.maximum(RNG.normal(size=(4, 3, 3, 5)), 0)
    maps[..., 1] = maps[..., 4] = 0
    endpoints = {"conv/act": jnp.asarray(maps), "act2": jnp.ones((4, 2)), "pool": jnp.zeros((4, 2))}
    found, silent = dead_units(endpoints), silent_share(endpoints)
    np.testing.assert_allclose([found["conv/act"], found["act2"]], [2 / 5, 0])
    np.testing.assert_allclose(silent["conv/act"], (maps == 0).mean(), rtol=1e-6)
    assert set(found) == set(silent) == {"conv/act", "act2"}


def test_norms_by_layer():
    a, b, c = (jnp.asarray(RNG.normal(size=s)) for s in ((2, 3), (3, 3), (4, 2)))
    params = {"rnn": {"input_kernel": a, "recurrent_kernel": b, "bias": b[0]}}
    params |= {"block": {"dense": {"kernel": c}}}
    found = layer_norms(params)
    assert set(found) == {"rnn", "block/dense"}
    both = np.concatenate([np.ravel(a), np.ravel(b)])
    np.testing.assert_allclose(found["rnn"], np.linalg.norm(both), rtol=1e-6)
    np.testing.assert_allclose(found["block/dense"], np.linalg.norm(c), rtol=1e-6)


def test_the_first_kernel_is_the_first_used():
    params = {"a": {"kernel": jnp.ones((3, 3, 8, 8))}, "stem": {"kernel": jnp.ones((5, 5, 1, 8))}}
    params["head"] = {"kernel": jnp.ones((8, 2))}
    assert first_kernel(params, ["pool1", "stem", "a", "head"]).shape == (5, 5, 1, 8)
    assert first_kernel({"head": params["head"]}, ["head"]) is None


def test_the_translation_curve():
    digits = load_digits()
    images = digits.images[:60, ..., None]

    def predict(variables, images):
        return (np.asarray(images) * variables).sum((1, 3)).argmax(1)  # the brightest column

    before = predict(2.0, images)
    labels = np.where(np.arange(60) % 3, before, before + 1)
    found = translation_curve(predict, 2.0, images, labels, most=2)
    assert found["consistency"][0] == 1
    assert found["accuracy"][0] == np.mean(before == labels)
    for by in (1, 2):
        moved = [
            predict(
                1.0,
                scipy.ndimage.shift(
                    images, (0, by * down, by * across, 0), order=0, mode="nearest"
                ),
            )
            for down, across in DIRECTIONS
        ]
        np.testing.assert_allclose(found["consistency"][by], np.mean([m == before for m in moved]))
        np.testing.assert_allclose(found["accuracy"][by], np.mean([m == labels for m in moved]))
    assert 0 < found["consistency"][2] < 1


def test_norms_by_the_steps_before_the_end():
    """Of gradients that halve with each step from the end, however long the sequence."""
    lengths, steps = np.array([3, 7, 5, 0]), np.arange(7)
    real = steps < lengths[:, None]
    left = np.where(real, lengths[:, None] - 1 - steps, 0)
    norms = np.where(real, 0.5**left, 9.0)
    np.testing.assert_allclose(before_end(norms, real), np.sqrt(3) * 0.5**steps)
    backward = np.where(real, 0.5**steps, 9.0)
    np.testing.assert_allclose(before_end(backward, real, backward=True), np.sqrt(3) * 0.5**steps)
    whole = RNG.random((4, 7))
    expected = [np.linalg.norm(whole[:, t]) for t in reversed(steps)]
    np.testing.assert_allclose(before_end(whole, np.ones((4, 7))), expected)


def test_saturation_counts_the_steps_that_are_real():
    gate, real = RNG.uniform(size=(3, 7, 4)), np.arange(7) < np.array([[7], [2], [4]])
    below, above = saturation(jnp.asarray(gate), jnp.asarray(real, jnp.float32))
    steps = gate[real]
    assert steps.shape == (13, 4)
    np.testing.assert_allclose(below, (steps < 0.1).mean(0), rtol=1e-6)
    np.testing.assert_allclose(above, (steps > 0.9).mean(0), rtol=1e-6)


def test_units_in_the_order_of_their_peaks():
    states = np.zeros((5, 3))
    states[4, 0], states[1, 1], states[3, 2] = 1, -2, 0.5
    assert by_peak(states).tolist() == [1, 2, 0]
