"""What a model makes of images of which a patch is covered: where it has to look."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from research.config import UserError


def places(side: int, patch: int, stride: int) -> np.ndarray:
    """Return where patches begin along a side: every `stride` pixels, and one at the far end.

    Raises:
        UserError: a patch that is larger than the image, or a stride that leads nowhere.

    Example:
        >>> places(10, 4, 4)
        array([0, 4, 6])
    """
    if not 1 <= patch <= side:
        raise UserError(
            f"--patch: found {patch} with images {side} pixels wide, expected 1 to {side}; "
            f"nearest: {min(max(patch, 1), side)}"
        )
    if stride < 1:
        raise UserError(f"--stride: found {stride}, expected at least 1")
    return np.unique([*range(0, side - patch, stride), side - patch])


def occlude(
    score: Callable[[Any, jax.Array], Any],
    variables: Any,
    images: jax.Array,
    *,
    patch: int,
    stride: int,
    fill: Any,
    watch: Callable[[Iterable], Iterable] = iter,
) -> Any:
    """Score images with a square patch covered, at one place after the other.

    Args:
        score: `(variables, images) →` a tree of arrays [N]: probability, whether it is right….
        variables: of the model.
        images: [N, H, W, C], all of which are covered at the same place at once.
        patch: the side of the patch, in pixels.
        stride: pixels from one place to the next; see `places`.
        fill: its colour, a number or [C].
        watch: goes through the places, and may show how far it is.

    Returns:
        The tree, with arrays [rows, columns, N] of the places.

    References:
        M. D. Zeiler, R. Fergus, Visualizing and understanding convolutional networks, ECCV 2014,
        §4.2.
    """
    height, width = images.shape[1:3]
    rows, columns = places(height, patch, stride), places(width, patch, stride)
    colour = jnp.asarray(fill, images.dtype)
    found = [
        _covered(score, patch, variables, images, colour, top, left)
        for top, left in watch([(top, left) for top in rows for left in columns])
    ]
    shape = len(rows), len(columns)
    return jax.tree.map(lambda *each: np.stack(each).reshape(*shape, -1), *jax.device_get(found))


@partial(jax.jit, static_argnums=(0, 1))
def _covered(score, patch, variables, images, colour, top, left):
    rows, columns = (jnp.arange(side) for side in images.shape[1:3])
    inside = ((rows >= top) & (rows < top + patch))[:, None]
    inside = inside & (columns >= left) & (columns < left + patch)
    return score(variables, jnp.where(inside[..., None], colour, images))


def at_pixels(values: np.ndarray, shape: tuple[int, int], patch: int, stride: int) -> np.ndarray:
    """Return for each pixel the mean over the patches that covered it.

    Args:
        values: [rows, columns, …] of the places, as `occlude` returns them.
        shape: H, W of the images.
        patch: as in `occlude`.
        stride: likewise. A pixel that no patch covered, for the stride was larger, is NaN.

    Returns:
        [H, W, …].
    """
    total = np.zeros((*shape, *values.shape[2:]))
    count = np.zeros((*shape, *[1] * (values.ndim - 2)))
    for i, top in enumerate(places(shape[0], patch, stride)):
        for j, left in enumerate(places(shape[1], patch, stride)):
            covered = slice(top, top + patch), slice(left, left + patch)
            total[covered] += values[i, j]
            count[covered] += 1
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
