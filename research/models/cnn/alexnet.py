"""AlexNet, in one tower and in two.

Two towers: Krizhevsky et al. 2012, "ImageNet classification with deep convolutional neural
networks", §3.5. One tower: Krizhevsky 2014, "One weird trick", as torchvision has it.

             alexnet_2012                  alexnet
    image    227×227×3                     224×224×3
    conv1    96, 11×11/4   norm, pool      64, 11×11/4 pad 2   pool
    conv2    256, 5×5 (2)  norm, pool      192, 5×5            pool
    conv3    384, 3×3                      384, 3×3
    conv4    384, 3×3 (2)                  256, 3×3
    conv5    256, 3×3 (2)  pool            256, 3×3            pool
    map      6×6×256                       6×6×256
    dense    4096, 4096, 1000              4096, 4096, 1000

(2): in two groups of channels, one for each tower. The norm is local response normalisation; it
follows the activation. The windows of pooling overlap: 3×3, strides 2.
"""

from typing import ClassVar, NamedTuple

from flax import linen as nn
from jax import Array

from research.models.layers import Layers
from research.models.network import Network, check_images
from research.models.pooling import average_to

Output = tuple[Array, dict[str, Array]]


class Row(NamedTuple):
    """A convolution; whether the norm stands before or after its activation, or nowhere."""

    filters: int
    size: int
    strides: int = 1
    padding: int | None = None
    groups: int = 1
    norm: str = ""
    pool: bool = False


TWO_TOWERS = (
    Row(96, 11, strides=4, padding=0, norm="after", pool=True),
    Row(256, 5, groups=2, norm="after", pool=True),
    Row(384, 3),
    Row(384, 3, groups=2),
    Row(256, 3, groups=2, pool=True),
)

ONE_TOWER = (
    Row(64, 11, strides=4, padding=2, norm="before", pool=True),
    Row(192, 5, norm="before", pool=True),
    Row(384, 3, norm="before"),
    Row(256, 3, norm="before"),
    Row(256, 3, norm="before", pool=True),
)


def hidden_layers(
    layer: Layers, x: Array, widths: tuple[int, ...], rate: float, *, drop_inputs: bool = False
) -> Output:
    """Dense layers with activation and dropout, without a norm: [N, D] → [N, widths[-1]].

    Dropout is of what comes out of each, or with `drop_inputs` of what goes in.
    """
    endpoints = {}
    for i, width in enumerate(widths, start=1):
        if drop_inputs:
            x = layer.dropout(x, rate, name=f"dropout{i}")
        x = layer.dense(x, width, normed=False, name=f"dense{i}")
        x = endpoints[f"dense{i}/act"] = layer.activate(x)
        if not drop_inputs:
            x = layer.dropout(x, rate, name=f"dropout{i}")
    return x, endpoints


class AlexNet(Network):
    """AlexNet in one tower: 61,100,840 parameters.

    Images of another size are averaged to the map of 6×6 that the dense layers take.

    Attributes:
        norm: after every convolution; the paper has none.
        pool: of the windows.
        padding: see `research.models.layers.PADDINGS`.
        hidden: the widths of the dense layers before the last.
        dropout: before each of these.
    """

    paper: ClassVar = "Krizhevsky 2014"
    rows: ClassVar[tuple[Row, ...]] = ONE_TOWER
    drop_inputs: ClassVar[bool] = True

    pool: str = "max"
    padding: str = "same"
    hidden: tuple[int, ...] = (4096, 4096)
    dropout: float = 0.5

    @nn.compact
    def __call__(self, x: Array, *, train: bool = False) -> Output:
        check_images(x)
        layer, endpoints = Layers.of(self, train), {}
        for i, row in enumerate(self.rows, start=1):
            normed = row.norm == "before"
            options = {"padding": row.padding, "groups": row.groups, "normed": normed}
            x = layer.conv(x, row.filters, row.size, row.strides, **options, name=f"conv{i}")
            if row.norm == "before":
                x = layer.normalize(x, name=f"norm{i}")
            x = endpoints[f"conv{i}/act"] = layer.activate(x)
            if row.norm == "after":
                x = layer.normalize(x, name=f"norm{i}")
            if row.pool:
                x = layer.subsample(x, 3, 2, name=f"pool{i}")
        x = endpoints["pool"] = average_to(x, 6)
        x = x.reshape(x.shape[0], -1)
        x, inner = hidden_layers(layer, x, self.hidden, self.dropout, drop_inputs=self.drop_inputs)
        endpoints |= inner
        x = endpoints["logits"] = layer.logits(x, self.num_classes)
        return x, endpoints


class AlexNet2012(AlexNet):
    """AlexNet in two towers: 60,965,224 parameters.

    Attributes:
        norm: in the paper's two places, after the activations of the first two convolutions. All
            convolutions have a bias, because no norm follows them directly.
        dropout: of what the dense layers before the last put out (§4.2).
    """

    input_shape: ClassVar = (227, 227, 3)
    paper: ClassVar = "Krizhevsky et al. 2012"
    rows: ClassVar = TWO_TOWERS
    drop_inputs: ClassVar = False

    norm: str = "local_response"
