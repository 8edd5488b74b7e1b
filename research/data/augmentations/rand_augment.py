"""RandAugment: operations drawn at random for each image, all at one magnitude.

The fourteen operations of the paper with the ranges of torchvision's `RandAugment`: the identity,
five affine maps, and eight changes of values.
"""

from typing import Annotated

import dm_pix
import jax
import jax.numpy as jnp

from research.data.augmentations.geometry import Fill, affine, rotation

STEPS = 30  # magnitudes go from 0 to this


def rand_augment(
    key: jax.Array,
    images: jax.Array,
    fill: Fill = 0.0,
    *,
    operations: Annotated[int, (0, 14)] = 2,
    magnitude: Annotated[float, (0, STEPS)] = 9.0,
) -> jax.Array:
    """Apply so many operations to each image, one after the other, each drawn from fourteen.

    An affine map is by up to 30° or 0.3 (shear) or 150/331 of the side (translation), a colour,
    contrast, brightness or sharpness by a factor of up to 1 ± 0.9; signs are random. Two operations
    know no magnitude: autocontrast and equalize. Grey images pass `color` unchanged.

    Every operation is computed for every image and one is kept: fourteen cheap ones, of which the
    five affine maps are a single warp.

    References:
        E. Cubuk et al., RandAugment: Practical Automated Data Augmentation with a Reduced Search
        Space, NeurIPS 2020, section 3.
    """
    level = magnitude / STEPS
    for choice_key, sign_key in jax.random.split(key, (operations, 2)):
        choice = jax.random.randint(choice_key, (len(images),), 0, len(AFFINE) + len(VALUES))
        signed = level * jax.random.rademacher(sign_key, (len(images),), images.dtype)
        moved = move(images, choice, signed, fill)
        changed = [change(images, level, signed[:, None, None, None]) for change in VALUES]
        which = jnp.maximum(choice - len(AFFINE) + 1, 0)  # 0: one of the affine maps
        which = jnp.broadcast_to(which[:, None, None, None], images.shape)
        images = jax.lax.select_n(which, moved, *changed)
    return images


AFFINE = ("identity", "rotate", "shear_x", "shear_y", "translate_x", "translate_y")


def move(images: jax.Array, choice: jax.Array, signed: jax.Array, fill: Fill) -> jax.Array:
    """Apply to each image the affine map that `choice` [N] counts in `AFFINE`, if it does."""

    def of(name: str, limit: float) -> jax.Array:
        return jnp.where(choice == AFFINE.index(name), limit * signed, 0)

    shear_x, shear_y, zero = of("shear_x", 0.3), of("shear_y", 0.3), jnp.zeros_like(signed)
    shear = jnp.stack([jnp.stack([zero, shear_y], -1), jnp.stack([shear_x, zero], -1)], -2)
    matrices = rotation(of("rotate", jnp.pi / 6)) + shear
    _, height, width, _ = images.shape
    farthest = 150 / 331
    shifts = [of("translate_y", farthest * height), of("translate_x", farthest * width)]
    return affine(images, matrices, jnp.stack(shifts, -1), fill)


def brightness(images, level, signed):
    """Blend with black."""
    return _blend(images, jnp.zeros_like(images), signed)


def color(images, level, signed):
    """Blend with the image in grey."""
    return _blend(images, _grey(images), signed)


def contrast(images, level, signed):
    """Blend with the mean of the image in grey."""
    return _blend(images, _grey(images).mean((1, 2, 3), keepdims=True), signed)


def sharpness(images, level, signed):
    """Blend with a 3×3 smoothing; the border stays."""
    height, width = images.shape[1:3]
    if min(height, width) < 3:
        return images
    rows = images[:, : height - 2] + images[:, 1 : height - 1] + images[:, 2:]
    around = rows[:, :, : width - 2] + rows[:, :, 1 : width - 1] + rows[:, :, 2:]
    smooth = (around + 4 * images[:, 1:-1, 1:-1]) / 13
    return _blend(images, images.at[:, 1:-1, 1:-1].set(smooth), signed)


def posterize(images, level, signed):
    """Keep the leading 8 to 4 of the 8 bits of a value."""
    step = 2 ** round(4 * level)
    return jnp.floor(jnp.round(images * 255) / step) * step / 255


def solarize(images, level, signed):
    """Invert the values from a threshold on, which falls from 1 to 0."""
    return jnp.where(images >= 1 - level, 1 - images, images)


def autocontrast(images, level, signed):
    """Stretch each channel to the whole of [0, 1]; a constant one stays."""
    low, high = images.min((1, 2), keepdims=True), images.max((1, 2), keepdims=True)
    stretched = (images - low) / jnp.where(high > low, high - low, 1)
    return jnp.where(high > low, stretched, images)


def equalize(images, level, signed):
    """Spread the 256 levels of each channel until its histogram is flat, as PIL does."""
    count, height, width, channels = images.shape
    levels = jnp.round(images * 255).astype(jnp.int32)
    lines = jnp.moveaxis(levels, -1, 1).reshape(count * channels, height * width)

    def table(line):
        histogram = jnp.zeros(256, jnp.int32).at[line].add(1)
        step = (height * width - histogram[line.max()]) // 255
        before = jnp.cumsum(histogram) - histogram
        mapped = jnp.clip((before + step // 2) // jnp.maximum(step, 1), 0, 255)
        return jnp.where(step > 0, mapped, jnp.arange(256))[line]

    flat = jax.vmap(table)(lines).reshape(count, channels, height, width)
    return jnp.moveaxis(flat, 1, -1).astype(images.dtype) / 255


VALUES = (brightness, color, contrast, sharpness, posterize, solarize, autocontrast, equalize)


def _blend(images, other, signed):
    """Return `other` moved towards `images`, or beyond them, by the factor 1 + 0.9 × `signed`."""
    return jnp.clip(other + (1 + 0.9 * signed) * (images - other), 0, 1)


def _grey(images):
    if images.shape[-1] == 3:
        return dm_pix.rgb_to_grayscale(images, keep_dims=True)
    return images
