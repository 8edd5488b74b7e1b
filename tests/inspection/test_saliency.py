"""Saliency in closed form, and on a network that was trained to look at one place."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from sklearn.datasets import load_digits

from research.config import UserError
from research.inspection.endpoints import cut, shapes
from research.inspection.occlusion import at_pixels, occlude
from research.inspection.saliency import grad_cam, gradient, smooth_gradient
from research.models import create_model

PATCH = slice(10, 13), slice(3, 6)  # where what decides the class is planted


class Pooled(nn.Module):
    """Two convolutions, the mean over positions, a linear layer."""

    @nn.compact
    def __call__(self, x):
        first = nn.relu(nn.Conv(8, (3, 3))(x))
        maps = nn.relu(nn.Conv(16, (3, 3))(first))
        return nn.Dense(2, name="head")(maps.mean((1, 2))), {"first": first, "maps": maps}


@pytest.fixture(scope="module")
def planted():
    """A network trained on digits of 16×16: of class 1 are those with a chessboard planted."""
    images = load_digits().images[:1200].repeat(2, 1).repeat(2, 2)[..., None] / 16
    labels = np.random.default_rng(0).integers(2, size=len(images))
    board = (np.indices((3, 3)).sum(0) % 2)[..., None]
    for image, label in zip(images, labels, strict=True):
        if label:
            image[PATCH] = board
    images, labels = jnp.asarray(images, jnp.float32), jnp.asarray(labels)
    model, optimizer = Pooled(), optax.adam(0.01)
    params = model.init(jax.random.key(0), images[:1])
    state = optimizer.init(params)

    @jax.jit
    def step(params, state, images, labels):
        def loss(params):
            outputs, _ = model.apply(params, images)
            return optax.softmax_cross_entropy_with_integer_labels(outputs, labels).mean()

        updates, state = optimizer.update(jax.grad(loss)(params), state)
        return optax.apply_updates(params, updates), state

    for i in range(120):
        rows = slice(64 * i % 1024, 64 * i % 1024 + 64)
        params, state = step(params, state, images[rows], labels[rows])
    test, wanted = images[1088:], labels[1088:]
    right = model.apply(params, test)[0].argmax(-1) == wanted
    assert right.mean() > 0.95
    return model.apply, params, test[right & (wanted == 1)][:24]


def inside(maps):
    """The share of maps [N, H, W] whose peak lies on the patch."""
    peaks = [np.unravel_index(each.argmax(), each.shape) for each in maps]
    return np.mean(
        [all(s.start <= i < s.stop for s, i in zip(PATCH, p, strict=True)) for p in peaks]
    )


def test_occlusion_peaks_on_what_the_network_looks_at(planted):
    apply, params, images = planted

    def score(params, images):
        return jax.nn.softmax(apply(params, images)[0])[:, 1]

    covered = occlude(score, params, images, patch=3, stride=1, fill=0.3)
    drops = at_pixels(np.asarray(score(params, images)) - covered, (16, 16), 3, 1)
    assert inside(np.moveaxis(drops, -1, 0)) > 0.9
    assert inside(drops.mean(-1)[None]) == 1


def test_grad_cam_peaks_on_what_the_network_looks_at(planted):
    apply, params, images = planted
    found = grad_cam(apply, params, images, jnp.ones(len(images), int), "maps")
    assert found.shape == (24, 16, 16)
    assert inside(found) > 0.9
    assert inside(found.mean(0)[None]) == 1


def test_the_gradient_is_largest_near_what_the_network_looks_at(planted):
    apply, params, images = planted
    classes = jnp.ones(len(images), int)
    plain = gradient(apply, params, images, classes)
    smooth = smooth_gradient(apply, params, images, classes, jax.random.key(0), samples=8)
    near = (
        slice(PATCH[0].start - 2, PATCH[0].stop + 2),
        slice(PATCH[1].start - 2, PATCH[1].stop + 2),
    )
    for found in (plain, smooth):
        found = found.mean(0)
        assert found[near].mean() > 1.5 * found.mean()


def test_grad_cam_of_a_network_that_pools_is_its_class_activation_map(planted):
    """Of a mean over positions and a linear layer, α is the class's weights over their number."""
    apply, params, images = planted
    classes = jnp.arange(len(images)) % 2
    maps = apply(params, images)[1]["maps"]
    weights = params["params"]["head"]["kernel"].T[classes] / 256
    expected = np.maximum(np.einsum("nhwk,nk->nhw", maps, weights), 0)
    np.testing.assert_allclose(
        grad_cam(apply, params, images, classes, "maps"), expected, rtol=1e-4, atol=1e-7
    )


def test_gradient_and_its_mean_over_noise_in_closed_form():
    """Of Σ w x² the slope at x is 2 w x, and over noise that at its mean."""
    w = np.random.default_rng(0).normal(size=(2, 5, 4, 3)).astype(np.float32)

    def apply(w, images):
        return jnp.einsum("khwc,nhwc->nk", w, images**2), {}

    images = np.random.default_rng(1).uniform(0.5, 1, (3, 5, 4, 3)).astype(np.float32)
    classes, key = np.array([1, 0, 1]), jax.random.key(0)
    found = gradient(apply, w, jnp.asarray(images), classes)
    np.testing.assert_allclose(found, abs(2 * w[classes] * images).max(-1), rtol=1e-5)
    smooth = smooth_gradient(apply, w, jnp.asarray(images), classes, key, noise=0.2, samples=3)
    noise = np.mean([jax.random.normal(k, images.shape) for k in jax.random.split(key, 3)], 0)
    spread = 0.2 * (images.max((1, 2, 3)) - images.min((1, 2, 3)))
    moved = images + spread[:, None, None, None] * noise
    np.testing.assert_allclose(smooth, abs(2 * w[classes] * moved).max(-1), rtol=1e-4)


def test_a_model_cut_at_an_endpoint_is_the_model():
    model, name = create_model("resnet", depth=8, width=2, num_classes=3), "stage1/block1/act2"
    images = jnp.asarray(load_digits().images[:2, ..., None] / 16)

    def apply(variables, images):
        return model.apply(variables, images, train=False)

    @jax.jit
    def run(images):
        variables = model.init(jax.random.key(0), images)
        outputs, endpoints = apply(variables, images)
        value, rest = cut(apply, variables, images, name)
        return outputs, endpoints[name], value, rest(value), rest(value[::-1]), variables

    outputs, wanted, value, same, exchanged, variables = run(images)
    np.testing.assert_allclose(value, wanted, rtol=1e-5)
    np.testing.assert_allclose(same, outputs, rtol=1e-5)
    # Of two images exchanged at the endpoint, the outputs are exchanged.
    np.testing.assert_allclose(exchanged, outputs[::-1], rtol=1e-4)
    assert abs(outputs[0] - outputs[1]).max() > 0.01
    order = list(shapes(apply, variables, images))
    assert order[0] == "stem/act" and order[-1] == "logits"
    with pytest.raises(UserError, match=r"--endpoint: found 'stage1/act2'.*stem/act.*did you mean"):
        cut(apply, variables, images, "stage1/act2")
