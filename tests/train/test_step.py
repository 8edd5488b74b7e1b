"""The step against numpy, where a closed form exists: multinomial logistic regression."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from research.data.feed import make_feed
from research.data.preprocess import channel_statistics
from research.distributed.mesh import batch_sharding
from research.train.optimizer import hyperparams
from research.train.program import get_program, pure_functions

LOGISTIC = {
    "model.hidden": (),
    "train.precision": "float64",
    "optimizer.momentum": 0.0,
    "optimizer.learning_rate": 0.5,
}


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


@pytest.fixture
def batch(digits):
    images, labels = digits.train.arrays().values()
    return {"image": images[:32], "label": labels[:32], "mask": np.ones(32, np.float32)}


def functions(config, dataset, seed=0):
    """Return the first state and the compiled step of `config`."""
    init, step, _ = pure_functions(config, dataset)
    return jax.jit(init)(jax.random.key(seed), hyperparams(config.optimizer)), jax.jit(step)


def features(batch, dataset):
    mean, std = channel_statistics(dataset.train)
    scaled = (np.float32(batch["image"]) / np.float32(255) - mean) / std
    return scaled.reshape(len(scaled), -1).astype(np.float64)


def logistic(params, x, labels, smoothing=0.0):
    """Return the losses, the logits and the gradient of their mean, in closed form."""
    (layer,) = params.values()
    logits = x @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"])
    targets = np.eye(10)[labels] * (1 - smoothing) + smoothing / 10
    losses = -np.sum(targets * log_softmax(logits, axis=1), axis=1)
    error = (softmax(logits, axis=1) - targets) / len(x)
    return losses, logits, {"kernel": x.T @ error, "bias": error.sum(0)}


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_a_step_of_logistic_regression(tiny, digits, batch, x64, smoothing):
    state, step = functions(tiny(LOGISTIC | {"train.label_smoothing": smoothing}), digits)
    losses, logits, gradient = logistic(
        state.params, features(batch, digits), batch["label"], smoothing
    )
    after, metrics = step(state, batch)
    (before,), (moved,) = state.params.values(), after.params.values()
    for name in ("kernel", "bias"):
        np.testing.assert_allclose(moved[name], before[name] - 0.5 * gradient[name], atol=1e-7)
    assert int(after.step) == 1
    examples = metrics["examples"]
    np.testing.assert_allclose(examples["loss"], losses.sum(), rtol=1e-7)
    assert examples["accuracy"] == np.sum(logits.argmax(1) == batch["label"])
    assert examples["count"] == 32
    size = np.sqrt(sum(np.sum(g**2) for g in gradient.values()))
    np.testing.assert_allclose(metrics["updates"]["gradient_norm"], size, rtol=1e-6)


def test_masked_examples_have_no_effect(tiny, digits, batch, x64):
    state, step = functions(tiny(LOGISTIC), digits)
    mask = np.float32([1] * 20 + [0] * 12)
    padded = batch | {"mask": mask}
    garbage = padded | {
        "image": np.where(mask[:, None, None, None] > 0, batch["image"], 255).astype(np.uint8),
        "label": np.where(mask > 0, batch["label"], 9).astype(np.int32),
    }
    (after, metrics), (other, others) = step(state, padded), step(state, garbage)
    jax.tree.map(np.testing.assert_array_equal, after.params, other.params)
    jax.tree.map(np.testing.assert_array_equal, metrics["examples"], others["examples"])
    x, labels = features(batch, digits)[:20], batch["label"][:20]
    losses, _, gradient = logistic(state.params, x, labels)
    np.testing.assert_allclose(metrics["examples"]["loss"], losses.sum(), rtol=1e-7)
    (before,), (moved,) = state.params.values(), after.params.values()
    np.testing.assert_allclose(
        moved["kernel"], before["kernel"] - 0.5 * gradient["kernel"], atol=1e-7
    )


def test_accumulated_micro_batches_make_the_whole_batch(tiny, digits, batch, x64):
    changes = {"train.precision": "float64", "model.norm": "layer", "optimizer.clip.kind": "value"}
    state, whole = functions(tiny(changes), digits)
    _, accumulated = functions(tiny(changes | {"train.accumulate": 4}), digits)
    a = b = state
    for _ in range(3):
        (a, metrics), (b, others) = whole(a, batch), accumulated(b, batch)
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-10, atol=1e-10),
            (a.params, metrics),
            (b.params, others),
        )


def test_averaged_parameters_in_closed_form(tiny, digits, batch, x64):
    state, step = functions(tiny({"train.precision": "float64", "train.ema": 0.8}), digits)
    expected = state.params
    for _ in range(3):
        state, _ = step(state, batch)
        expected = jax.tree.map(lambda e, p: 0.8 * e + 0.2 * p, expected, state.params)
        jax.tree.map(lambda e, p: np.testing.assert_allclose(e, p, rtol=1e-12), expected, state.ema)


def test_clipping_is_reported(tiny, digits, batch, x64):
    clip = {"optimizer.clip.kind": "global_norm", "optimizer.clip.threshold": 0.1}
    state, step = functions(tiny(LOGISTIC | clip), digits)
    _, _, gradient = logistic(state.params, features(batch, digits), batch["label"])
    size = np.sqrt(sum(np.sum(g**2) for g in gradient.values()))
    after, metrics = step(state, batch)
    updates = metrics["updates"]
    np.testing.assert_allclose(updates["gradient_norm"], size, rtol=1e-6)
    np.testing.assert_allclose(updates["gradient_norm_clipped"], 0.1, rtol=1e-6)
    assert updates["clipped_fraction"] == 1
    (before,), (moved,) = state.params.values(), after.params.values()
    np.testing.assert_allclose(
        moved["kernel"], before["kernel"] - 0.5 * gradient["kernel"] * 0.1 / size, atol=1e-7
    )
    # A threshold above the norm, in the same program, leaves the gradient alone.
    loose = tiny(LOGISTIC | clip | {"optimizer.clip.threshold": 100.0})
    state, _ = functions(loose, digits)
    _, metrics = step(state, batch)
    assert metrics["updates"]["clipped_fraction"] == 0


def test_diagnostics_against_direct_computation(tiny, digits, batch, x64):
    state, step = functions(tiny(LOGISTIC | {"train.diagnostics_every": 3}), digits)
    ((layer, before),) = state.params.items()
    seen = []
    for number in range(1, 8):
        _, _, gradient = logistic(state.params, features(batch, digits), batch["label"])
        weight, slope = np.asarray(before["kernel"]), gradient["kernel"]
        state, metrics = step(state, batch)
        (before,) = state.params.values()
        diagnostics = metrics["diagnostics"]
        if diagnostics["count"]:
            seen.append(number)
            expected = {
                f"gradient_norm/{layer}": np.linalg.norm(slope),
                f"parameter_norm/{layer}": np.linalg.norm(weight),
                f"update_ratio/{layer}": 0.5 * np.linalg.norm(slope) / np.linalg.norm(weight),
            }
            assert set(diagnostics) == {*expected, "count"}
            for name, value in expected.items():
                np.testing.assert_allclose(diagnostics[name], value, rtol=1e-6, err_msg=name)
        else:
            assert not any(np.asarray(v).any() for v in diagnostics.values())
    assert seen == [1, 3, 6]


def test_dead_units_are_counted(tiny, digits, batch):
    state, step = functions(tiny({"train.diagnostics_every": 1}), digits)
    bias = np.asarray(state.params["dense1"]["bias"]).copy()
    bias[:4] = -1e4  # of 16 units
    params = state.params | {"dense1": state.params["dense1"] | {"bias": jnp.asarray(bias)}}
    _, metrics = step(state.replace(params=params), batch)
    hidden = features(batch, digits) @ np.asarray(params["dense1"]["kernel"]) + bias
    assert metrics["diagnostics"]["dead_units/act1"] == np.mean((hidden <= 0).all(0)) >= 0.25


def test_bfloat16_computes_coarsely_and_keeps_float32_parameters(tiny, digits, batch):
    states, losses = {}, {}
    for precision in ("float32", "bfloat16"):
        state, step = functions(tiny({"train.precision": precision}), digits)
        states[precision], metrics = step(state, batch)
        losses[precision] = float(metrics["examples"]["loss"]) / 32
    assert {x.dtype for x in jax.tree.leaves(states["bfloat16"].params)} == {jnp.dtype("float32")}
    # 8 bits of mantissa: not equal, and not far.
    assert 1e-6 < abs(losses["bfloat16"] - losses["float32"]) < 0.05
    # An update smaller than bfloat16 resolves must not be lost.
    kernel = np.asarray(states["bfloat16"].params["dense1"]["kernel"])
    assert not np.array_equal(kernel, np.asarray(jnp.bfloat16(kernel), np.float32))


def test_each_step_draws_anew(tiny, digits, batch):
    state, step = functions(tiny({"data.augment": ("flip", "pad_crop")}), digits)
    later = state.replace(step=state.step + 1)
    losses = [float(step(s, batch)[1]["examples"]["loss"]) for s in (state, state, later)]
    assert losses[0] == losses[1] != losses[2]


def test_configs_that_differ_in_runtime_values_share_one_program(tiny, digits, mesh):
    clip = {"optimizer.clip.kind": "global_norm"}
    other = {"optimizer.learning_rate": 0.01, "optimizer.clip.threshold": 0.05}
    configs = [tiny(clip), tiny(clip | other)]
    first, second = (get_program(c, digits, mesh) for c in configs)
    assert first is second
    batch = next(
        make_feed(digits.train, kind="auto", batch_size=32, seed=0, sharding=batch_sharding(mesh))
    )
    kernels, metrics = [], []
    for config in configs:
        state = first.init(jax.random.key(0), hyperparams(config.optimizer))
        start = np.asarray(state.params["dense1"]["kernel"]).copy()
        state, numbers = first.step(state, batch)
        kernels.append(np.asarray(state.params["dense1"]["kernel"]) - start)
        metrics.append(numbers["updates"])
    np.testing.assert_allclose(metrics[1]["gradient_norm_clipped"], 0.05, rtol=1e-5)
    ratio = np.linalg.norm(kernels[1]) / np.linalg.norm(kernels[0])
    clipped = 0.05 / min(1.0, float(metrics[0]["gradient_norm"]))
    np.testing.assert_allclose(ratio, 0.1 * clipped, rtol=1e-3)
