"""The loss around a model's parameters, along directions that are comparable between models."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def filter_normalized(key: jax.Array, params: Any) -> Any:
    """Return a random direction, each of whose filters is as long as the parameters' own.

    A filter is what makes one output of a layer: the last axis of a kernel, the first of an
    embedding. Biases and norms' parameters stay where they are. A network whose layers are scaled
    without a change of what it computes so has the same landscape.

    Args:
        key: of the draw.
        params: of the model.

    References:
        H. Li et al., Visualizing the loss landscape of neural nets, NeurIPS 2018, §4.
    """
    leaves, tree = jax.tree_util.tree_flatten_with_path(params)

    def along(key, path, x):
        if x.ndim < 2:
            return jnp.zeros_like(x)
        filters = 0 if path[-1].key == "embedding" else x.ndim - 1
        others = tuple(axis for axis in range(x.ndim) if axis != filters)
        drawn = jax.random.normal(key, x.shape, x.dtype)
        long, wanted = (jnp.sqrt(jnp.sum(v**2, others, keepdims=True)) for v in (drawn, x))
        return drawn * wanted / long

    keys = jax.random.split(key, len(leaves))
    drawn = [along(k, path, x) for k, (path, x) in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(tree, drawn)


def landscape(
    loss: Callable[..., jax.Array],
    params: Any,
    directions: tuple[Any, Any],
    at: np.ndarray,
    *operands: Any,
    watch: Callable[[Iterable], Iterable] = iter,
) -> np.ndarray:
    """Return the loss at params + a·x + b·y, [b, a], where a and b go over `at`.

    Args:
        loss: `(params, *operands) →` a number.
        params: of the model.
        directions: x and y, trees like `params`.
        at: [P], the multiples of each.
        operands: of `loss`, such as collections and examples.
        watch: goes through the places, and may show how far it is.
    """
    places = [(a, b) for b in at for a in at]
    found = [_loss_at(loss, params, directions, *place, operands) for place in watch(places)]
    return np.array(found, np.float64).reshape(len(at), len(at))


@partial(jax.jit, static_argnums=0)
def _loss_at(loss, params, directions, a, b, operands):
    x, y = directions
    moved = jax.tree.map(lambda p, x, y: (p + a * x + b * y).astype(p.dtype), params, x, y)
    return loss(moved, *operands)
