"""Residual networks: He et al. 2015, "Deep residual learning", §4.1 (ImageNet) and §4.2 (CIFAR).

For small images (`resnet20` … `resnet110`), 6n + 2 layers with weights:

    output map size   32×32    16×16    8×8
    3×3 layers        1 + 2n   2n       2n
    filters           16       32       64

For large ones (`resnet18` … `resnet152`), blocks per stage after a 7×7 stem and a 3×3 pooling:

    output map size   56×56   28×28   14×14   7×7
    18, basic           2       2       2      2
    34, basic           3       4       6      3
    50, bottleneck      3       4       6      3
    101, bottleneck     3       4      23      3
    152, bottleneck     3       8      36      3
    filters            64     128     256    512    (a bottleneck's output has four times as many)

Both end in global average pooling and one dense layer. An activation follows each sum ("v1").
"""

from typing import ClassVar

from flax import linen as nn
from jax import Array

from research.config import UserError
from research.models import layers
from research.models.network import Network, check_images
from research.models.norms import check_groups
from research.models.pooling import global_pool

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
BLOCKS |= {101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}

Output = tuple[Array, dict[str, Array]]


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a skip: [N, H, W, C] → [N, H/strides, W/strides, features]."""

    features: int
    strides: int
    skip: str
    layer: layers.Layers

    @nn.compact
    def __call__(self, x: Array) -> Output:
        layer, endpoints = self.layer, {}
        y = layer.conv(x, self.features, 3, self.strides, name="conv1")
        y = layer.normalize(y, name="norm1")
        y = endpoints["act1"] = layer.activate(y)
        y = layer.conv(y, self.features, 3, name="conv2")
        y = layer.normalize(y, name="norm2")
        y = layers.Skip(self.skip, self.strides, layer, name="skip")(x, y)
        y = endpoints["act2"] = layer.activate(y)
        return y, endpoints


class Bottleneck(nn.Module):
    """1×1, 3×3, 1×1 and a skip: [N, H, W, C] → [N, H/strides, W/strides, 4·features].

    The strides are in the 3×3 convolution ("v1.5", as in torchvision), not in the first 1×1, which
    would skip three quarters of its input.
    """

    features: int
    strides: int
    skip: str
    layer: layers.Layers

    @nn.compact
    def __call__(self, x: Array) -> Output:
        layer, endpoints = self.layer, {}
        y = layer.conv(x, self.features, 1, name="conv1")
        y = layer.normalize(y, name="norm1")
        y = endpoints["act1"] = layer.activate(y)
        y = layer.conv(y, self.features, 3, self.strides, name="conv2")
        y = layer.normalize(y, name="norm2")
        y = endpoints["act2"] = layer.activate(y)
        y = layer.conv(y, 4 * self.features, 1, name="conv3")
        y = layer.normalize(y, name="norm3")
        y = layers.Skip(self.skip, self.strides, layer, name="skip")(x, y)
        y = endpoints["act3"] = layer.activate(y)
        return y, endpoints


def check_residual(model: Network) -> None:
    """Refuse unpadded convolutions where a skip must add maps of equal size."""
    if model.padding == "valid" and model.skip != "none":
        raise UserError(
            f"model.padding: found 'valid' with model.skip={model.skip!r}, but a branch of "
            "unpadded convolutions comes out smaller than the skip it is added to; expected "
            "another padding, such as 'reflect', or model.skip='none'"
        )


class ResNet(Network):
    """The CIFAR ResNet of `depth` = 6n + 2 layers, or with `skip="none"` its plain twin.

    Parameters with batch norm, 10 classes and RGB images, in thousands:

        depth        20    32    44    56    110
        identity    269.7 464.2 658.6 853.0 1728.0
        projection  272.5 466.9 661.3 855.8 1730.7

    Attributes:
        depth: 6n + 2.
        width: filters of the first stage; each of the two later stages has twice as many.
        skip: see `research.models.layers.Skip`.
        pool: how the last feature maps become one vector.
        padding: see `research.models.layers.PADDINGS`.
        dropout: before the last layer.
        spatial_dropout: of whole feature maps, after each stage.
    """

    input_shape: ClassVar = (32, 32, 3)
    paper: ClassVar = "He et al. 2015, §4.2"

    num_classes: int = 10
    depth: int = 20
    width: int = 16
    norm: str = "batch"
    skip: str = "identity"
    pool: str = "average"
    padding: str = "same"
    spatial_dropout: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        if self.depth < 8 or self.depth % 6 != 2:
            below = self.depth - (self.depth - 2) % 6
            nearest = " and ".join(str(d) for d in (below, below + 6) if d >= 8) or "8"
            raise UserError(f"model.depth: found {self.depth}, expected 6n+2 (nearest: {nearest})")
        if self.norm == "group":
            check_groups(self.width, self.norm_groups)
        check_residual(self)

    @nn.compact
    def __call__(self, x: Array, *, train: bool = False) -> Output:
        check_images(x)
        layer, endpoints = layers.Layers.of(self, train), {}
        x = layer.conv(x, self.width, 3, name="stem")
        x = layer.normalize(x, name="stem_norm")
        x = endpoints["stem/act"] = layer.activate(x)
        for stage in range(1, 4):
            for block in range(1, (self.depth - 2) // 6 + 1):
                x, inner = BasicBlock(
                    features=self.width * 2 ** (stage - 1),
                    strides=2 if stage > 1 and block == 1 else 1,
                    skip=self.skip,
                    layer=layer,
                    name=f"stage{stage}_block{block}",
                )(x)
                endpoints |= {f"stage{stage}/block{block}/{k}": v for k, v in inner.items()}
            x = layer.dropout(x, self.spatial_dropout, spatial=True, name=f"stage{stage}_dropout")
        x = endpoints["pool"] = global_pool(x, self.pool)
        x = layer.dropout(x, self.dropout, name="dropout")
        x = endpoints["logits"] = layer.logits(x, self.num_classes)
        return x, endpoints


class ImageNetResNet(Network):
    """The ImageNet ResNet of 18, 34, 50, 101 or 152 layers, or with `skip="none"` its plain twin.

    Parameters with 1000 classes: 11,689,512, 21,797,672, 25,557,032, 44,549,160, 60,192,808.

    Attributes:
        depth: a key of `BLOCKS`.
        skip: see `research.models.layers.Skip`; the paper has projections only where shapes change.
        pool: of the windows after the stem.
        padding: see `research.models.layers.PADDINGS`.
        dropout: before the last layer.
    """

    paper: ClassVar = "He et al. 2015, §4.1"

    depth: int = 50
    norm: str = "batch"
    skip: str = "projection"
    pool: str = "max"
    padding: str = "same"

    def __post_init__(self):
        super().__post_init__()
        if self.depth not in BLOCKS:
            nearest = min(BLOCKS, key=lambda depth: abs(depth - self.depth))
            known = ", ".join(map(str, BLOCKS))
            raise UserError(
                f"model.depth: found {self.depth}, expected one of {known} (nearest: {nearest})"
            )
        check_residual(self)

    @nn.compact
    def __call__(self, x: Array, *, train: bool = False) -> Output:
        check_images(x)
        layer, endpoints = layers.Layers.of(self, train), {}
        x = layer.conv(x, 64, 7, 2, name="stem")
        x = layer.normalize(x, name="stem_norm")
        x = endpoints["stem/act"] = layer.activate(x)
        x = endpoints["stem/pool"] = layer.subsample(x, 3, 2, padding=1, name="stem_pool")
        for stage, blocks in enumerate(BLOCKS[self.depth], start=1):
            for block in range(1, blocks + 1):
                x, inner = (Bottleneck if self.depth >= 50 else BasicBlock)(
                    features=64 * 2 ** (stage - 1),
                    strides=2 if stage > 1 and block == 1 else 1,
                    skip=self.skip,
                    layer=layer,
                    name=f"stage{stage}_block{block}",
                )(x)
                endpoints |= {f"stage{stage}/block{block}/{k}": v for k, v in inner.items()}
        x = endpoints["pool"] = global_pool(x, "average")
        x = layer.dropout(x, self.dropout, name="dropout")
        x = endpoints["logits"] = layer.logits(x, self.num_classes)
        return x, endpoints
