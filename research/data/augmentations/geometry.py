"""Augmentations that move pixels: of images float[N, H, W, C] in [0, 1], each with its own draw.

What comes into the frame from outside has the colour `fill`, a number or one for each channel.
Coordinates are (row, column); values between pixels are interpolated linearly.
"""

import functools
import math
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.ndimage import map_coordinates

Share = Annotated[float, (0, 1)]
Fill = float | tuple[float, ...]


def flip(key: jax.Array, images: jax.Array, *, p: Share = 0.5) -> jax.Array:
    """Mirror an image left to right with probability `p`."""
    mirrored = jax.random.bernoulli(key, p, shape=(len(images), 1, 1, 1))
    return jnp.where(mirrored, images[:, :, ::-1], images)


def flip_up_down(key: jax.Array, images: jax.Array, *, p: Share = 0.5) -> jax.Array:
    """Mirror an image upside down with probability `p`."""
    mirrored = jax.random.bernoulli(key, p, shape=(len(images), 1, 1, 1))
    return jnp.where(mirrored, images[:, ::-1], images)


def pad_crop(
    key: jax.Array, images: jax.Array, fill: Fill = 0.0, *, fraction: Share = 0.125
) -> jax.Array:
    """Pad an image by `fraction` of its height a side and crop it back at a random place.

    The padding is of whole pixels, at least 1: the usual 4 on 32×32 images.

    References:
        K. He et al., Deep Residual Learning for Image Recognition, CVPR 2016, section 4.2.
    """
    count, height, width, channels = images.shape
    pad = max(1, int(fraction * height)) if fraction else 0
    shape = (count, height + 2 * pad, width + 2 * pad, channels)
    padded = jnp.broadcast_to(jnp.asarray(fill, images.dtype), shape)
    padded = padded.at[:, pad : pad + height, pad : pad + width].set(images)
    corners = jax.random.randint(key, (count, 2), 0, 2 * pad + 1)

    def crop(image, corner):
        return jax.lax.dynamic_slice(image, (corner[0], corner[1], 0), images.shape[1:])

    return jax.vmap(crop)(padded, corners)


def rotate(
    key: jax.Array,
    images: jax.Array,
    fill: Fill = 0.0,
    *,
    degrees: Annotated[float, (0, 180)] = 15.0,
) -> jax.Array:
    """Rotate about the centre by an angle drawn from ±`degrees`."""
    angles = math.radians(degrees) * symmetric(key, (len(images),))
    return affine(images, rotation(angles), 0, fill)


def translate(
    key: jax.Array, images: jax.Array, fill: Fill = 0.0, *, fraction: Share = 0.125
) -> jax.Array:
    """Move by a shift drawn from ±`fraction` of height and width, not only by whole pixels."""
    limits = fraction * jnp.asarray(images.shape[1:3], images.dtype)
    shifts = limits * symmetric(key, (len(images), 2))
    return affine(images, np.eye(2, dtype=np.float32), shifts, fill)


def scale(
    key: jax.Array,
    images: jax.Array,
    fill: Fill = 0.0,
    *,
    factor: Annotated[float, (1, 10)] = 1.25,
) -> jax.Array:
    """Zoom about the centre by a factor drawn from 1/`factor` to `factor`, uniform in its log."""
    zoom = jnp.exp(math.log(factor) * symmetric(key, (len(images),)))
    return affine(images, np.eye(2, dtype=np.float32) / zoom[:, None, None], 0, fill)


def random_resized_crop(
    key: jax.Array,
    images: jax.Array,
    *,
    area: Annotated[float, (0.01, 1)] = 0.08,
    ratio: Annotated[float, (1, 10)] = 4 / 3,
) -> jax.Array:
    """Crop a window of a random area and aspect ratio, and resize it to the image's own size.

    Args:
        key: of the draws.
        images: float[N, H, W, C].
        area: the smallest share of the image that a window covers; the largest is all of it.
        ratio: the largest aspect ratio, relative to the image's; the smallest is its inverse. A
            side longer than the image's is cut to it.

    References:
        C. Szegedy et al., Going Deeper with Convolutions, CVPR 2015, section 6.
    """
    count, height, width, _ = images.shape
    keys = jax.random.split(key, 3)
    share = jax.random.uniform(keys[0], (count,), jnp.float32, minval=area, maxval=1)
    aspect = jnp.exp(math.log(ratio) * symmetric(keys[1], (count,)))
    sides = jnp.stack([share / aspect, share * aspect], axis=-1)  # of the image's, squared
    sides = jnp.sqrt(jnp.minimum(sides, 1))
    corners = (1 - sides) * jax.random.uniform(keys[2], (count, 2), jnp.float32)
    size = jnp.asarray([height, width], images.dtype)
    # Pixels are squares: the centre of the first one lies half a pixel from the window's corner.
    pixels = grid(height, width) + 0.5
    coordinates = corners[:, None, None] * size + sides[:, None, None] * pixels - 0.5
    return warp(images, jnp.clip(coordinates, 0, size - 1))


