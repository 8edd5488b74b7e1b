"""GoogLeNet: Szegedy et al. 2014, "Going deeper with convolutions", table 1, as torchvision has it.

    layer          output       1×1  3×3 reduce  3×3  5×5 reduce  5×5  pool proj
    conv 7×7/2     112×112×64
    pool 3×3/2     56×56×64
    conv 3×3       56×56×192                64   192
    pool 3×3/2     28×28×192
    inception 3a   28×28×256     64         96   128          16   32         32
    inception 3b   28×28×480    128        128   192          32   96         64
    pool 3×3/2     14×14×480
    inception 4a   14×14×512    192         96   208          16   48         64
    inception 4b   14×14×512    160        112   224          24   64         64
    inception 4c   14×14×512    128        128   256          24   64         64
    inception 4d   14×14×528    112        144   288          32   64         64
    inception 4e   14×14×832    256        160   320          32  128        128
    pool 2×2/2     7×7×832
    inception 5a   7×7×832      256        160   320          32  128        128
    inception 5b   7×7×1024     384        192   384          48  128        128
    pool, dropout, linear

The published weights differ from the paper: a batch norm follows every convolution, no local
response norm is left, the "5×5" convolutions are 3×3, the last pooling of windows is 2×2 and not
3×3, and the auxiliary heads average to 4×4 pixels whatever the size of the map.
"""

from functools import partial
from typing import ClassVar

from flax import linen as nn
from jax import Array

from research.models.cnn.branches import Branches, Output, check_concatenation
from research.models.layers import ConvNormAct, Layers
from research.models.network import Network, check_images
from research.models.pooling import average_to, global_pool, pool

# Pools of windows (side, strides), and modules: 1×1, 3×3 reduce, 3×3, 5×5 reduce, 5×5, pool proj.
TABLE = {
    "inception3a": (64, 96, 128, 16, 32, 32),
    "inception3b": (128, 128, 192, 32, 96, 64),
    "pool3": (3, 2),
    "inception4a": (192, 96, 208, 16, 48, 64),
    "inception4b": (160, 112, 224, 24, 64, 64),
    "inception4c": (128, 128, 256, 24, 64, 64),
    "inception4d": (112, 144, 288, 32, 64, 64),
    "inception4e": (256, 160, 320, 32, 128, 128),
    "pool4": (2, 2),
    "inception5a": (256, 160, 320, 32, 128, 128),
    "inception5b": (384, 192, 384, 48, 128, 128),
}
AUXILIARY = {"inception4a": "aux1", "inception4d": "aux2"}  # whose output they classify

max_3x3 = partial(pool, kind="max", size=3, strides=1, padding=1)


def inception(row: tuple[int, ...]) -> dict[str, tuple]:
    """The branches of a module (figure 2b) with the filters of a row of the table."""
    c1, reduce3, c3, reduce5, c5, projection = row
    return {
        "branch1": ((c1, 1),),
        "branch2": ((reduce3, 1), (c3, 3)),
        "branch3": ((reduce5, 1), (c5, 3)),
        "branch4": (max_3x3, (projection, 1)),
    }


class Auxiliary(nn.Module):
    """A classifier of the maps inside, trained beside the last one (§5): [N, H, W, C] → logits."""

    num_classes: int
    dropout: float
    layer: Layers

    @nn.compact
    def __call__(self, x: Array) -> Output:
        layer, endpoints = self.layer, {}
        x = average_to(x, 4)
        x = endpoints["conv/act"] = ConvNormAct(128, 1, layer=layer, name="conv")(x)
        x = layer.dense(x.reshape(len(x), -1), 1024, normed=False, name="dense")
        x = endpoints["dense/act"] = layer.activate(x)
        x = layer.dropout(x, self.dropout, name="dropout")
        x = endpoints["logits"] = layer.logits(x, self.num_classes)
        return x, endpoints


class GoogLeNet(Network):
    """GoogLeNet ("Inception v1"): 13,004,888 parameters; 6,624,904 without auxiliary heads.

    Attributes:
        aux_heads: whether two more classifiers, inside the network, add to the loss in training
            (endpoints "aux1/logits", "aux2/logits"); evaluation never computes them.
        pool: of the windows between the modules; inside, they are maxima, as the paper has them.
        padding: see `research.models.layers.PADDINGS`; all but 'valid'.
        dropout: before the last layer.
        aux_dropout: before the last layer of the auxiliary heads.
    """

    paper: ClassVar = "Szegedy et al. 2014"
    aux_weights: ClassVar = {"aux1/logits": 0.3, "aux2/logits": 0.3}  # §5

    norm: str = "batch"
    norm_epsilon: float = 1e-3
    pool: str = "max"
    padding: str = "same"
    dropout: float = 0.2
    aux_heads: bool = True
    aux_dropout: float = 0.7

    def __post_init__(self):
        super().__post_init__()
        check_concatenation(self)

    @nn.compact
    def __call__(self, x: Array, *, train: bool = False) -> Output:
        check_images(x)
        layer, endpoints = Layers.of(self, train), {}
        x = endpoints["conv1/act"] = ConvNormAct(64, 7, 2, layer=layer, name="conv1")(x)
        x = endpoints["pool1"] = layer.subsample(x, 3, 2, ceil=True, name="pool1")
        x = endpoints["conv2/act"] = ConvNormAct(64, 1, layer=layer, name="conv2")(x)
        x = endpoints["conv3/act"] = ConvNormAct(192, 3, layer=layer, name="conv3")(x)
        x = endpoints["pool2"] = layer.subsample(x, 3, 2, ceil=True, name="pool2")
        for name, row in TABLE.items():
            if name.startswith("pool"):
                x = endpoints[name] = layer.subsample(x, *row, ceil=True, name=name)
                continue
            x, inner = Branches(inception(row), layer, name=name)(x)
            endpoints |= {f"{name}/{k}": v for k, v in inner.items()} | {name: x}
            if self.aux_heads and name in AUXILIARY and (train or self.is_initializing()):
                aux = AUXILIARY[name]
                _, inner = Auxiliary(self.num_classes, self.aux_dropout, layer, name=aux)(x)
                endpoints |= {f"{aux}/{k}": v for k, v in inner.items()}
        x = endpoints["pool"] = global_pool(x, "average")
        x = layer.dropout(x, self.dropout, name="dropout")
        x = endpoints["logits"] = layer.logits(x, self.num_classes)
        return x, endpoints
