"""Inception v3: Szegedy et al. 2015, "Rethinking the Inception architecture", table 1.

    layer                   patch, strides   output
    conv 1a                 3×3/2            149×149×32
    conv 2a                 3×3              147×147×32
    conv 2b                 3×3, padded      147×147×64
    pool                    3×3/2            73×73×64
    conv 3b                 1×1              73×73×80
    conv 4a                 3×3              71×71×192
    pool                    3×3/2            35×35×192
    inception 5b, 5c, 5d    figure 5         35×35×256, 288, 288
    inception 6a            figure 10        17×17×768
    inception 6b … 6e       figure 6         17×17×768, inside 128, 160, 160, 192 wide
    inception 7a            figure 10        8×8×1280
    inception 7b, 7c        figure 7         8×8×2048
    pool, dropout, linear

Layers 3b and 4a are those of the published weights (TensorFlow's and torchvision's), which differ
from the table in the paper, and so does the number of modules of figures 6 and 10.
"""

from functools import partial
from typing import ClassVar

from flax import linen as nn
from jax import Array

from research.config import UserError
from research.models.cnn.branches import SUBSAMPLE, Branches, Output, check_concatenation
from research.models.layers import ConvNormAct, Layers
from research.models.network import Network, check_images
from research.models.pooling import global_pool, pool

# A convolution: features, size, strides, padding (half the kernel where not given).
STEM = {
    "conv1a": (32, 3, 2, 0),
    "conv2a": (32, 3, 1, 0),
    "conv2b": (64, 3),
    "pool1": SUBSAMPLE,
    "conv3b": (80, 1),
    "conv4a": (192, 3, 1, 0),
    "pool2": SUBSAMPLE,
}

average_3x3 = partial(pool, kind="average", size=3, strides=1, padding=1, count_padding=True)


def figure_5(pooled: int) -> dict[str, tuple]:
    """Two 3×3 convolutions in place of a 5×5."""
    return {
        "branch1x1": ((64, 1),),
        "branch5x5": ((48, 1), (64, 5)),
        "branch3x3dbl": ((64, 1), (96, 3), (96, 3)),
        "branch_pool": (average_3x3, (pooled, 1)),
    }


def figure_6(n: int) -> dict[str, tuple]:
    """1×7 and 7×1 convolutions in place of 7×7."""
    wide, tall = (1, 7), (7, 1)
    return {
        "branch1x1": ((192, 1),),
        "branch7x7": ((n, 1), (n, wide), (192, tall)),
        "branch7x7dbl": ((n, 1), (n, tall), (n, wide), (n, tall), (192, wide)),
        "branch_pool": (average_3x3, (192, 1)),
    }


FIGURE_7 = {  # 1×3 and 3×1 convolutions side by side
    "branch1x1": ((320, 1),),
    "branch3x3": ((384, 1), ((384, (1, 3)), (384, (3, 1)))),
    "branch3x3dbl": ((448, 1), (384, 3), ((384, (1, 3)), (384, (3, 1)))),
    "branch_pool": (average_3x3, (192, 1)),
}
FIGURE_10_35 = {  # half the side, from 35 pixels to 17
    "branch3x3": ((384, 3, 2, 0),),
    "branch3x3dbl": ((64, 1), (96, 3), (96, 3, 2, 0)),
    "branch_pool": (SUBSAMPLE,),
}
FIGURE_10_17 = {  # half the side, from 17 pixels to 8
    "branch3x3": ((192, 1), (320, 3, 2, 0)),
    "branch7x7x3": ((192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3, 2, 0)),
    "branch_pool": (SUBSAMPLE,),
}
MODULES = {
    "inception5b": figure_5(32),
    "inception5c": figure_5(64),
    "inception5d": figure_5(64),
    "inception6a": FIGURE_10_35,
    "inception6b": figure_6(128),
    "inception6c": figure_6(160),
    "inception6d": figure_6(160),
    "inception6e": figure_6(192),
    "inception7a": FIGURE_10_17,
    "inception7b": FIGURE_7,
    "inception7c": FIGURE_7,
}


class Auxiliary(nn.Module):
    """A classifier of the 17×17 maps, trained beside the last one (§4): [N, H, W, C] → logits."""

    num_classes: int
    layer: Layers

    @nn.compact
    def __call__(self, x: Array) -> Output:
        layer, endpoints = self.layer, {}
        if min(x.shape[1:3]) < 17:  # ⌊(17 − 5)/3⌋ + 1 = 5
            raise UserError(
                "model.aux_heads: the auxiliary head averages windows of 5×5 pixels, strides 3, "
                "and convolves 5×5 of these, which takes a map of at least 17×17 pixels, found "
                f"{x.shape[1]}×{x.shape[2]}; give images of at least 299×299 pixels "
                "(data.image_size), or model.aux_heads=False"
            )
        x = pool(x, "average", 5, 3)
        x = endpoints["conv1/act"] = ConvNormAct(128, 1, layer=layer, name="conv1")(x)
        x = ConvNormAct(768, 5, padding=0, layer=layer, name="conv2")(x)
        endpoints["conv2/act"] = x
        x = global_pool(x, "average")
        x = endpoints["logits"] = layer.logits(x, self.num_classes)
        return x, endpoints


class InceptionV3(Network):
    """Inception v3: 27,161,264 parameters; 23,834,568 without its auxiliary head.

    Attributes:
        aux_heads: whether one more classifier, inside the network, adds to the loss in training
            (endpoint "aux/logits"); evaluation never computes it. It needs 299×299 pixels, the
            network without it 75×75.
        pool: of the windows that halve the side; at every pixel they are averages, which count the
            zeros around the map.
        padding: see `research.models.layers.PADDINGS`; all but 'valid'. What the paper does not
            pad stays so.
        dropout: before the last layer.
    """

    input_shape: ClassVar = (299, 299, 3)
    paper: ClassVar = "Szegedy et al. 2015"
    aux_weights: ClassVar = {"aux/logits": 0.4}

    norm: str = "batch"
    norm_epsilon: float = 1e-3
    pool: str = "max"
    padding: str = "same"
    dropout: float = 0.5
    aux_heads: bool = True

    def __post_init__(self):
        super().__post_init__()
        check_concatenation(self)

    @nn.compact
    def __call__(self, x: Array, *, train: bool = False) -> Output:
        check_images(x)
        layer, endpoints = Layers.of(self, train), {}
        for name, row in STEM.items():
            if row == SUBSAMPLE:
                x = endpoints[name] = layer.subsample(x, 3, 2, name=name)
            else:
                x = endpoints[f"{name}/act"] = ConvNormAct(*row, layer=layer, name=name)(x)
        for name, branches in MODULES.items():
            x, inner = Branches(branches, layer, name=name)(x)
            endpoints |= {f"{name}/{k}": v for k, v in inner.items()} | {name: x}
            if self.aux_heads and name == "inception6e" and (train or self.is_initializing()):
                _, inner = Auxiliary(self.num_classes, layer, name="aux")(x)
                endpoints |= {f"aux/{k}": v for k, v in inner.items()}
        x = endpoints["pool"] = global_pool(x, "average")
        x = layer.dropout(x, self.dropout, name="dropout")
        x = endpoints["logits"] = layer.logits(x, self.num_classes)
        return x, endpoints
