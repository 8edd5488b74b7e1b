"""MobileNet v2: Sandler et al. 2018, "Inverted residuals and linear bottlenecks", table 2.

    layer           expansion   filters   strides   output (of 224×224)
    conv 3×3                    32        2         112×112
    block 1         1           16        1         112×112
    blocks 2–3      6           24        2, 1      56×56
    blocks 4–6      6           32        2, 1, 1   28×28
    blocks 7–10     6           64        2, then 1 14×14
    blocks 11–13    6           96        1         14×14
    blocks 14–16    6           160       2, 1, 1   7×7
    block 17        6           320       1         7×7
    conv 1×1                    1280      1         7×7
    pool, dropout, dense 1000

A block expands its channels by a 1×1 convolution (unless the expansion is 1), convolves each by
3×3, and projects them to its filters by another 1×1, after which there is no activation. A skip
joins the narrow ends where they have the same shape.
"""

from typing import ClassVar

from flax import linen as nn
from jax import Array

from research.config import UserError
from research.models.cnn.mobilenet_v1 import scaled
from research.models.cnn.resnet import check_residual
from research.models.layers import ConvNormAct, Layers, Skip
from research.models.network import Network, check_images
from research.models.pooling import global_pool

# Expansion, filters, blocks, strides of the first of them: the paper's t, c, n, s.
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)

Output = tuple[Array, dict[str, Array]]


class InvertedResidual(nn.Module):
    """Expand, convolve each channel, project, skip: → [N, H/strides, W/strides, features]."""

    expansion: int
    features: int
    strides: int
    skip: str
    layer: Layers

    @nn.compact
    def __call__(self, x: Array) -> Output:
        layer, endpoints, y = self.layer, {}, x
        wide = self.expansion * x.shape[-1]
        if self.expansion > 1:
            y = endpoints["expand/act"] = ConvNormAct(wide, 1, layer=layer, name="expand")(y)
        depthwise = ConvNormAct(wide, 3, self.strides, groups=wide, layer=layer, name="depthwise")
        y = endpoints["depthwise/act"] = depthwise(y)
        y = ConvNormAct(self.features, 1, activate=False, layer=layer, name="project")(y)
        if self.strides == 1 and x.shape == y.shape:
            y = Skip(self.skip, 1, layer, name="skip")(x, y)
        return y, endpoints


class MobileNetV2(Network):
    """MobileNet v2, or with `skip="none"` its plain twin: 3,504,872 parameters with 1000 classes.

    Attributes:
        width_multiplier: of the number of filters of every layer, but that the last convolution
            never has fewer than 1280; see `research.models.cnn.mobilenet_v1.scaled`.
        skip: see `research.models.layers.Skip`; it joins maps of equal shape only, so that it can
            be no projection.
        pool: how the last feature maps become one vector.
        padding: see `research.models.layers.PADDINGS`.
        dropout: before the last layer.
    """

    paper: ClassVar = "Sandler et al. 2018"

    norm: str = "batch"
    activation: str = "relu6"
    skip: str = "identity"
    pool: str = "average"
    padding: str = "same"
    width_multiplier: float = 1.0
    dropout: float = 0.2

    def __post_init__(self):
        super().__post_init__()
        if self.skip == "projection":
            raise UserError(
                "model.skip: found 'projection', but MobileNet v2 skips a block only where its "
                "input and output have the same shape, and has nothing to project; expected one of "
                "identity, none, zero_init"
            )
        check_residual(self)

    @nn.compact
    def __call__(self, x: Array, *, train: bool = False) -> Output:
        check_images(x)
        layer, endpoints, block = Layers.of(self, train), {}, 0
        filters = scaled(32, self.width_multiplier)
        x = endpoints["stem/act"] = ConvNormAct(filters, 3, 2, layer=layer, name="stem")(x)
        for expansion, filters, blocks, strides in STAGES:
            filters = scaled(filters, self.width_multiplier)
            for i in range(blocks):
                block += 1
                x, inner = InvertedResidual(
                    expansion,
                    filters,
                    strides if i == 0 else 1,
                    self.skip,
                    layer,
                    name=f"block{block}",
                )(x)
                endpoints |= {f"block{block}/{k}": v for k, v in inner.items()}
                endpoints[f"block{block}"] = x
        filters = scaled(1280, max(1.0, self.width_multiplier))
        x = endpoints["last/act"] = ConvNormAct(filters, 1, layer=layer, name="last")(x)
        x = endpoints["pool"] = global_pool(x, self.pool)
        x = layer.dropout(x, self.dropout, name="dropout")
        x = endpoints["logits"] = layer.logits(x, self.num_classes)
        return x, endpoints
