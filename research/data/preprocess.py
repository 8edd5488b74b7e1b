"""From stored bytes to what a model sees: scaling and normalisation of images, on the device."""

import jax
import jax.numpy as jnp
import numpy as np

from research.config import UserError, unknown
from research.data.images import Images

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and deviation, red green blue
NORMALIZATIONS = ("dataset", "mean", "unit", "symmetric", "imagenet")


def to_unit(images: jax.Array) -> jax.Array:
    """Turn uint8 images, 0..255, into float32 in [0, 1]; such as are floats stay as they are."""
    if jnp.issubdtype(images.dtype, jnp.floating):
        return images
    return images.astype(jnp.float32) / 255


def normalize(images: jax.Array, mean, std, dtype=jnp.float32) -> jax.Array:
    """Subtract a mean and divide by a deviation, per channel.

    Args:
        images: float[N, H, W, C] in [0, 1].
        mean: [C].
        std: [C].
        dtype: of the result.
    """
    return ((images - jnp.asarray(mean)) / jnp.asarray(std)).astype(dtype)


def normalization(name: str, split: Images) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the mean and the deviation per channel by which `normalize` does what `name` says.

    Args:
        name: `dataset`, to mean 0 and deviation 1 over the training split; `mean`, to mean 0;
            `unit`, [0, 1] as it is; `symmetric`, to [-1, 1]; `imagenet`, by ImageNet's statistics,
            which published weights expect.
        split: the training split.

    Raises:
        UserError: an unknown name, or `imagenet` for images that have not 3 channels.
    """
    channels = split.image_shape[-1]
    if name in ("dataset", "mean"):
        mean, std = (tuple(x.tolist()) for x in channel_statistics(split))
        return mean, std if name == "dataset" else (1.0,) * channels
    if name == "unit":
        return (0.0,) * channels, (1.0,) * channels
    if name == "symmetric":
        return (0.5,) * channels, (0.5,) * channels
    if name != "imagenet":
        raise unknown("data.normalize", name, NORMALIZATIONS)
    if channels != 3:
        others = ", ".join(other for other in NORMALIZATIONS if other != name)
        raise UserError(
            f"data.normalize: found 'imagenet', whose statistics are of 3 channels, and images of "
            f"{channels}; expected one of {others}"
        )
    return IMAGENET


def channel_statistics(split: Images, limit: int = 10_000) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation per channel, float32[C] each, where 255 counts as 1.

    Taken over the split, or over `limit` evenly spaced examples of a larger one. A constant channel
    is given the deviation 1.
    """

    def measure():
        positions = np.linspace(0, len(split) - 1, min(len(split), limit)).astype(int)
        images = (split.read(positions) if len(split) > limit else split.arrays())["image"]
        pixels = images.reshape(-1, images.shape[-1])
        # Exact integer sums: the same bits in whatever order NumPy adds.
        total = pixels.sum(0, dtype=np.int64)
        squares = np.stack([np.vdot(p, p) for p in pixels.T.astype(np.int64)])
        mean = total / len(pixels)
        std = np.sqrt(np.maximum(squares / len(pixels) - mean**2, 0))
        std = np.where(std > 0, std, 255)
        return np.float32(mean / 255), np.float32(std / 255)

    # Of a set that is only described they are given.
    return getattr(split, "statistics", None) or split.remember(("statistics", limit), measure)
