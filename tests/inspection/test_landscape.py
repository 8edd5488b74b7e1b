"""Landscapes in closed form, and of networks that compute the same."""

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_digits

from research.inspection.landscape import filter_normalized, landscape

KEY = jax.random.key(0)
AT = np.array([-1.0, 0.0, 0.5])


@pytest.fixture(scope="module")
def params():
    shapes = {"conv": {"kernel": (3, 3, 2, 4), "bias": (4,)}, "tokens": {"embedding": (6, 5)}}
    keys = iter(jax.random.split(jax.random.key(7), 3))
    return jax.tree.map(
        lambda s: 3 * jax.random.normal(next(keys), s), shapes, is_leaf=lambda s: type(s) is tuple
    )


def test_each_filter_is_as_long_as_the_parameters(params):
    drawn = filter_normalized(KEY, params)
    assert not drawn["conv"]["bias"].any()
    for path, axes in ((("conv", "kernel"), (0, 1, 2)), (("tokens", "embedding"), 1)):
        x, d = (tree[path[0]][path[1]] for tree in (params, drawn))
        lengths = [np.sqrt((np.asarray(v) ** 2).sum(axes)) for v in (x, d)]
        np.testing.assert_allclose(*lengths, rtol=1e-5)
        cosine = (x * d).sum() / (np.linalg.norm(x) * np.linalg.norm(d))
        assert abs(cosine) < 0.5
    other = filter_normalized(jax.random.key(1), params)
    assert not np.allclose(other["conv"]["kernel"], drawn["conv"]["kernel"])


def test_the_loss_of_a_quadratic(params):
    """½‖θ + a x + b y‖² = ½ (‖θ‖² + …), by its scalar products."""
    flat = jax.flatten_util.ravel_pytree
    x, y = (filter_normalized(key, params) for key in jax.random.split(KEY))

    def loss(params, scale):
        return scale * (flat(params)[0] ** 2).sum() / 2

    watched = []
    found = landscape(loss, params, (x, y), AT, 3.0, watch=lambda p: watched.extend(p) or p)
    vectors = np.stack([flat(tree)[0] for tree in (params, x, y)]).astype(np.float64)
    for i, b in enumerate(AT):
        for j, a in enumerate(AT):
            expected = 1.5 * ((np.array([1, a, b]) @ vectors) ** 2).sum()
            assert found[i, j] == pytest.approx(expected, rel=1e-4)
    assert len(watched) == 9


def test_a_network_scaled_without_a_change_has_the_same_landscape():
    """Li et al. 2018, §3: of ReLU units, scaled up before and down after."""
    digits = load_digits()
    x, labels = digits.data[:200].astype(np.float32) / 16, digits.target[:200]

    def loss(params):
        hidden = jax.nn.relu(x @ params["in"]["kernel"])
        log = jax.nn.log_softmax(hidden @ params["out"]["kernel"])
        return -log[jnp.arange(200), labels].mean()

    one, two = jax.random.split(KEY)
    params = {
        "in": {"kernel": jax.random.normal(one, (64, 12)) / 8},
        "out": {"kernel": jax.random.normal(two, (12, 10)) / 3},
    }
    scaled = {"in": {"kernel": 10 * params["in"]["kernel"]}}
    scaled |= {"out": {"kernel": params["out"]["kernel"] / 10}}
    found = [
        landscape(loss, p, tuple(filter_normalized(k, p) for k in (one, two)), AT)
        for p in (params, scaled)
    ]
    assert found[0].std() > 0.1
    np.testing.assert_allclose(*found, rtol=1e-4)