def elastic(
    key: jax.Array,
    images: jax.Array,
    fill: Fill = 0.0,
    *,
    amplitude: Share = 0.05,
    sigma: Annotated[float, (0.01, 1)] = 0.14,
) -> jax.Array:
    """Move every pixel by smooth noise: uniform, blurred by a Gaussian.

    Both arguments are shares of the image's height, so one setting means the same at any size; the
    defaults are about the α = 34 and σ = 4 pixels usual on the 29×29 images of the paper.

    Args:
        key: of the draws.
        images: float[N, H, W, C].
        fill: colour from outside of the frame.
        amplitude: standard deviation of the displacement along an axis, away from the borders
            (towards them it falls, for the noise is 0 outside).
        sigma: standard deviation of the Gaussian.

    References:
        P. Simard et al., Best Practices for Convolutional Neural Networks Applied to Visual
        Document Analysis, ICDAR 2003, section 2.
    """
    count, height, width, _ = images.shape
    noise = symmetric(key, (count, height, width, 2))
    rows, columns = blur_matrix(height, sigma * height), blur_matrix(width, sigma * height)
    smooth = jnp.einsum("rh,nhwd,cw->nrcd", rows, noise, columns, precision="highest")
    # Uniform noise has the variance 1/3; a blur multiplies it by its squared weights' sum.
    weights = (gaussian(sigma * height) ** 2).sum()
    alpha = amplitude * height * math.sqrt(3) / float(weights)
    return warp(images, grid(height, width) + alpha * smooth, fill)


def affine(images: jax.Array, matrices, shifts, fill: Fill = 0.0) -> jax.Array:
    """Map images about their centre: the pixel at x is `matrix @ (x - centre - shift) + centre`'s.

    Args:
        images: float[N, H, W, C].
        matrices: float[N, 2, 2] or [2, 2], the inverse of the map to perform.
        shifts: float[N, 2] or a number, in pixels.
        fill: colour from outside of the frame.
    """
    height, width = images.shape[1:3]
    centre = jnp.asarray([height - 1, width - 1], images.dtype) / 2
    shifts = jnp.broadcast_to(shifts, (len(images), 2))[:, None, None]
    matrices = jnp.broadcast_to(matrices, (len(images), 2, 2))
    offsets = grid(height, width) - centre - shifts
    # Not a matrix product: accelerators would round its coordinates to bfloat16.
    moved = (matrices[:, None, None] * offsets[..., None, :]).sum(-1)
    return warp(images, moved + centre, fill)


def rotation(angles: jax.Array) -> jax.Array:
    """Return the matrices [N, 2, 2] with which `affine` rotates counter-clockwise, in radians."""
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    return jnp.stack([jnp.stack([cos, sin], -1), jnp.stack([-sin, cos], -1)], -2)


def warp(images: jax.Array, coordinates: jax.Array, fill: Fill = 0.0) -> jax.Array:
    """Return images [N, H, W, C] that take each pixel from `coordinates` [N, H, W, 2].

    `dm_pix.rotate` and its kin interpolate over the channels too: 40 times slower on a CPU.
    """
    colours = np.broadcast_to(fill, images.shape[-1:]).tolist()
    rows, columns = coordinates[..., 0], coordinates[..., 1]

    def sample(channel, colour):
        look = functools.partial(map_coordinates, order=1, mode="constant", cval=colour)
        return jax.vmap(look)(channel, [rows, columns])

    channels = [sample(images[..., c], colour) for c, colour in enumerate(colours)]
    # Weights that round may add up to a little more than 1.
    return jnp.clip(jnp.stack(channels, -1), 0, 1)


def grid(height: int, width: int) -> jax.Array:
    """Return the coordinates of every pixel: float[H, W, 2]."""
    return jnp.moveaxis(jnp.indices((height, width), jnp.float32), 0, -1)


def symmetric(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Draw uniformly from [-1, 1)."""
    return jax.random.uniform(key, shape, jnp.float32, minval=-1, maxval=1)


def gaussian(sigma: float) -> np.ndarray:
    """Return the weights of a Gaussian blur, float32[2r + 1]; it ends at r ≈ 4 deviations."""
    reach = int(4 * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    return np.float32(weights / weights.sum())


def blur_matrix(size: int, sigma: float) -> np.ndarray:
    """Return the matrix float32[size, size] that blurs a line of pixels, with zeros around it."""
    weights = gaussian(sigma)
    reach = len(weights) // 2
    distance = np.subtract.outer(np.arange(size), np.arange(size))
    inside = np.abs(distance) <= reach
    return np.where(inside, weights[np.clip(distance + reach, 0, 2 * reach)], np.float32(0))
