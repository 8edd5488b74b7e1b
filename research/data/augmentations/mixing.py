"""Augmentations that mix two examples, their labels in the same shares.

An example's partner is the one before it in the batch, which is shuffled already. Targets are
float[N, ...]: one-hot classes, or whatever else may be averaged.
"""

from typing import Annotated

import jax
import jax.numpy as jnp

from research.data.augmentations.colour import box

Alpha = Annotated[float, (0.01, 100)]


def mixup(key: jax.Array, images: jax.Array, targets: jax.Array, *, alpha: Alpha = 1.0):
    """Average each example with its partner: λ of its own, λ from Beta(`alpha`, `alpha`).

    Returns:
        The images and the targets.

    References:
        H. Zhang et al., mixup: Beyond Empirical Risk Minimization, ICLR 2018, section 2.
    """
    own = jax.random.beta(key, alpha, alpha, (len(images),), images.dtype)
    return _average(own, images), _average(own, targets)


def cutmix(key: jax.Array, images: jax.Array, targets: jax.Array, *, alpha: Alpha = 1.0):
    """Replace a box of each image by its partner's; the label's share is the area's.

    The box has the image's shape and an area of 1 - λ, λ from Beta(`alpha`, `alpha`), around a
    random point; what reaches beyond the border is cut off, and counts in neither.

    Returns:
        The images and the targets.

    References:
        S. Yun et al., CutMix: Regularization Strategy to Train Strong Classifiers with Localizable
        Features, ICCV 2019, section 3.1.
    """
    count, height, width, _ = images.shape
    share_key, place_key = jax.random.split(key)
    share = 1 - jax.random.beta(share_key, alpha, alpha, (count,), images.dtype)
    size = jnp.asarray([height, width], images.dtype)
    sides = jnp.round(jnp.sqrt(share)[:, None] * size)
    low = jnp.floor(size * jax.random.uniform(place_key, (count, 2), images.dtype) - sides / 2)
    replaced = box(low, low + sides, height, width)
    own = 1 - replaced.mean((1, 2, 3), dtype=images.dtype)
    return jnp.where(replaced, jnp.roll(images, 1, 0), images), _average(own, targets)


def _average(own: jax.Array, values: jax.Array) -> jax.Array:
    own = own.reshape(-1, *[1] * (values.ndim - 1)).astype(values.dtype)
    return own * values + (1 - own) * jnp.roll(values, 1, 0)
