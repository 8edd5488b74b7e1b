"""Convolutions whose gradient comes in chunks are XLA's own, in value and all derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from research.distributed.mesh import make_mesh
from research.models import convolution
from research.models.convolution import convolve

CASES = {  # strides, padding, groups
    "same": (1, ((1, 1), (1, 1)), 1),
    "strides": (2, ((1, 0), (0, 2)), 1),
    "grouped": (1, ((0, 0), (0, 0)), 3),
}


def pair(case, n=64, dtype="float64"):
    """Both convolutions, as functions of images and kernel; the images; a kernel."""
    strides, padding, groups = CASES[case]
    options = {
        "dimension_numbers": ("NHWC", "HWIO", "NHWC"),
        "feature_group_count": groups,
    }
    key = np.random.default_rng(0)
    x = jnp.asarray(key.standard_normal((n, 7, 6, 3)), dtype)
    kernel = jnp.asarray(key.standard_normal((3, 3, 3 // groups, 6)), dtype)

    def ours(x, kernel):
        return convolve(x, kernel, (strides, strides), padding, **options)

    def theirs(x, kernel):
        return lax.conv_general_dilated(x, kernel, (strides, strides), padding, **options)

    return ours, theirs, x, kernel


def squares(function):
    """A number that depends on all outputs, not linearly."""
    return lambda x, kernel: (jnp.sin(function(x, kernel)) ** 2).sum()


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("case", CASES)
def test_values_and_derivatives_are_xlas(case):
    ours, theirs, x, kernel = pair(case)
    assert "jvp" in str(jax.make_jaxpr(ours)(x, kernel))  # it is not XLA's own
    np.testing.assert_array_equal(ours(x, kernel), theirs(x, kernel))
    for by in ((0, 1), 0, 1):
        got, expected = (jax.grad(squares(f), by)(x, kernel) for f in (ours, theirs))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10), got, expected)
    along = jnp.cos(x), jnp.cos(kernel)
    for f, g in ((ours, theirs), *[(jax.grad(squares(h), 1) for h in (ours, theirs))]):
        got, expected = (jax.jvp(each, (x, kernel), along)[1] for each in (f, g))
        np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-10)


def test_the_gradient_is_a_sum_over_chunks():
    ours, theirs, x, kernel = pair("same", n=128)
    count = [
        str(jax.make_jaxpr(jax.grad(squares(f), 1))(x, kernel)).count("conv_general_dilated[")
        for f in (ours, theirs)
    ]
    assert count[0] - count[1] == 128 // convolution.CHUNK - 1


@pytest.mark.parametrize("n", [1, 32, 33, 100])
def test_other_batches_are_left_to_xla(n):
    ours, theirs, x, kernel = pair("same", n)
    assert str(jax.make_jaxpr(ours)(x, kernel)) == str(jax.make_jaxpr(theirs)(x, kernel))


def test_a_batch_that_devices_share_stays_where_it_is():
    ours, theirs, x, kernel = pair("same", n=128)
    mesh = make_mesh(jax.devices()[:8])
    shared = jax.device_put(x, NamedSharding(mesh, P(mesh.axis_names[0])))
    gradient = jax.jit(jax.grad(squares(ours), 1)).lower(shared, kernel).compile()
    np.testing.assert_allclose(
        gradient(shared, kernel), jax.grad(squares(theirs), 1)(x, kernel), rtol=1e-10
    )
    program = gradient.as_text()
    assert "all-reduce" in program  # of the kernel's gradient; no image moves
    assert not any(
        f"{name}(" in program for name in ("all-gather", "all-to-all", "collective-permute")
    )
