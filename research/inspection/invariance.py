"""How far an image may move before a model thinks otherwise of it."""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np

DIRECTIONS = ((0, 1), (0, -1), (1, 0), (-1, 0))  # down and to the right


def moved_by(images: jax.Array, pixels: tuple[int, int]) -> np.ndarray:
    """Move images [N, H, W, C] down and to the right by so many `pixels`, repeating the border."""
    images = np.asarray(images)
    for axis, by in enumerate(pixels, start=1):
        places = np.clip(np.arange(images.shape[axis]) - by, 0, images.shape[axis] - 1)
        images = np.take(images, places, axis)
    return images


def translation_curve(
    predict: Callable[[Any, np.ndarray], jax.Array],
    variables: Any,
    images: np.ndarray,
    labels: np.ndarray,
    most: int,
    watch: Callable[[Iterable], Iterable] = iter,
) -> dict[str, np.ndarray]:
    """Return what becomes of predictions as images move by 0 to `most` pixels: [most + 1] each.

    Args:
        predict: `(variables, images) → int[N]`, the classes.
        variables: of the model.
        images: [N, H, W, C].
        labels: int[N].
        most: the farthest move.
        watch: goes through the moves, and may show how far it is.

    Returns:
        `consistency`, the share of the images whose predicted class stays as it was, and
        `accuracy`, both means over the four directions.

    References:
        R. Zhang, Making convolutional networks shift-invariant again, ICML 2019, §4.
    """
    before = np.asarray(predict(variables, images))
    same, right = np.ones((2, most + 1))
    right[0] = np.mean(before == labels)
    found: list[list[np.ndarray]] = [[] for _ in range(most + 1)]
    for by, (down, across) in watch([(by, d) for by in range(1, most + 1) for d in DIRECTIONS]):
        moved = moved_by(images, (by * down, by * across))
        found[by].append(np.asarray(predict(variables, moved)))
    for by in range(1, most + 1):
        same[by] = np.mean([now == before for now in found[by]])
        right[by] = np.mean([now == labels for now in found[by]])
    return {"consistency": same, "accuracy": right}
