"""Inception v4: Szegedy et al. 2016, "Inception-v4, Inception-ResNet and the impact of residual
connections on learning", figures 3–9.

    layer              figure   output
    stem 1, 3×3/2      3        149×149×32
    stem 2, 3×3        3        147×147×32
    stem 3, 3×3        3        147×147×64, padded
    stem 4             3        73×73×160
    stem 5             3        71×71×192
    stem 6             3        35×35×384
    4 × Inception-A    4        35×35×384
    Reduction-A        7        17×17×1024
    7 × Inception-B    5        17×17×1024
    Reduction-B        8        8×8×1536
    3 × Inception-C    6        8×8×1536
    pool, dropout, linear
"""

from functools import partial
from typing import ClassVar

from flax import linen as nn
from jax import Array

from research.models.cnn.branches import SUBSAMPLE, Branches, Output, check_concatenation
from research.models.layers import ConvNormAct, Layers
from research.models.network import Network, check_images
from research.models.pooling import global_pool, pool

average_3x3 = partial(pool, kind="average", size=3, strides=1, padding=1)

# A convolution: features, size, strides, padding (half the kernel where not given).
STEM = {
    "stem1": (32, 3, 2, 0),
    "stem2": (32, 3, 1, 0),
    "stem3": (64, 3),
}
STEM_4 = {
    "branch1": (SUBSAMPLE,),
    "branch2": ((96, 3, 2, 0),),
}
STEM_5 = {
    "branch1": ((64, 1), (96, 3, 1, 0)),
    "branch2": ((64, 1), (64, (1, 7)), (64, (7, 1)), (96, 3, 1, 0)),
}
STEM_6 = {
    "branch1": ((192, 3, 2, 0),),
    "branch2": (SUBSAMPLE,),
}
INCEPTION_A = {
    "branch1": ((96, 1),),
    "branch2": ((64, 1), (96, 3)),
    "branch3": ((64, 1), (96, 3), (96, 3)),
    "branch4": (average_3x3, (96, 1)),
}
REDUCTION_A = {
    "branch1": ((384, 3, 2, 0),),
    "branch2": ((192, 1), (224, 3), (256, 3, 2, 0)),
    "branch3": (SUBSAMPLE,),
}
INCEPTION_B = {
    "branch1": ((384, 1),),
    "branch2": ((192, 1), (224, (1, 7)), (256, (7, 1))),
    "branch3": ((192, 1), (192, (7, 1)), (224, (1, 7)), (224, (7, 1)), (256, (1, 7))),
    "branch4": (average_3x3, (128, 1)),
}
REDUCTION_B = {
    "branch1": ((192, 1), (192, 3, 2, 0)),
    "branch2": ((256, 1), (256, (1, 7)), (320, (7, 1)), (320, 3, 2, 0)),
    "branch3": (SUBSAMPLE,),
}
INCEPTION_C = {
    "branch1": ((256, 1),),
    "branch2": ((384, 1), ((256, (1, 3)), (256, (3, 1)))),
    "branch3": ((384, 1), (448, (3, 1)), (512, (1, 3)), ((256, (1, 3)), (256, (3, 1)))),
    "branch4": (average_3x3, (256, 1)),
}
MODULES = {
    "stem4": STEM_4,
    "stem5": STEM_5,
    "stem6": STEM_6,
    **{f"inception_a{i}": INCEPTION_A for i in range(1, 5)},
    "reduction_a": REDUCTION_A,
    **{f"inception_b{i}": INCEPTION_B for i in range(1, 8)},
    "reduction_b": REDUCTION_B,
    **{f"inception_c{i}": INCEPTION_C for i in range(1, 4)},
}


class InceptionV4(Network):
    """Inception v4: 42,679,816 parameters, for images of at least 75×75 pixels.

    Attributes:
        pool: of the windows that halve the side; at every pixel they are averages.
        padding: see `research.models.layers.PADDINGS`; all but 'valid'. What the paper does not
            pad ("V" in its figures) stays so.
        dropout: before the last layer; the paper keeps 0.8.
    """

    input_shape: ClassVar = (299, 299, 3)
    paper: ClassVar = "Szegedy et al. 2016"

    norm: str = "batch"
    norm_epsilon: float = 1e-3
    pool: str = "max"
    padding: str = "same"
    dropout: float = 0.2

    def __post_init__(self):
        super().__post_init__()
        check_concatenation(self)

    @nn.compact
    def __call__(self, x: Array, *, train: bool = False) -> Output:
        check_images(x)
        layer, endpoints = Layers.of(self, train), {}
        for name, row in STEM.items():
            x = endpoints[f"{name}/act"] = ConvNormAct(*row, layer=layer, name=name)(x)
        for name, branches in MODULES.items():
            x, inner = Branches(branches, layer, name=name)(x)
            endpoints |= {f"{name}/{k}": v for k, v in inner.items()} | {name: x}
        x = endpoints["pool"] = global_pool(x, "average")
        x = layer.dropout(x, self.dropout, name="dropout")
        x = endpoints["logits"] = layer.logits(x, self.num_classes)
        return x, endpoints
