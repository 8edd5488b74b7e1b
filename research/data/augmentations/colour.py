"""Augmentations that change values in place, of images float[N, H, W, C] in [0, 1].

Each image has its own draw; what leaves [0, 1] is clipped.
"""

from typing import Annotated

import dm_pix
import jax
import jax.numpy as jnp

from research.data.augmentations.geometry import Fill, Share, symmetric


def brightness(key: jax.Array, images: jax.Array, *, strength: Share = 0.2) -> jax.Array:
    """Add a number drawn from ±`strength`."""
    delta = strength * symmetric(key, (len(images), 1, 1, 1))
    return jnp.clip(dm_pix.adjust_brightness(images, delta), 0, 1)


def contrast(key: jax.Array, images: jax.Array, *, strength: Share = 0.4) -> jax.Array:
    """Multiply the distance from each channel's mean by a factor from 1 ± `strength`."""
    factor = 1 + strength * symmetric(key, (len(images), 1, 1, 1))
    return jnp.clip(dm_pix.adjust_contrast(images, factor), 0, 1)


def saturation(key: jax.Array, images: jax.Array, *, strength: Share = 0.4) -> jax.Array:
    """Multiply the saturation (of HSV) by a factor from 1 ± `strength`; needs 3 channels."""
    factor = 1 + strength * symmetric(key, (len(images), 1, 1))
    return jnp.where(factor[..., None] == 1, images, dm_pix.adjust_saturation(images, factor))


def hue(
    key: jax.Array, images: jax.Array, *, strength: Annotated[float, (0, 0.5)] = 0.1
) -> jax.Array:
    """Turn the hue by a share of the colour circle from ±`strength`; needs 3 channels."""
    delta = strength * symmetric(key, (len(images), 1, 1))
    return jnp.where(delta[..., None] == 0, images, dm_pix.adjust_hue(images, delta))


def color_jitter(
    key: jax.Array,
    images: jax.Array,
    *,
    brightness: Share = 0.2,
    contrast: Share = 0.4,
    saturation: Share = 0.4,
    hue: Annotated[float, (0, 0.5)] = 0.1,
) -> jax.Array:
    """Change brightness, contrast, saturation and hue, in this order, each by its own strength.

    Grey images have neither saturation nor hue: those two pass them by.

    References:
        T. Chen et al., A Simple Framework for Contrastive Learning of Visual Representations, ICML
        2020, appendix A (there in random order, with other strengths).
    """
    strengths = [brightness, contrast, saturation, hue]
    if images.shape[-1] != 3:
        strengths = strengths[:2]
    keys = jax.random.split(key, 4)
    for change, key, strength in zip(_JITTER, keys, strengths, strict=False):
        images = change(key, images, strength=strength)
    return images


_JITTER = (brightness, contrast, saturation, hue)


def gaussian_noise(key: jax.Array, images: jax.Array, *, std: Share = 0.05) -> jax.Array:
    """Add normal noise of deviation `std` to every value."""
    noise = std * jax.random.normal(key, images.shape, images.dtype)
    return jnp.clip(images + noise, 0, 1)


def cutout(key: jax.Array, images: jax.Array, fill: Fill = 0.0, *, size: Share = 0.5) -> jax.Array:
    """Fill a square whose side is `size` of the height, centred on a random pixel.

    It may reach beyond the border, as in the paper.

    References:
        T. DeVries and G. Taylor, Improved Regularization of Convolutional Neural Networks with
        Cutout, 2017, section 3.2.
    """
    count, height, width, channels = images.shape
    side = round(size * height)
    centres = jax.random.randint(key, (count, 2), 0, jnp.asarray([height, width]))
    inside = box(centres - side // 2, centres - side // 2 + side, height, width)
    return jnp.where(inside, jnp.broadcast_to(jnp.asarray(fill, images.dtype), channels), images)


def box(low: jax.Array, high: jax.Array, height: int, width: int) -> jax.Array:
    """Return which pixels lie in each box from `low` to below `high` [N, 2]: bool[N, H, W, 1]."""
    low, high = low[:, :, None], high[:, :, None]
    rows, columns = jnp.arange(height), jnp.arange(width)
    rows = (rows >= low[:, 0]) & (rows < high[:, 0])
    columns = (columns >= low[:, 1]) & (columns < high[:, 1])
    return (rows[:, :, None] & columns[:, None, :])[..., None]
