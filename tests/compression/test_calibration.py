"""Ranges against NumPy's, over the very arrays that enter the layers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.compression.calibration import (
    FINE,
    OCTAVES,
    Seen,
    calibrate,
    observe,
    quantize_inputs,
)
from research.compression.quantization import Quantized
from research.config import UserError
from research.models import create_model
from research.models.rnn.network import RecurrentNetwork


@pytest.fixture(scope="module")
def observed():
    """Two batches of heavy-tailed inputs of a dense network, padded, and what `observe` saw."""
    rng = np.random.default_rng(0)
    batches = [
        {"x": rng.standard_t(3, (500, 40)).astype(np.float32), "mask": np.ones(500, np.float32)}
        for _ in range(2)
    ]
    batches[1]["mask"][300:] = 0
    batches[1]["x"][300:] = 1e6
    model = create_model("mlp", num_classes=3, hidden=(7,))
    quantized = Quantized(model, "float32", True)
    variables = quantized.init(jax.random.key(0), batches[0]["x"])
    see = jax.jit(lambda v, b: observe(lambda v, b: quantized.apply(v, b["x"]), v, b))
    real = np.concatenate([batches[0]["x"], batches[1]["x"][:300]])
    _, endpoints = model.apply({"params": variables["params"]}, real)
    return [see(variables, batch) for batch in batches], real, endpoints


def test_the_largest_and_the_percentile(observed):
    seen, real, endpoints = observed
    ranges = calibrate(seen, "absmax")
    assert ranges["dense1"]["inputs"] == np.abs(real).max()
    hidden = np.asarray(endpoints["act1"])
    assert ranges["head"]["inputs"] == pytest.approx(hidden.max(), rel=1e-6)
    percentile = calibrate(seen, "percentile")
    for layer, values in (("dense1", real), ("head", hidden)):
        exact = np.percentile(np.abs(values), 99.9, method="higher")
        assert exact <= percentile[layer]["inputs"] <= exact * 2 ** (1 / 64) * 1.0001  # a bin


def test_no_value_is_lost_of_large_maps(observed):
    """Ones of float32 add up to no more than 2^24, those of int32 to 2^31 a batch."""
    seen = jax.device_get(observed[0][0]["dense1"])
    assert seen.counts.sum() == 500 * 40 and seen.counts.dtype == np.int32
    largest = Seen(1.0, np.array([2**31 - 1, 1], np.int32))
    total = largest + largest + largest + Seen(1.0, np.array([1, 0], np.int32))
    np.testing.assert_array_equal(total.counts, [3 * (2**31 - 1) + 1, 3])


def test_steps_beyond_a_sequence_are_not_counted():
    rng = np.random.default_rng(1)
    lengths, mask = np.array([2, 6, 3, 6]), np.array([1, 1, 1, 0])
    inputs = rng.normal(size=(4, 6, 3)).astype(np.float32)
    network = RecurrentNetwork(num_classes=2, cell="min_gru", hidden_size=5, readout="steps")
    model = Quantized(network, "float32", True)
    variables = model.init(jax.random.key(0), inputs)
    batch = {"inputs": inputs, "length": lengths, "mask": mask}
    found = observe(lambda v, b: model.apply(v, b["inputs"], b["length"]), variables, batch)
    _, endpoints = network.apply({"params": variables["params"]}, inputs, lengths)
    real = (np.arange(6) < lengths[:, None]) & (mask[:, None] > 0)
    seen = {"layer1_forward": inputs, "layer1_forward/input": inputs, "head": endpoints["layer1"]}
    assert found.keys() == seen.keys()
    for name, x in seen.items():
        sizes = np.abs(np.asarray(x)[real])
        assert found[name].counts.sum() == sizes.size == 11 * x.shape[-1]
        edges = 2.0 ** (np.arange(1, FINE * OCTAVES + 1) / FINE - OCTAVES // 2)
        below = np.searchsorted(np.sort(sizes.ravel()), edges)
        # Rounding may move a value to the bin beside.
        assert np.abs(np.cumsum(found[name].counts) - below).max() <= 1
        assert found[name].largest == sizes.max()


def test_the_least_squared_error(observed):
    """No other range of a fine grid quantises the inputs with less error, by more than 2 %."""
    seen, real, _ = observed
    found = calibrate(seen, "mse")["dense1"]["inputs"]
    assert found < 0.9 * np.abs(real).max()

    def error(limit):
        return np.mean(
            (np.asarray(quantize_inputs(jnp.asarray(real), jnp.float32(limit))) - real) ** 2
        )

    errors = [error(limit) for limit in np.linspace(0.2, 1, 60) * np.abs(real).max()]
    assert error(found) < 1.02 * min(errors)


def test_inputs_are_rounded_and_cut_off():
    x = jnp.array([-9.0, -0.26, 0.0, 0.1, 0.26, 9.0])
    step = 1 / 127.5
    expected = np.clip(np.round(np.asarray(x) / step), -128, 127) * step
    np.testing.assert_allclose(quantize_inputs(x, jnp.float32(1)), expected, rtol=1e-6)
    np.testing.assert_array_equal(quantize_inputs(x, jnp.float32(0)), x)  # not found yet
    slope = jax.grad(lambda x: quantize_inputs(x, jnp.float32(1)).sum())(x)
    np.testing.assert_array_equal(slope, [0, 1, 1, 1, 1, 0])


def test_nothing_to_calibrate_on():
    with pytest.raises(UserError, match=r"quantize.batches: found no example to calibrate on"):
        calibrate([], "absmax")
