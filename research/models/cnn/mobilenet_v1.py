"""MobileNet v1: Howard et al. 2017, "MobileNets", table 1.

    layer           filters     strides   output (of 224×224)
    conv 3×3        32          2         112×112
    block 1         64          1         112×112
    blocks 2–3      128         2, 1      56×56
    blocks 4–5      256         2, 1      28×28
    blocks 6–11     512         2, then 1 14×14
    blocks 12–13    1024        2, 1      7×7
    pool, dense     1000

A block is a depthwise separable convolution: 3×3 within each channel, then 1×1 across channels,
each with its norm and activation. (The table prints strides 2 for block 13, whose output it gives
as 7×7 all the same.) The paper's resolution multiplier is the size of the images.
"""

from typing import ClassVar

from flax import linen as nn
from jax import Array

from research.models.layers import ConvNormAct, Layers
from research.models.network import Network, check_images
from research.models.pooling import global_pool

# Filters and strides of each block.
BLOCKS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *[(512, 1)] * 5,
    (1024, 2),
    (1024, 1),
)

Output = tuple[Array, dict[str, Array]]


def scaled(filters: int, multiplier: float) -> int:
    """The multiple of 8 nearest to `filters · multiplier`, at least 8 and 9/10 of it.

    As TensorFlow, torchvision and timm round; the paper's multipliers 1, 3/4, 1/2 and 1/4 leave
    MobileNet v1 nothing to round.

    Example:
        >>> scaled(32, 0.75), scaled(24, 0.5), scaled(32, 0.1)
        (24, 16, 8)
    """
    exact = filters * multiplier
    rounded = max(8, int(exact + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * exact else rounded + 8


class Block(nn.Module):
    """A 3×3 convolution, depthwise separable or full: → [N, H/strides, W/strides, features]."""

    features: int
    strides: int
    separable: bool
    layer: Layers

    @nn.compact
    def __call__(self, x: Array) -> Output:
        channels, layer, endpoints = x.shape[-1], self.layer, {}
        if not self.separable:
            x = ConvNormAct(self.features, 3, self.strides, layer=layer, name="full")(x)
            return x, {"full/act": x}
        depthwise = ConvNormAct(
            channels, 3, self.strides, groups=channels, layer=layer, name="depthwise"
        )
        x = endpoints["depthwise/act"] = depthwise(x)
        x = endpoints["pointwise/act"] = ConvNormAct(
            self.features, 1, layer=layer, name="pointwise"
        )(x)
        return x, endpoints


class MobileNetV1(Network):
    """MobileNet v1: 4,231,976 parameters with 1000 classes.

    2,585,560, 1,331,592 and 470,072 with width multipliers 3/4, 1/2 and 1/4; 29,294,088 with full
    convolutions (the paper's table 4).

    Attributes:
        width_multiplier: of the number of filters of every layer (α, §3.3); see `scaled`.
        separable: whether convolutions are depthwise separable, or full ones of 3×3.
        pool: how the last feature maps become one vector.
        padding: see `research.models.layers.PADDINGS`.
        dropout: before the last layer.
    """

    paper: ClassVar = "Howard et al. 2017"

    norm: str = "batch"
    activation: str = "relu6"
    pool: str = "average"
    padding: str = "same"
    width_multiplier: float = 1.0
    separable: bool = True

    @nn.compact
    def __call__(self, x: Array, *, train: bool = False) -> Output:
        check_images(x)
        layer, endpoints = Layers.of(self, train), {}
        filters = scaled(32, self.width_multiplier)
        x = endpoints["stem/act"] = ConvNormAct(filters, 3, 2, layer=layer, name="stem")(x)
        for i, (filters, strides) in enumerate(BLOCKS, start=1):
            filters = scaled(filters, self.width_multiplier)
            x, inner = Block(filters, strides, self.separable, layer, name=f"block{i}")(x)
            endpoints |= {f"block{i}/{k}": v for k, v in inner.items()}
        x = endpoints["pool"] = global_pool(x, self.pool)
        x = layer.dropout(x, self.dropout, name="dropout")
        x = endpoints["logits"] = layer.logits(x, self.num_classes)
        return x, endpoints
