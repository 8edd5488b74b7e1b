"""Pooling by name: windows, the whole map, and averages to a given size."""

import jax.numpy as jnp
from flax import linen as nn
from jax import Array, lax

POOLS = {"average": jnp.mean, "max": jnp.max, "sum": jnp.sum}


def pool(
    x: Array,
    kind: str,
    size: int,
    strides: int | None = None,
    padding: str | int | tuple[tuple[int, int], tuple[int, int]] = "VALID",
    *,
    count_padding: bool = False,
) -> Array:
    """Pool windows of `size`×`size` pixels: [N, H, W, C] → [N, H', W', C].

    Args:
        x: images.
        kind: one of `POOLS`. Padding never wins a maximum.
        size: of the window, in pixels.
        strides: pixels between windows; `size` where not given.
        padding: 'VALID', 'SAME', pixels on every side, or ((above, below), (left, right)).
        count_padding: whether an average divides by the whole window where it reaches over the
            border, or by what it holds of the image.
    """
    strides = strides or size
    sides = ((padding, padding),) * 2 if isinstance(padding, int) else padding
    window = {"window_shape": (size, size), "strides": (strides, strides), "padding": sides}
    if kind == "max":
        return nn.max_pool(x, **window)
    total = nn.pool(x, 0.0, lax.add, **window)
    if kind == "sum":
        return total
    if count_padding or sides in ("VALID", ((0, 0), (0, 0))):
        return total / size**2
    return total / nn.pool(jnp.ones_like(x[:1, :, :, :1]), 0.0, lax.add, **window)


def global_pool(x: Array, kind: str) -> Array:
    """Pool all positions: [N, H, W, C] → [N, C], by the pool of that name."""
    return POOLS[kind](x, axis=(1, 2))


def average_to(x: Array, side: int) -> Array:
    """Average images to `side`×`side` pixels: the same where they have that size, and any size is
    allowed (torch's `adaptive_avg_pool2d`: output i averages ⌊iH/side⌋ to ⌈(i+1)H/side⌉ − 1).
    """
    for axis in (1, 2):
        n = x.shape[axis]
        if n != side:
            i, j = jnp.arange(side)[:, None], jnp.arange(n)
            inside = (j >= i * n // side) & (j < -(-(i + 1) * n // side))
            weights = inside / inside.sum(axis=1, keepdims=True)
            x = jnp.moveaxis(jnp.tensordot(weights.astype(x.dtype), x, (1, axis)), 0, axis)
    return x
