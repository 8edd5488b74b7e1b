"""Where in an image a class is decided: by the gradient, averaged over noise, and by Grad-CAM."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from research.inspection.endpoints import Apply, cut


def gradient(apply: Apply, variables: Any, images: jax.Array, classes: jax.Array) -> np.ndarray:
    """Return how much each pixel moves the output of a class: [N, H, W].

    That is |∂ output / ∂ pixel|, the greatest of the colour channels.

    Args:
        apply: of the model, whose outputs are [N, K].
        variables: of the model.
        images: [N, H, W, C], as `apply` takes them.
        classes: int[N], whose output it is of each image.

    References:
        K. Simonyan, A. Vedaldi, A. Zisserman, Deep inside convolutional networks, 2013, §3.
    """
    return np.abs(_slopes(apply, variables, images, classes)).max(-1)


def smooth_gradient(
    apply: Apply,
    variables: Any,
    images: jax.Array,
    classes: jax.Array,
    key: jax.Array,
    *,
    noise: float = 0.15,
    samples: int = 32,
    watch: Callable[[Iterable], Iterable] = iter,
) -> np.ndarray:
    """Return SmoothGrad: as `gradient`, but of the mean slope over noisy copies of an image.

    Args:
        apply: of the model.
        variables: of the model.
        images: [N, H, W, C].
        classes: int[N].
        key: of the noise.
        noise: its standard deviation, as a share of what lies between an image's least and
            greatest value.
        samples: how many copies.
        watch: goes through the copies, and may show how far it is.

    References:
        D. Smilkov et al., SmoothGrad: removing noise by adding noise, 2017, §3.
    """
    spread = noise * (images.max((1, 2, 3), keepdims=True) - images.min((1, 2, 3), keepdims=True))
    total = 0.0
    for each in watch(jax.random.split(key, samples)):
        noisy = images + spread * jax.random.normal(each, images.shape, images.dtype)
        total = total + _slopes(apply, variables, noisy, classes)
    return np.abs(np.asarray(total / samples)).max(-1)


def grad_cam(
    apply: Apply, variables: Any, images: jax.Array, classes: jax.Array, endpoint: str
) -> np.ndarray:
    """Return Grad-CAM, [N, H, W]: relu(Σ_k α_k A^k), made as large as the image (bilinearly).

    A^k is channel k of the endpoint, and α_k the mean over its positions of ∂ output / ∂ A^k.

    Args:
        apply: of the model.
        variables: of the model.
        images: [N, H, W, C].
        classes: int[N].
        endpoint: whose channels are feature maps [N, h, w, k].

    Raises:
        UserError: the model has no such endpoint.

    References:
        R. R. Selvaraju et al., Grad-CAM, ICCV 2017, eqs. 1 and 2.
    """
    return np.asarray(_cam(apply, variables, images, classes, endpoint))


@partial(jax.jit, static_argnums=0)
def _slopes(apply, variables, images, classes):
    def total(images):
        outputs, _ = apply(variables, images)
        return jnp.take_along_axis(outputs, classes[:, None], axis=1).sum()

    return jax.grad(total)(images)


@partial(jax.jit, static_argnums=(0, 4))
def _cam(apply, variables, images, classes, endpoint):
    maps, rest = cut(apply, variables, images, endpoint)

    def total(maps):
        return jnp.take_along_axis(rest(maps), classes[:, None], axis=1).sum()

    weights = jax.grad(total)(maps).mean((1, 2), keepdims=True)
    found = jax.nn.relu((weights * maps).sum(-1))
    return jax.image.resize(found, images.shape[:3], "bilinear")
