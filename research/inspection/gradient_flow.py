"""How much of the gradient reaches each layer."""

from typing import Any

import jax
import jax.numpy as jnp


def layer_norms(tree: Any) -> dict[str, jax.Array]:
    """Return the Euclidean norm of each layer's kernels: of `params`, or of a tree like them.

    A recurrent layer's two count as one. Scales and biases, which have fewer than two axes, belong
    to the layer before them and are left out.
    """
    norms: dict[str, jax.Array] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if leaf.ndim >= 2:
            layer, norm = "/".join(p.key for p in path[:-1]), jnp.linalg.norm(leaf)
            norms[layer] = jnp.hypot(norms[layer], norm) if layer in norms else norm
    return norms
