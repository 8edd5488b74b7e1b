"""The ConvLSTM against SciPy's correlations, step by step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.signal import correlate2d

from research.config import UserError
from research.models.rnn import ConvLSTM

B, T, SIDES, C, F = 2, 4, (5, 4), 2, 3
LENGTHS = np.array([4, 2])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def convolve(image, kernel):
    """[H, W, I] by [h, w, I, O], zeros around."""
    inputs, outputs = kernel.shape[2:]
    maps = [
        sum(correlate2d(image[..., i], kernel[..., i, o], "same") for i in range(inputs))
        for o in range(outputs)
    ]
    return np.stack(maps, -1)


def step_by_step(params, frames):
    """Shi et al. 2015, eq. 3, of one layer."""
    p = {k.removeprefix("layer1_"): np.asarray(v, np.float64) for k, v in params.items()}
    h = c = np.zeros((*SIDES, F))
    outputs = []
    for frame in frames.astype(np.float64):
        both = convolve(frame, p["input_kernel"]) + convolve(h, p["recurrent_kernel"]) + p["bias"]
        i, f, g, o = np.split(both, 4, axis=-1)
        i, f = sigmoid(i + p["peephole_i"] * c), sigmoid(f + p["peephole_f"] * c)
        c = f * c + i * np.tanh(g)
        h = sigmoid(o + p["peephole_o"] * c) * np.tanh(c)
        outputs.append(h)
    return np.stack(outputs), h, c


@pytest.fixture(scope="module")
def network():
    """A network, its variables and frames."""
    frames = np.random.default_rng(0).standard_normal((B, T, *SIDES, C)).astype(np.float32)
    model = ConvLSTM(F, peepholes=True)
    fresh = jax.jit(model.init)(jax.random.key(0), frames)
    assert fresh["params"]["layer1_bias"].tolist() == [0] * F + [1] * F + [0] * 2 * F
    rng = np.random.default_rng(1)
    variables = jax.tree.map(lambda p: p + 0.2 * rng.standard_normal(p.shape), fresh)
    return model, jax.tree.map(jnp.float32, variables), frames


def test_step_by_step(network):
    model, variables, frames = network
    outputs, endpoints = jax.jit(model.apply)(variables, frames, LENGTHS)
    assert outputs.shape == (B, T, *SIDES, F)
    h, c = endpoints["final_state"]
    for b, length in enumerate(LENGTHS):
        expected, *state = step_by_step(variables["params"], frames[b, :length])
        np.testing.assert_allclose(outputs[b, :length], expected, atol=1e-5)
        assert (outputs[b, length:] == 0).all()
        np.testing.assert_allclose(h[0, b], state[0], atol=1e-5)
        np.testing.assert_allclose(c[0, b], state[1], atol=1e-5)


def test_padding_changes_no_gradient(network):
    model, variables, frames = network
    bad = frames.copy()
    bad[1, 2:] = np.nan

    @jax.jit
    @jax.grad
    def gradient(variables, frames):
        outputs, endpoints = model.apply(variables, frames, LENGTHS)
        return (outputs**2).sum() + sum((part**3).sum() for part in endpoints["final_state"])

    found, expected = gradient(variables, bad), gradient(variables, frames)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found, expected)
    assert all(leaf.any() for leaf in jax.tree.leaves(expected))


def test_a_state_is_carried_on_through_layers():
    frames = np.random.default_rng(0).standard_normal((B, T, *SIDES, C)).astype(np.float32)
    model = ConvLSTM(F, num_layers=2, kernel_size=1)
    variables = jax.jit(model.init)(jax.random.key(0), frames)
    apply = jax.jit(model.apply)
    outputs, endpoints = apply(variables, frames)
    _, middle = apply(variables, frames[:, :2])
    rest, end = apply(variables, frames[:, 2:], None, middle["final_state"])
    np.testing.assert_allclose(rest, outputs[:, 2:], atol=1e-6)
    np.testing.assert_allclose(end["final_state"][1], endpoints["final_state"][1], atol=1e-6)
    assert end["final_state"][0].shape == (2, B, *SIDES, F)


def test_what_cannot_be(network):
    model, variables, frames = network
    with pytest.raises(UserError, match=r"model.kernel_size: found 2, expected an odd"):
        ConvLSTM(3, kernel_size=2)
    with pytest.raises(UserError, match=r"expected \[B, T, height, width, channels\]"):
        model.apply(variables, frames[0])
    with pytest.raises(UserError, match="sequences of no steps"):
        model.apply(variables, frames[:, :0])
    with pytest.raises(UserError, match=r"lengths\[0\]: found 5"):
        model.apply(variables, frames, np.array([5, 1]))
    with pytest.raises(UserError, match=r"initial_state.*\[1, 2, 5, 4, 3\]"):
        model.apply(variables, frames, None, (jnp.zeros(3), jnp.zeros(3)))
