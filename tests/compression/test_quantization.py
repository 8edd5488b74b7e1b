"""Quantised networks against NumPy's rounding, qwix's own integers, and what the file gives."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import qwix
from flax import linen as nn

from research.checks import KINDS
from research.compression.artefact import encode, load, payload, save
from research.compression.quantization import (
    Quantized,
    dequantize,
    glorot,
    quantize,
    signal_to_noise,
    within_bounds,
)
from research.config import UserError
from research.models import create_model
from research.transfer import load_weights

NETWORKS = {
    "lenet": ({"norm": "batch", "filters": (8, 16)}, (4, 8, 8, 1)),
    "recurrent": ({"cell": "gru", "hidden_size": 24}, (4, 6, 5)),
}


@pytest.fixture(scope="module", params=NETWORKS)
def network(request):
    """A model, its variables, and what it is called with; every range is 3."""
    switches, shape = NETWORKS[request.param]
    model = create_model(request.param, num_classes=10, **switches)
    x = jax.random.normal(jax.random.key(1), shape)
    inputs = (x,) if len(shape) == 4 else (x, jnp.array([6, 2, 5, 6]))
    variables = Quantized(model, "int8", True).init(jax.random.key(0), *inputs)
    ranges = jax.tree.map(lambda r: r + 3.0, variables["ranges"])
    return model, variables | {"ranges": ranges}, inputs


def kernels(params):
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {"/".join(p.key for p in path): np.asarray(w) for path, w in leaves if w.ndim > 1}


def rounded(w, kind):
    """What NumPy makes of a kernel; None where it is a float's rounding."""
    axes = tuple(range(w.ndim - 1))
    largest = np.abs(w).max(axes)
    if kind in ("int8", "int4"):
        low, high = (-128, 127) if kind == "int8" else (-8, 7)
        step = np.float32(largest / (high + 0.5))
        return np.clip(np.round(w / step), low, high) * step
    signs = np.where(w >= 0, 1, -1)
    if kind == "xnor":
        return signs * np.abs(w).mean(axes)
    rows, columns = np.prod(w.shape[:-1]), np.prod(w.shape[:-2]) * w.shape[-1]
    return signs * np.sqrt(1.5 / (rows + columns))


@pytest.mark.parametrize("kind", ["int8", "int4", "binary", "xnor"])
def test_kernels_are_rounded_channel_by_channel(network, kind):
    _, variables, _ = network
    small = quantize(variables["params"], kind)
    for name, seen in kernels(dequantize(small)).items():
        exact = kernels(variables["params"])[name]
        largest = np.abs(exact).max(tuple(range(exact.ndim - 1)))
        tie = (np.abs(exact) == largest) & kind.startswith("int")  # half a step beyond the last
        np.testing.assert_allclose(seen[~tie], rounded(exact, kind)[~tie], rtol=1e-5, atol=1e-7)
        assert np.abs(seen - exact).max() <= largest.max() / 7 or not kind.startswith("int")
        noise = np.sum((exact - seen.astype(np.float64)) ** 2)
        decibels = 10 * np.log10(np.sum(exact.astype(np.float64) ** 2) / noise)
        found = signal_to_noise(variables["params"], kind)[name]
        assert found == pytest.approx(decibels, abs=0.01)
    vectors = [w for w in jax.tree.leaves(variables["params"]) if w.ndim < 2]
    kept = [w for w in jax.tree.leaves(dequantize(small)) if w.ndim < 2]
    jax.tree.map(np.testing.assert_array_equal, kept, vectors)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_is_as_small_as_its_bits_and_gives_the_same_logits(network, kind, tmp_path):
    model, variables, inputs = network
    small = variables | {"params": quantize(variables["params"], kind)}
    path = tmp_path / "network.safetensors"
    size = save(path, small, kind)
    assert size == path.stat().st_size == len(encode(small, kind))
    found, loaded = load(path)
    assert found == kind
    quantized = Quantized(model, kind, kind.startswith("int"))
    logits = [jax.jit(quantized.apply)(v, *inputs)[0] for v in (variables, loaded)]
    np.testing.assert_array_equal(*logits)
    bits = {"float32": 32, "bfloat16": 16, "float16": 16, "int8": 8, "int4": 4}.get(kind, 1)
    weights = sum(w.size for w in kernels(variables["params"]).values())
    arrays = jax.tree.leaves(variables)
    others = sum(x.size for x in arrays) - weights
    channels = sum(w.shape[-1] for w in kernels(variables["params"]).values())
    least = weights * bits / 8
    assert least <= payload(small, kind) <= least + 4 * (others + channels) + len(arrays)
    with pytest.raises(UserError, match=f"quantised to {kind}, expected weights in floats"):
        load_weights(path)


