"""What a unit sees of the image: its receptive field, in theory and by gradient.

In theory, unit i of a feature map sees, along each axis of the image, the pixels from start +
i·stride to start + i·stride + size − 1 (Araujo et al. 2019, "Computing receptive fields of
convolutional neural networks"; `research.inspection.structure` computes it for every layer). A
field may reach over the edge of the image. It is all that a unit could see; how much it does see,
its gradient tells (Luo et al. 2016, "Understanding the effective receptive field").
"""

import dataclasses
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from research.inspection.endpoints import named


@dataclasses.dataclass(frozen=True)
class Field:
    """What the units of an array see along one axis of the image.

    Attributes:
        size: how many pixels a unit sees.
        stride: pixels from one unit's field to the next one's; 0: all see the same.
        start: the first pixel that unit 0 sees; below 0 it lies over the edge.
        axis: the axis of the array along which its units lie; None: none, all see the same.
    """

    size: int | Fraction
    stride: int | Fraction
    start: int | Fraction
    axis: int | None

    def pixels(self, unit: int) -> tuple[int | Fraction, int | Fraction]:
        """The first and the last pixel that a unit sees."""
        first = self.start + unit * self.stride
        return first, first + self.size - 1


def window(
    field: Field, size: int, strides: int = 1, before: int = 0, dilation: int = 1, base: int = 1
) -> Field:
    """Return what a window over units that see `field` sees.

    Args:
        field: of the map that the window moves over.
        size: of the window.
        strides: units between the places of the window.
        before: units of padding before the first.
        dilation: units between the taps of the window, plus one.
        base: units that a transposed convolution puts between those of the map, plus one.

    Example:
        >>> window(Field(3, 1, -1, axis=1), size=3, strides=2, before=1)  # a 3×3 after a 3×3
        Field(size=5, stride=2, start=-2, axis=1)
    """
    step = field.stride if base == 1 else Fraction(field.stride, base)
    return dataclasses.replace(
        field,
        size=field.size + (size - 1) * dilation * step,
        stride=step * strides,
        start=field.start - before * step,
    )


def whole(field: Field, units: int, pixels: int) -> Field:
    """Return what `units` that see `field` see together of an axis of so many `pixels`."""
    ends = (field.pixels(0), field.pixels(units - 1 if field.axis is not None else 0))
    first = max(0, min(first for first, _ in ends))
    last = min(pixels - 1, max(last for _, last in ends))
    return Field(last - first + 1, 0, first, None)


def meet(fields: Sequence[Field], shape: Sequence[int], pixels: int) -> Field:
    """Return what the units of an array of `shape` see that depend on all these `fields`."""
    if len({(field.axis, field.stride) for field in fields}) > 1:
        fields = [f if f.axis is None else whole(f, shape[f.axis], pixels) for f in fields]
    start = min(field.start for field in fields)
    size = max(field.start + field.size for field in fields) - start
    return dataclasses.replace(fields[0], start=start, size=size)


def effective_receptive_field(
    model: nn.Module, variables: Any, images: jax.Array, endpoint: str
) -> np.ndarray:
    """Return how much the central unit of `endpoint` depends on each pixel: [H, W].

    That is |∂ (sum of the unit's channels) / ∂ pixel|, its mean over images and colour channels
    (Luo et al. 2016, §2). Of a map of n units, unit ⌊n/2⌋ is central; an endpoint without
    positions is one unit.

    Args:
        model: returns `(output, endpoints)`.
        variables: of the model.
        images: [N, H, W, C], as the model takes them.
        endpoint: the name of one of its endpoints.

    Raises:
        UserError: the model has no such endpoint.
    """

    def centre(images):
        _, endpoints = model.apply(variables, images, train=False)
        units = named(endpoints, endpoint)
        return units[:, *(n // 2 for n in units.shape[1:-1])].sum()

    return np.asarray(jnp.abs(jax.jit(jax.grad(centre))(images)).mean((0, -1)))


def share_inside(gradient: np.ndarray, fields: Sequence[Field], unit: Sequence[int]) -> float:
    """Return the share of an effective field that lies within the theoretical one, nan of none.

    Args:
        gradient: [H, W]; see `effective_receptive_field`.
        fields: of the endpoint, for each axis.
        unit: the position of the unit.
    """
    ends = [field.pixels(i) for field, i in zip(fields, unit, strict=True)]
    if not gradient.any():
        return math.nan
    outside = gradient.copy()
    outside[tuple(slice(max(0, math.ceil(a)), math.floor(b) + 1) for a, b in ends)] = 0
    return float(1 - outside.sum() / gradient.sum())


def effective_size(gradient: np.ndarray) -> float:
    """Return the side of a square with as many pixels as an effective field has.

    A pixel counts if its gradient is more than 1 − 95.45 % of the greatest, two standard deviations
    of a Gaussian (Luo et al. 2016, §3.2).
    """
    return math.sqrt((gradient > (1 - 0.9545) * gradient.max()).sum())
