"""The multilayer perceptron."""

from typing import ClassVar

from flax import linen as nn
from jax import Array

from research.config import UserError
from research.models.layers import Layers
from research.models.network import Network
from research.models.norms import check_groups


class MLP(Network):
    """Fully connected layers, each with its norm, activation and dropout; images are flattened.

    Attributes:
        hidden: the width of each hidden layer; `()` is multinomial logistic regression.
    """

    input_shape: ClassVar = (28, 28, 1)
    paper: ClassVar = "Rumelhart et al. 1986"

    num_classes: int = 10
    hidden: tuple[int, ...] = (256, 256)

    def __post_init__(self):
        super().__post_init__()
        for width in self.hidden:
            if self.norm == "group":
                check_groups(width, self.norm_groups)
        if self.norm == "instance":
            raise UserError(
                "model.norm: found 'instance', which averages over an image's positions; a hidden "
                "layer of 'mlp' has one only, expected another norm, such as 'layer'"
            )

    @nn.compact
    def __call__(self, x: Array, *, train: bool = False) -> tuple[Array, dict[str, Array]]:
        layer, endpoints = Layers.of(self, train), {}
        x = x.reshape(x.shape[0], -1)
        for i, width in enumerate(self.hidden, start=1):
            x = layer.dense(x, width, name=f"dense{i}")
            x = layer.normalize(x, name=f"norm{i}")
            x = endpoints[f"act{i}"] = layer.activate(x)
            x = layer.dropout(x, self.dropout, name=f"dropout{i}")
        x = endpoints["logits"] = layer.logits(x, self.num_classes)
        return x, endpoints
