import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import softmax
from scipy.stats import multivariate_normal

from research.tasks.handwriting import draw, log_density, mixture

OUTPUTS = np.random.default_rng(0).normal(size=(5, 6 * 3 + 1)).astype(np.float32)


def parts(outputs):
    """Weights, means and covariances of the components, by the paper's equations."""
    each = np.asarray(outputs[:-1], np.float64).reshape(3, 6)
    deviation, rho = np.exp(each[:, 3:5]), np.tanh(each[:, 5]) * (1 - 1e-4)
    covariance = np.einsum("mi,mj->mij", deviation, deviation)
    covariance[:, [0, 1], [1, 0]] *= rho[:, None]
    return softmax(each[:, 0]), each[:, 1:3], covariance


def test_density_is_that_of_the_mixture():
    offsets = np.random.default_rng(1).normal(size=(5, 2)).astype(np.float32)
    found = log_density(mixture(jnp.asarray(OUTPUTS)), jnp.asarray(offsets))
    for row, offset, value in zip(OUTPUTS, offsets, found, strict=True):
        density = sum(
            weight * multivariate_normal(mean, covariance).pdf(offset)
            for weight, mean, covariance in zip(*parts(row), strict=True)
        )
        np.testing.assert_allclose(value, np.log(density), rtol=1e-4, atol=1e-4)


def test_draws_have_the_moments_of_the_mixture():
    many = 20_000
    found = mixture(jnp.broadcast_to(jnp.asarray(OUTPUTS[0]), (many, OUTPUTS.shape[1])))
    drawn = np.asarray(draw(jax.random.key(0), found), np.float64)
    weights, means, covariances = parts(OUTPUTS[0])
    mean = weights @ means
    second = np.einsum("m,mij->ij", weights, covariances + np.einsum("mi,mj->mij", means, means))
    error = np.sqrt(np.diag(second) / many)
    assert np.all(np.abs(drawn[:, :2].mean(0) - mean) < 5 * error)
    np.testing.assert_allclose(
        np.cov(drawn[:, :2].T), second - np.outer(mean, mean), rtol=0.15, atol=0.05
    )
    lifted = 1 / (1 + np.exp(-float(OUTPUTS[0, -1])))
    assert abs(drawn[:, 2].mean() - lifted) < 5 * 0.5 / np.sqrt(many)


def test_a_low_temperature_draws_the_likeliest_component():
    found = mixture(jnp.asarray(OUTPUTS))
    drawn = draw(jax.random.key(0), found, temperature=1e-4)
    best = np.asarray(found.log_share).argmax(-1)
    np.testing.assert_allclose(drawn[:, :2], np.asarray(found.mean)[np.arange(5), best], atol=0.1)
    np.testing.assert_array_equal(drawn[:, 2], OUTPUTS[:, -1] > 0)
