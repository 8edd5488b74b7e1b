"""Modules of parallel branches whose outputs are concatenated, of which every Inception is made.

A module is a table: each branch has a name and rows, from its input to its output. A row is

- `(features, size)`, `(features, size, strides)` or `(features, size, strides, padding)`: a
  convolution, its norm and its activation, as `research.models.layers.ConvNormAct` takes them;
- `SUBSAMPLE`: windows of 3×3, strides 2, no padding, of the kind that the switch `pool` names;
- a function of feature maps, such as a branch's own pooling of 3×3 windows at every pixel;
- a tuple of convolutions side by side, of the same input, concatenated.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from research.config import UserError
from research.models.layers import ConvNormAct, Layers
from research.models.network import Network

SUBSAMPLE = "subsample"

Output = tuple[Array, dict[str, Array]]


class Branches(nn.Module):
    """The branches of a table, concatenated: [N, H, W, C] → [N, H', W', sum of their features].

    The submodules are called by the branch ("branch1"); where a branch has several convolutions, by
    their place in it too ("branch2_1", "branch2_2"), and side by side by a letter ("branch2_2a").
    Each has an endpoint, "branch1/act".

    Attributes:
        branches: name → rows, in the order of concatenation.
        layer: the layers of the model.
    """

    branches: Mapping[str, tuple[Any, ...]]
    layer: Layers

    @nn.compact
    def __call__(self, x: Array) -> Output:
        endpoints = {}

        def conv(y: Array, row: tuple[Any, ...], name: str) -> Array:
            y = endpoints[f"{name}/act"] = ConvNormAct(*row, layer=self.layer, name=name)(y)
            return y

        outputs = []
        for branch, rows in self.branches.items():
            y, place = x, 0
            single = sum(isinstance(row, tuple) for row in rows) == 1
            for row in rows:
                if row == SUBSAMPLE:
                    y = self.layer.subsample(y, 3, 2, name=f"{self.name}/{branch}")
                elif callable(row):
                    y = row(y)
                else:
                    place += 1
                    name = branch if single else f"{branch}_{place}"
                    if isinstance(row[0], tuple):
                        beside = zip("ab", row, strict=True)
                        y = jnp.concatenate([conv(y, r, name + k) for k, r in beside], axis=-1)
                    else:
                        y = conv(y, row, name)
            outputs.append(y)
        return jnp.concatenate(outputs, axis=-1), endpoints


def check_concatenation(model: Network) -> None:
    """Refuse unpadded convolutions where maps of equal size must be concatenated."""
    if model.padding == "valid":
        raise UserError(
            "model.padding: found 'valid', but branches with kernels of different sizes come out "
            "at different sizes where they are unpadded, and cannot be concatenated; expected "
            "another padding, such as 'reflect'"
        )
