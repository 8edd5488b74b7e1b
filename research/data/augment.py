"""Augmentation and standardisation on the device: pure, keyed functions of batches of images."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from research.config import unknown
from research.data.split import Split


def flip(key: jax.Array, images: jax.Array) -> jax.Array:
    """Mirror each image [N, H, W, C] left to right with probability one half."""
    mirrored = jax.random.bernoulli(key, shape=(len(images), 1, 1, 1))
    return jnp.where(mirrored, images[:, :, ::-1], images)


def pad_crop(key: jax.Array, images: jax.Array) -> jax.Array:
    """Pad each image [N, H, W, C] with zeros and crop it back at a random place.

    The padding is H/8 pixels a side, at least 1: the usual 4 on 32×32 images.

    References:
        K. He et al., Deep Residual Learning for Image Recognition, CVPR 2016, section 4.2.
    """
    count, height, *_ = images.shape
    pad = max(1, height // 8)
    padded = jnp.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    corners = jax.random.randint(key, (count, 2), 0, 2 * pad + 1)

    def crop(image, corner):
        return jax.lax.dynamic_slice(image, (corner[0], corner[1], 0), images.shape[1:])

    return jax.vmap(crop)(padded, corners)


AUGMENTATIONS = {"flip": flip, "pad_crop": pad_crop}


def augment(names: Sequence[str], key: jax.Array, images: jax.Array) -> jax.Array:
    """Apply the named augmentations to images [N, H, W, C] in order, each with its own key.

    Raises:
        UserError: a name in `data.augment` that is not in `AUGMENTATIONS`.
    """
    check(names)
    for position, name in enumerate(names):
        images = AUGMENTATIONS[name](jax.random.fold_in(key, position), images)
    return images


def check(names: Sequence[str]) -> None:
    """Raise a `UserError` for a name in `data.augment` that is not in `AUGMENTATIONS`."""
    for name in names:
        if name not in AUGMENTATIONS:
            raise unknown("data.augment", name, AUGMENTATIONS)


def standardize(images: jax.Array, mean, std, dtype=jnp.float32) -> jax.Array:
    """Turn uint8 images [N, H, W, C] into floats of mean 0 and deviation 1 per channel.

    Args:
        images: uint8, 0..255.
        mean: [C], of the training split, where 255 counts as 1.
        std: [C], the same.
        dtype: of the result.
    """
    scaled = (images.astype(jnp.float32) / 255 - jnp.asarray(mean)) / jnp.asarray(std)
    return scaled.astype(dtype)


def channel_statistics(split: Split, limit: int = 10_000) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation per channel, float32[C] each, where 255 counts as 1.

    Taken over the split, or over `limit` evenly spaced examples of a larger one. A constant channel
    is given the deviation 1.
    """

    def measure():
        positions = np.linspace(0, len(split) - 1, min(len(split), limit)).astype(int)
        images = split.read(positions)[0] if len(split) > limit else split.arrays()[0]
        pixels = images.reshape(-1, images.shape[-1])
        # Exact integer sums: the same bits in whatever order NumPy adds.
        total = pixels.sum(0, dtype=np.int64)
        squares = np.stack([np.vdot(p, p) for p in pixels.T.astype(np.int64)])
        mean = total / len(pixels)
        std = np.sqrt(np.maximum(squares / len(pixels) - mean**2, 0))
        std = np.where(std > 0, std, 255)
        return np.float32(mean / 255), np.float32(std / 255)

    return split.remember(("statistics", limit), measure)
