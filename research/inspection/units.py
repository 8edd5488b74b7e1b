"""What the units of a layer do: feature maps, kernels, and units that never do anything."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict


def activations(endpoints: dict[str, jax.Array]) -> Iterator[tuple[str, jax.Array]]:
    """Yield the endpoints that follow an activation function: those called `act`, `act1`, …."""
    for name, value in endpoints.items():
        if name.rpartition("/")[2].startswith("act"):
            yield name, value


def dead_units(endpoints: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """Return the share of each activation's channels that are 0 on the whole batch."""
    found = {}
    for name, activation in activations(endpoints):
        dead = jnp.all(activation == 0, axis=tuple(range(activation.ndim - 1)))
        found[name] = jnp.mean(dead.astype(jnp.float32))
    return found


def silent_share(endpoints: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """Return the share of each activation's values that are 0."""
    return {name: jnp.mean((x == 0).astype(jnp.float32)) for name, x in activations(endpoints)}


def first_kernel(params: Any, layers: list[str]) -> jax.Array | None:
    """Return the kernel [h, w, C, F] of the first convolution, None where there is none.

    Args:
        params: of the model.
        layers: the names of its layers in the order of their use; see `research.inspection.
            structure`.
    """
    kernels = {"/".join(path[:-1]): x for path, x in flatten_dict(params).items() if x.ndim == 4}
    return next((kernels[name] for name in layers if name in kernels), None)
