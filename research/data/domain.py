"""Domains: the same examples as another camera would have seen them, to measure what a shift costs.

A domain is a fixed function of an image and its position in the set: no run's seed moves it.
"""

from collections.abc import Callable

import numpy as np

from research.config import unknown


def inverted(image: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
    """The negative."""
    return 255 - image


def faint(image: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
    """A quarter of the contrast, around mid-grey."""
    return 128 + (image - 128) / 4


def noisy(image: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
    """With Gaussian noise whose deviation is a quarter of the range."""
    return image + rng.normal(0, 255 / 4, image.shape)


def blurred(image: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
    """Averaged over neighbours with weights 1, 2, 1 in each direction, H/8 times, at least once."""
    for _ in range(max(1, image.shape[0] // 8)):
        for axis in (0, 1):
            padded = np.pad(image, [(1, 1) if a == axis else (0, 0) for a in range(3)], "edge")
            n = image.shape[axis]
            before, here, after = (padded.take(range(i, i + n), axis) for i in range(3))
            image = (before + 2 * here + after) / 4
    return image


DOMAINS: dict[str, Callable[[np.ndarray, np.random.RandomState], np.ndarray]] = {
    "original": lambda image, rng: image,
    "inverted": inverted,
    "faint": faint,
    "noisy": noisy,
    "blurred": blurred,
}


def view(image: np.ndarray, domain: str, index: int) -> np.ndarray:
    """Return the image uint8[H, W, C] at position `index` of its set as `domain` shows it."""
    if domain == "original":
        return image
    shown = DOMAINS[domain](image.astype(np.float64), np.random.RandomState(index))
    return np.clip(np.rint(shown), 0, 255).astype(np.uint8)


def check(field: str, domain: str) -> None:
    """Raise a `UserError` that names `field` for a domain that is not in `DOMAINS`."""
    if domain not in DOMAINS:
        raise unknown(field, domain, DOMAINS)
