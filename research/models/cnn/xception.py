"""Xception: Chollet 2017, "Xception: deep learning with depthwise separable convolutions", fig. 5.

    layer         separable 3×3 filters   strides   output
    conv 3×3/2                                      149×149×32
    conv 3×3                                        147×147×64
    block 1       128, 128                2         74×74×128
    block 2       256, 256                2         37×37×256
    block 3       728, 728                2         19×19×728
    blocks 4–11   728, 728, 728           1         19×19×728
    block 12      728, 1024               2         10×10×1024
    separable     1536                              10×10×1536
    separable     2048                              10×10×2048
    pool, dropout, linear

An activation precedes each separable convolution of a block, but the very first, and none follows
the sum. The strides are those of a 3×3 pooling after a block's last convolution.
"""

from typing import ClassVar

from flax import linen as nn
from jax import Array

from research.models.cnn.resnet import check_residual
from research.models.layers import Layers, Skip
from research.models.network import Network, check_images
from research.models.pooling import global_pool

# Filters of the separable convolutions, and strides.
BLOCKS = {
    "block1": ((128, 128), 2),
    "block2": ((256, 256), 2),
    "block3": ((728, 728), 2),
    **{f"block{i}": ((728, 728, 728), 1) for i in range(4, 12)},
    "block12": ((728, 1024), 2),
}

Output = tuple[Array, dict[str, Array]]


class SeparableConv(nn.Module):
    """3×3 within each channel, then 1×1 across channels: [N, H, W, C] → [N, H, W, features]."""

    features: int
    layer: Layers

    @nn.compact
    def __call__(self, x: Array) -> Array:
        channels = x.shape[-1]
        x = self.layer.conv(x, channels, 3, groups=channels, name="depthwise")
        return self.layer.conv(x, self.features, 1, name="pointwise")


class Block(nn.Module):
    """Separable convolutions, a pooling and a skip: → [N, H/strides, W/strides, filters[-1]]."""

    filters: tuple[int, ...]
    strides: int
    activate_input: bool
    skip: str
    layer: Layers

    @nn.compact
    def __call__(self, x: Array) -> Output:
        layer, endpoints, y = self.layer, {}, x
        for i, features in enumerate(self.filters, start=1):
            if i > 1 or self.activate_input:
                y = endpoints[f"act{i}"] = layer.activate(y)
            y = SeparableConv(features, layer, name=f"conv{i}")(y)
            y = layer.normalize(y, name=f"norm{i}")
        if self.strides > 1:
            y = layer.subsample(y, 3, self.strides, padding=1, name=f"{self.name}/pool")
        return Skip(self.skip, self.strides, layer, name="skip")(x, y), endpoints


class Xception(Network):
    """Xception, or with `skip="none"` its plain twin: 22,855,952 parameters.

    Attributes:
        skip: see `research.models.layers.Skip`; the paper has projections only where shapes change.
        pool: of the windows that halve the side.
        padding: see `research.models.layers.PADDINGS`; the first two convolutions are unpadded, as
            in the paper.
        dropout: before the last layer (§4.4).
    """

    input_shape: ClassVar = (299, 299, 3)
    paper: ClassVar = "Chollet 2017"

    norm: str = "batch"
    skip: str = "projection"
    pool: str = "max"
    padding: str = "same"
    dropout: float = 0.5

    def __post_init__(self):
        super().__post_init__()
        check_residual(self)

    @nn.compact
    def __call__(self, x: Array, *, train: bool = False) -> Output:
        check_images(x)
        layer, endpoints = Layers.of(self, train), {}
        for name, features, strides in (("1", 32, 2), ("2", 64, 1)):
            x = layer.conv(x, features, 3, strides, padding=0, name=f"conv{name}")
            x = layer.normalize(x, name=f"norm{name}")
            x = endpoints[f"act{name}"] = layer.activate(x)
        for name, (filters, strides) in BLOCKS.items():
            first = name == "block1"  # its input is an activation already
            x, inner = Block(filters, strides, not first, self.skip, layer, name=name)(x)
            endpoints |= {f"{name}/{k}": v for k, v in inner.items()} | {name: x}
        for name, features in (("3", 1536), ("4", 2048)):
            x = SeparableConv(features, layer, name=f"conv{name}")(x)
            x = layer.normalize(x, name=f"norm{name}")
            x = endpoints[f"act{name}"] = layer.activate(x)
        x = endpoints["pool"] = global_pool(x, "average")
        x = layer.dropout(x, self.dropout, name="dropout")
        x = endpoints["logits"] = layer.logits(x, self.num_classes)
        return x, endpoints
