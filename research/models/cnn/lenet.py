"""LeNet-5, and the same network without weight sharing.

LeCun et al. 1998, "Gradient-based learning applied to document recognition", §II-B:

    layer          maps or units   kernel   output, of 28×28 padded by 2
    convolution          6          5×5         28×28
    subsampling          6          2×2         14×14
    convolution         16          5×5         10×10
    subsampling         16          2×2          5×5
    dense              120
    dense               84

As everywhere since, the activation is a ReLU, subsampling has no weights of its own, and the output
is softmax regression. 61,706 parameters on 28×28×1 with 10 classes.
"""

from typing import ClassVar

from flax import linen as nn
from jax import Array

from research.config import UserError, unknown
from research.models.cnn.alexnet import hidden_layers
from research.models.layers import Layers
from research.models.network import Network, check_images, check_widths


class LeNet(Network):
    """Two convolutions with subsampling, two dense layers, and the output.

    The second convolution of the paper is unpadded; on maps too small for that (below 5 pixels, as
    of 8×8 images) it is padded like the first.

    Attributes:
        filters: of the two convolutions.
        hidden: widths of the dense layers; `()` is none.
        subsample: "pool", or "stride": the convolutions are strided instead, one place in four.
        pool: of the subsampling windows.
        padding: see `research.models.layers.PADDINGS`.
        shared: whether all positions share one kernel; without, the layers are locally connected.
        dropout: after each dense layer.
        spatial_dropout: of whole feature maps, after each convolution.
    """

    input_shape: ClassVar = (28, 28, 1)
    paper: ClassVar = "LeCun et al. 1998"

    num_classes: int = 10
    filters: tuple[int, ...] = (6, 16)
    hidden: tuple[int, ...] = (120, 84)
    subsample: str = "pool"
    pool: str = "max"
    padding: str = "same"
    shared: bool = True
    spatial_dropout: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        check_widths("model.filters", self.filters, length=2)
        if self.subsample not in ("pool", "stride"):
            raise unknown("model.subsample", self.subsample, ("pool", "stride"))
        if self.subsample == "stride" and self.pool != "max":
            raise UserError(
                f"model.pool: found {self.pool!r} with model.subsample='stride', which leaves no "
                "windows to pool; expected model.subsample='pool'"
            )

    @nn.compact
    def __call__(self, x: Array, *, train: bool = False) -> tuple[Array, dict[str, Array]]:
        check_images(x)
        layer, endpoints = Layers.of(self, train), {}
        strides = 2 if self.subsample == "stride" else 1
        for i, features in enumerate(self.filters, start=1):
            padding = 2 if i == 1 or min(x.shape[1:3]) < 5 else 0
            options = {"padding": padding, "shared": self.shared}
            x = layer.conv(x, features, 5, strides, name=f"conv{i}", **options)
            x = layer.normalize(x, name=f"norm{i}")
            x = endpoints[f"conv{i}/act"] = layer.activate(x)
            x = layer.dropout(x, self.spatial_dropout, spatial=True, name=f"spatial_dropout{i}")
            if self.subsample == "pool":
                x = endpoints[f"pool{i}"] = layer.subsample(x, 2, 2, name=f"pool{i}")
        x = x.reshape(x.shape[0], -1)
        x, inner = hidden_layers(layer, x, self.hidden, self.dropout)
        endpoints |= inner
        x = endpoints["logits"] = layer.logits(x, self.num_classes)
        return x, endpoints
