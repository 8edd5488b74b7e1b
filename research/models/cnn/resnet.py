"""Residual networks for small images: He et al. 2015, "Deep residual learning", §4.2.

    output map size   32×32    16×16    8×8
    3×3 layers        1 + 2n   2n       2n
    filters           16       32       64

then global average pooling and one dense layer: 6n + 2 layers with weights. The shortcuts join
pairs of 3×3 layers, and an activation follows each sum ("v1", post-activation).
"""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from research.config import UserError
from research.models import layers

STAGES = 3


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a skip: [N, H, W, C] → [N, H/strides, W/strides, features]."""

    features: int
    strides: int
    skip: str
    layer: layers.Layers

    @nn.compact
    def __call__(self, x: Array) -> tuple[Array, dict[str, Array]]:
        layer, endpoints = self.layer, {}
        y = layer.conv(x, self.features, 3, self.strides, name="conv1")
        y = layer.normalize(y, name="norm1")
        y = endpoints["act1"] = layer.activate(y)
        y = layer.conv(y, self.features, 3, name="conv2")
        y = layer.normalize(y, name="norm2")
        y = layers.Skip(self.skip, self.strides, layer, name="skip")(x, y)
        y = endpoints["act2"] = layer.activate(y)
        return y, endpoints


class ResNet(nn.Module):
    """The CIFAR ResNet of `depth` = 6n + 2 layers, or with `skip="none"` its plain twin.

    Parameters with batch norm, 10 classes and RGB images, in thousands:

        depth        20    32    44    56    110
        identity    269.7 464.2 658.6 853.0 1728.0
        projection  272.5 466.9 661.3 855.8 1730.7

    Attributes:
        depth: 6n + 2.
        width: filters of the first stage; each of the two later stages has twice as many.
        pool: how the last feature maps become one vector.

    Raises:
        UserError: on construction, for a switch that cannot be; on calling, for images that the
            strides shrink away.
    """

    num_classes: int = 10
    depth: int = 20
    width: int = 16
    norm: str = "batch"
    norm_groups: int = 8
    activation: str = "relu"
    skip: str = "identity"
    pool: str = "average"
    kernel_init: str = "he"
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    def __post_init__(self):
        layers.check(self)
        if self.depth < 8 or self.depth % 6 != 2:
            below = self.depth - (self.depth - 2) % 6
            nearest = " and ".join(str(d) for d in (below, below + 6) if d >= 8) or "8"
            raise UserError(f"model.depth: found {self.depth}, expected 6n+2 (nearest: {nearest})")
        if self.norm == "group":
            layers.check_groups(self.width, self.norm_groups)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Array, *, train: bool = False) -> tuple[Array, dict[str, Array]]:
        layers.check_images(x, at_least=2 ** (STAGES - 1), name="resnet")
        layer, endpoints = layers.Layers.of(self, train), {}
        x = layer.conv(x, self.width, 3, name="stem")
        x = layer.normalize(x, name="stem_norm")
        x = endpoints["stem/act"] = layer.activate(x)
        for stage in range(1, STAGES + 1):
            for block in range(1, (self.depth - 2) // 6 + 1):
                x, inner = BasicBlock(
                    features=self.width * 2 ** (stage - 1),
                    strides=2 if stage > 1 and block == 1 else 1,
                    skip=self.skip,
                    layer=layer,
                    name=f"stage{stage}_block{block}",
                )(x)
                endpoints |= {f"stage{stage}/block{block}/{k}": v for k, v in inner.items()}
        x = endpoints["pool"] = layers.global_pool(x, self.pool)
        x = endpoints["logits"] = layer.logits(x, self.num_classes)
        return x, endpoints
