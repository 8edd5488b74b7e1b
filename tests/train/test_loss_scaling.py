"""Dynamic loss scaling against `optax.sgd` and its own rule written out."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from research.train.loss_scaling import dynamic_loss_scaling
from research.train.optimizer import hyperparams
from research.train.program import pure_functions


def test_the_rule():
    """Halved at each overflow, doubled after so many finite steps in a row, and no step between."""
    params = {"w": jnp.array([1.0, -2.0])}
    gradients = [[1, 1], [2, 1], [1, np.inf], [0, 1], [np.nan, 0], [1, 0], [1, 1], [3, 1], [1, 0]]
    optimizer = dynamic_loss_scaling(optax.sgd(0.1, momentum=0.9), initial=64.0, interval=3)
    plain = optax.sgd(0.1, momentum=0.9)
    state, expected = optimizer.init(params), plain.init(params)
    scales = []
    for gradient in gradients:
        gradient = {"w": jnp.array(gradient, jnp.float32)}
        updates, state = optimizer.update(gradient, state, params)
        if np.isfinite(gradient["w"]).all():
            sought, expected = plain.update(gradient, expected, params)
            np.testing.assert_array_equal(updates["w"], sought["w"])
        else:
            np.testing.assert_array_equal(updates["w"], 0)
        jax.tree.map(np.testing.assert_array_equal, state.inner, expected)
        scales.append(float(state.loss_scale))
    assert scales == [64, 64, 32, 32, 16, 16, 16, 32, 32]


@pytest.fixture(scope="module")
def float16(tiny, digits):
    """A state before its first step, the compiled step, and a batch; batch-normed, for its
    statistics, and with averaged weights."""
    changes = {"model.name": "mlp", "model.norm": "batch", "train.precision": "float16"}
    config = tiny(changes | {"train.ema": 0.9, "optimizer.momentum": 0.0})
    init, step, _ = pure_functions(config, digits)
    arrays = {name: x[:32] for name, x in digits.train.arrays().items()}
    batch = arrays | {"mask": np.ones(32, np.float32)}
    state = jax.jit(init)(jax.random.key(0), hyperparams(config.optimizer))
    return state, jax.jit(step), batch


def scaled(state, scale):
    return state.replace(opt_state=optax.tree.set(state.opt_state, loss_scale=jnp.float32(scale)))


def test_an_overflow_halves_the_scale_and_leaves_everything_as_it_was(float16):
    state, step, batch = float16
    before = scaled(state, 2.0**40)  # beyond float16
    after, metrics = step(before, batch)
    for part in ("params", "collections", "ema"):
        jax.tree.map(np.testing.assert_array_equal, getattr(after, part), getattr(before, part))
    assert optax.tree.get(after.opt_state, "loss_scale") == 2.0**39
    assert after.step == 1
    assert np.isfinite(metrics["examples"]["loss"])
    assert np.isfinite(metrics["updates"]["gradient_norm_clipped"])  # no run that diverged


def test_the_scale_keeps_small_gradients_and_changes_no_others(float16):
    """Gradients of a loss times 2¹² and of the loss itself are one; a tiny loss needs the scale."""
    state, step, batch = float16
    norms = {}
    for power in (0, 12, -20):
        after, metrics = step(scaled(state, 2.0**power), batch)
        norms[power] = float(metrics["updates"]["gradient_norm"])
        moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), after.params, state.params)
        assert max(jax.tree.leaves(moved)) > 0 or power == -20
        assert {x.dtype for x in jax.tree.leaves(after.params)} == {jnp.dtype("float32")}
    assert norms[12] == pytest.approx(norms[0], rel=2e-3)
    assert norms[-20] < 0.9 * norms[0]  # what float16 cannot hold is lost
