"""The optimiser against numpy: its formulas written out a second time, from their papers."""

import jax
import numpy as np
import optax
import pytest

from research.config import get_config, override
from research.train.optimizer import hyperparams, make_optimizer, schedule_shape

STEPS = 6
RNG = np.random.default_rng(0)
SHAPES = {"conv": (3, 3, 2, 4), "dense": (5, 4), "bias": (4,), "scale": (4,)}
PARAMS = {name: RNG.normal(size=shape) for name, shape in SHAPES.items()}
GRADIENTS = [{name: RNG.normal(size=shape) for name, shape in SHAPES.items()} for _ in range(STEPS)]


def optimizer_config(changes=None):
    changes = {f"optimizer.{k}": v for k, v in (changes or {}).items()}
    return override(get_config(), {"optimizer.learning_rate": 0.05} | changes, "test").optimizer


def run(config, values=None):
    """Return the parameters after STEPS steps, and the two gradient norms of each."""
    with jax.enable_x64(True):
        optimizer = make_optimizer(config, STEPS)
        params, norms = jax.tree.map(jax.numpy.asarray, PARAMS), []
        state = optax.tree.set(optimizer.init(params), **(values or hyperparams(config)))
        update = jax.jit(optimizer.update)
        for gradient in GRADIENTS:
            updates, state = update(gradient, state, params)
            params = optax.apply_updates(params, updates)
            norms.append(
                [
                    float(optax.tree.get(state, name))
                    for name in ("gradient_norm", "gradient_norm_clipped")
                ]
            )
        return jax.tree.map(np.asarray, params), np.array(norms)


def norm(tree):
    return np.sqrt(sum(np.sum(x**2) for x in tree.values()))


def clip(kind, threshold, gradient, params):
    if kind == "value":
        return {k: np.clip(g, -threshold, threshold) for k, g in gradient.items()}
    if kind == "global_norm":
        factor = min(1, threshold / norm(gradient))
        return {k: g * factor for k, g in gradient.items()}
    if kind == "adaptive":  # Brock et al. 2021, equation 3: unit by unit, ε = 1e-3
        clipped = {}
        for k, g in gradient.items():
            # A unit is an output channel; a vector is one unit.
            axes = tuple(range(g.ndim - 1)) if g.ndim > 1 else (0,)
            limit = threshold * np.maximum(
                np.sqrt(np.sum(params[k] ** 2, axes, keepdims=True)), 1e-3
            )
            size = np.sqrt(np.sum(g**2, axes, keepdims=True))
            clipped[k] = np.where(size > limit, g * limit / size, g)
        return clipped
    return gradient


def reference(config, shape=lambda t: 1.0):
    """The same by hand."""
    params = {k: v.copy() for k, v in PARAMS.items()}
    zeros = {k: np.zeros_like(v) for k, v in PARAMS.items()}
    first, second, trace, norms = dict(zeros), dict(zeros), dict(zeros), []
    b1, b2, eps, mu = config.b1, config.b2, config.eps, config.momentum
    for t, gradient in enumerate(GRADIENTS, start=1):
        decayed = [k for k in params if config.decay_norm_and_bias or params[k].ndim > 1]
        g = {
            k: v + (config.l2 * params[k] + config.l1 * np.sign(params[k]) if k in decayed else 0)
            for k, v in gradient.items()
        }
        before = norm(g)
        g = clip(config.clip.kind, config.clip.threshold, g, params)
        norms.append([before, norm(g)])
        for k in params:
            direction = g[k]
            if config.name in ("adam", "adamw"):
                first[k] = b1 * first[k] + (1 - b1) * g[k]
                second[k] = b2 * second[k] + (1 - b2) * g[k] ** 2
                ahead = first[k] / (1 - b1**t)
                if config.nesterov:  # Dozat 2016, algorithm 8
                    ahead = b1 * first[k] / (1 - b1 ** (t + 1)) + (1 - b1) * g[k] / (1 - b1**t)
                direction = ahead / (np.sqrt(second[k] / (1 - b2**t)) + eps)
            elif config.name == "rmsprop":
                second[k] = b2 * second[k] + (1 - b2) * g[k] ** 2
                direction = g[k] / np.sqrt(second[k] + eps)
            if config.name in ("sgd", "rmsprop"):
                trace[k] = direction + mu * trace[k]
                direction = direction + mu * trace[k] if config.nesterov else trace[k]
            if k in decayed:
                direction = direction + config.weight_decay * params[k]
            params[k] = params[k] - config.learning_rate * shape(t - 1) * direction
    return params, np.array(norms)