@pytest.mark.filterwarnings("ignore:'VariableState' was removed:DeprecationWarning")  # in qwix
def test_products_are_those_of_integers():
    """A convolution and a dense layer, against qwix's, which multiplies and adds integers."""

    class Small(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.relu(nn.Conv(6, (3, 3), name="conv")(x))
            return nn.Dense(5, name="head")(x.reshape(len(x), -1))

    limits = {"conv": 2.0, "head": 1.5}
    x = jax.random.normal(jax.random.key(1), (3, 5, 5, 2))
    mine = Quantized(Small(), "int8", True)
    variables = mine.init(jax.random.key(0), x)
    variables["ranges"] = {name: {"inputs": jnp.float32(limit)} for name, limit in limits.items()}
    rules = [
        qwix.QuantizationRule(
            module_path=name,
            weight_qtype=jnp.int8,
            act_qtype=jnp.int8,
            act_static_scale=True,
            act_calibration_method=f"fixed,-{limit},{limit}",
        )
        for name, limit in limits.items()
    ]
    theirs = qwix.quantize_model(Small(), qwix.PtqProvider(rules))
    abstract = theirs.init(jax.random.key(0), x)["params"]
    params = qwix.quantize_params(variables["params"], abstract)
    scales = {
        name: {k: v for k, v in abstract[name].items() if k.endswith("_scale")} for name in limits
    }
    params = {name: params[name] | scales[name] for name in limits}
    expected = theirs.apply({"params": params}, x)
    np.testing.assert_allclose(mine.apply(variables, x), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("network", ["recurrent"], indirect=True)
def test_a_gradient_goes_straight_through(network):
    """With respect to the weights it is that with respect to what they are rounded to."""
    model, variables, inputs = network
    quantized = Quantized(model, "xnor", False)
    rest = {k: v for k, v in variables.items() if k != "params"}

    def loss(apply, params):
        return jnp.sum(jnp.sin(apply({"params": params, **rest}, *inputs)[0]))

    through = jax.grad(lambda p: loss(quantized.apply, p))(variables["params"])
    rounded_params = dequantize(quantize(variables["params"], "xnor"))
    at = jax.grad(lambda p: loss(model.apply, p))(rounded_params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), through, at)
    assert max(np.abs(g).max() for g in jax.tree.leaves(through)) > 0.01


def test_binary_weights_stay_within_the_magnitude_of_their_signs():
    params = {"kernel": jnp.array([[0.9, -0.2], [0.1, -3.0]]), "bias": jnp.array([5.0, -5.0])}
    optimizer = within_bounds()
    updates = jax.tree.map(lambda w: jnp.full_like(w, 0.3), params)
    updates, _ = optimizer.update(updates, optimizer.init(params), params)
    limit = np.sqrt(1.5 / 4)
    assert glorot((2, 2)) == limit
    moved = optax.apply_updates(params, updates)
    expected = np.clip(np.array([[1.2, 0.1], [0.4, -2.7]]), -limit, limit)
    np.testing.assert_allclose(moved["kernel"], expected, rtol=1e-6)
    np.testing.assert_allclose(moved["bias"], [5.3, -4.7], rtol=1e-6)
