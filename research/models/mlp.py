"""The multilayer perceptron."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from research.config import UserError
from research.models import layers


class MLP(nn.Module):
    """Fully connected layers, each with its norm and activation; images are flattened.

    Attributes:
        hidden: the width of each hidden layer; `()` is multinomial logistic regression.

    Raises:
        UserError: on construction, for a switch that cannot be.
    """

    num_classes: int = 10
    hidden: tuple[int, ...] = (256, 256)
    norm: str = "none"
    norm_groups: int = 8
    activation: str = "relu"
    kernel_init: str = "he"
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    def __post_init__(self):
        layers.check(self)
        if not isinstance(self.hidden, (tuple, list)):
            raise UserError(f"model.hidden: found {self.hidden!r}, expected widths, as (256, 256)")
        for width in self.hidden:
            layers.check_count("model.hidden", width)
            if self.norm == "group":
                layers.check_groups(width, self.norm_groups)
        if self.norm == "instance":
            raise UserError(
                "model.norm: found 'instance', which averages over an image's positions; a hidden "
                "layer of 'mlp' has one only, expected another norm, such as 'layer'"
            )
        object.__setattr__(self, "hidden", tuple(self.hidden))
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Array, *, train: bool = False) -> tuple[Array, dict[str, Array]]:
        layer, endpoints = layers.Layers.of(self, train), {}
        x = x.reshape(x.shape[0], -1)
        for i, width in enumerate(self.hidden, start=1):
            x = layer.dense(x, width, name=f"dense{i}")
            x = layer.normalize(x, name=f"norm{i}")
            x = endpoints[f"act{i}"] = layer.activate(x)
        x = endpoints["logits"] = layer.logits(x, self.num_classes)
        return x, endpoints