@pytest.mark.parametrize(
    "changes",
    [
        {"momentum": 0.0},
        {"momentum": 0.9},
        {"momentum": 0.9, "nesterov": True},
        {"name": "rmsprop", "momentum": 0.0, "b2": 0.9},
        {"name": "rmsprop", "momentum": 0.5, "b2": 0.9, "eps": 0.1},
        {"name": "adam", "b1": 0.8, "b2": 0.95, "eps": 0.01},
        {"name": "adam", "nesterov": True},
        {"name": "adamw", "weight_decay": 0.1},
        {"l1": 0.3},
        {"l2": 0.3},
        {"l1": 0.3, "l2": 0.2, "decay_norm_and_bias": True},
        {"weight_decay": 0.3},
        {"weight_decay": 0.3, "decay_norm_and_bias": True},
        {"clip.kind": "value", "clip.threshold": 0.5},
        {"clip.kind": "global_norm", "clip.threshold": 3.0},
        {"clip.kind": "global_norm", "clip.threshold": 1e6},
        {"clip.kind": "adaptive", "clip.threshold": 0.3},
        {"clip.kind": "global_norm", "clip.threshold": 3.0, "l2": 2.0, "name": "adam"},
    ],
    ids=str,
)
def test_steps_are_those_computed_by_hand(changes):
    config = optimizer_config(changes)
    (params, norms), (expected, expected_norms) = run(config), reference(config)
    for name in SHAPES:
        np.testing.assert_allclose(params[name], expected[name], rtol=1e-9, err_msg=name)
    np.testing.assert_allclose(norms, expected_norms, rtol=1e-9)


def test_decay_moves_kernels_and_spares_norms_and_biases():
    plain, _ = run(optimizer_config())
    for changes in ({"weight_decay": 0.1}, {"l1": 0.1}, {"l2": 0.1}):
        decayed, _ = run(optimizer_config(changes))
        moved = {name for name in SHAPES if not np.array_equal(decayed[name], plain[name])}
        assert moved == {"conv", "dense"}, changes


def test_the_schedule_multiplies_decoupled_decay_too():
    config = optimizer_config(
        {"schedule.name": "linear", "weight_decay": 0.3, "clip.kind": "value"}
    )
    params, _ = run(config)
    expected, _ = reference(config, lambda t: 1 - t / STEPS)
    for name in SHAPES:
        # Schedules count in float32.
        np.testing.assert_allclose(params[name], expected[name], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("kind", ["value", "global_norm", "adaptive"])
def test_learning_rate_and_threshold_are_values_in_the_state(kind):
    config = optimizer_config({"clip.kind": kind, "clip.threshold": 0.2})
    other = optimizer_config({"clip.kind": kind, "clip.threshold": 0.4, "learning_rate": 0.01})
    params, _ = run(config, values=hyperparams(other))
    expected, _ = reference(other)
    for name in SHAPES:
        np.testing.assert_allclose(params[name], expected[name], rtol=1e-9)


def course(steps, **changes):
    changes = {f"schedule.{k}": v for k, v in changes.items()}
    shape = schedule_shape(optimizer_config(changes).schedule, steps)
    return np.array([float(shape(t)) for t in range(steps)])


T = np.arange(20)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"name": "constant"}, np.ones(20)),
        ({"name": "cosine"}, (1 + np.cos(np.pi * T / 20)) / 2),
        ({"name": "linear"}, 1 - T / 20),
        ({"name": "step"}, np.where(T < 10, 1, np.where(T < 15, 0.1, 0.01))),
        (
            {"name": "step", "boundaries": (0.25,), "factor": 0.5, "warmup": 0.1},
            np.where(T < 2, (T + 1) / 2, np.where(T < 5, 1, 0.5)),
        ),
        ({"name": "constant", "warmup": 0.25}, np.minimum(1, (T + 1) / 5)),
        (
            {"name": "cosine", "warmup": 0.2},
            np.where(T < 4, (T + 1) / 4, (1 + np.cos(np.pi * (T - 4) / 16)) / 2),
        ),
        ({"name": "linear", "warmup": 0.05}, np.where(T < 1, 1, 1 - (T - 1) / 19)),
        (
            {"name": "one_cycle"},  # from 1/25 up to 1 at 30 %, down to 1/25/10⁴
            np.where(
                T < 6,
                1 / 25 + (1 - 1 / 25) * (1 - np.cos(np.pi * T / 6)) / 2,
                4e-6 + (1 - 4e-6) * (1 + np.cos(np.pi * (T - 6) / 14)) / 2,
            ),
        ),
        (
            {"name": "one_cycle", "warmup": 0.5},
            np.where(
                T < 10,
                1 / 25 + (1 - 1 / 25) * (1 - np.cos(np.pi * T / 10)) / 2,
                4e-6 + (1 - 4e-6) * (1 + np.cos(np.pi * (T - 10) / 10)) / 2,
            ),
        ),
    ],
    ids=str,
)
def test_schedules_have_their_closed_form(changes, expected):
    np.testing.assert_allclose(course(20, **changes), expected, rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["constant", "cosine", "step", "linear", "one_cycle"])
@pytest.mark.parametrize("warmup", [0.0, 0.3, 1.0])
def test_schedules_of_short_runs_are_finite_and_move(name, warmup):
    for steps in (1, 2, 3, 5):
        values = course(steps, name=name, warmup=warmup)
        assert np.isfinite(values).all() and (values >= 0).all() and (values <= 1).all()
        assert values[0] > 0


def test_step_boundaries_that_round_to_one_step_both_count():
    np.testing.assert_allclose(course(4, name="step", boundaries=(0.5, 0.55)), [1, 1, 0.01, 0.01])
