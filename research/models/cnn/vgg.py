"""VGG: Simonyan & Zisserman 2014, "Very deep convolutional networks", table 1.

3×3 convolutions per stage, of 11, 13, 16 or 19 layers with weights:

    output map size   224×224  112×112   56×56   28×28   14×14
    11 (A)               1        1        2       2       2
    13 (B)               2        2        2       2       2
    16 (D)               2        2        3       3       3
    19 (E)               2        2        4       4       4
    filters             64      128      256     512     512

A 2×2 max pooling ends each stage; dense layers of 4096, 4096 and 1000 follow.
"""

from typing import ClassVar

from flax import linen as nn
from jax import Array

from research.config import UserError
from research.models.cnn.alexnet import hidden_layers
from research.models.layers import Layers
from research.models.network import Network, check_images
from research.models.norms import check_groups
from research.models.pooling import average_to

CONVOLUTIONS = {
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}
WIDTHS = (1, 2, 4, 8, 8)  # times the filters of the first stage


class VGG(Network):
    """The VGG of 11, 13, 16 or 19 layers, as torchvision has it.

    Parameters with 1000 classes: 132,863,336, 133,047,848, 138,357,544, 143,667,240; and two for
    each channel of a norm, in all 138,365,992 for VGG-16 with batch norm. Images of another size
    are averaged to the map of 7×7 that the dense layers take.

    Attributes:
        depth: a key of `CONVOLUTIONS`.
        width: filters of the first stage; the later ones have 2, 4, 8 and 8 times as many.
        norm: after every convolution; the paper has none.
        use_bias: also where a norm follows, as in the published weights with batch norm.
        pool: of the windows.
        padding: see `research.models.layers.PADDINGS`.
        hidden: the widths of the dense layers before the last.
        dropout: of what these put out.
    """

    paper: ClassVar = "Simonyan & Zisserman 2014"

    depth: int = 16
    width: int = 64
    use_bias: bool | None = True
    pool: str = "max"
    padding: str = "same"
    hidden: tuple[int, ...] = (4096, 4096)
    dropout: float = 0.5

    def __post_init__(self):
        super().__post_init__()
        if self.depth not in CONVOLUTIONS:
            nearest = min(CONVOLUTIONS, key=lambda depth: abs(depth - self.depth))
            known = ", ".join(map(str, CONVOLUTIONS))
            raise UserError(
                f"model.depth: found {self.depth}, expected one of {known} (nearest: {nearest})"
            )
        if self.norm == "group":
            check_groups(self.width, self.norm_groups)

    @nn.compact
    def __call__(self, x: Array, *, train: bool = False) -> tuple[Array, dict[str, Array]]:
        check_images(x)
        layer, endpoints = Layers.of(self, train), {}
        for stage, convolutions in enumerate(CONVOLUTIONS[self.depth], start=1):
            for i in range(1, convolutions + 1):
                x = layer.conv(x, self.width * WIDTHS[stage - 1], 3, name=f"conv{stage}_{i}")
                x = layer.normalize(x, name=f"norm{stage}_{i}")
                x = endpoints[f"conv{stage}_{i}/act"] = layer.activate(x)
            x = layer.subsample(x, 2, 2, name=f"pool{stage}")
        x = endpoints["pool"] = average_to(x, 7)
        x = x.reshape(x.shape[0], -1)
        x, inner = hidden_layers(layer, x, self.hidden, self.dropout)
        endpoints |= inner
        x = endpoints["logits"] = layer.logits(x, self.num_classes)
        return x, endpoints
