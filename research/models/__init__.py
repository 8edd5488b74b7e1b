"""Models by name: pure Flax Linen modules whose switches are fields.

    model = create_model("resnet", depth=20, norm="group")
    variables = model.init(key, images)
    logits, endpoints = model.apply(variables, images)
    (logits, _), updates = model.apply(variables, images, train=True, mutable=["batch_stats"])

The output is [N, num_classes] in at least float32. The endpoints are named activations in the order
of the network (JAX sorts them by name where they leave a `jit`); those whose last name begins with
`act` ("stage1/block1/act1") are the output of an activation function, and a block's last one is the
block's own output.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

from flax import linen as nn

from research.config import UserError, unknown
from research.models.cnn.alexnet import AlexNet, AlexNet2012
from research.models.cnn.googlenet import GoogLeNet
from research.models.cnn.inception_v3 import InceptionV3
from research.models.cnn.inception_v4 import InceptionV4
from research.models.cnn.lenet import LeNet
from research.models.cnn.mobilenet_v1 import MobileNetV1
from research.models.cnn.mobilenet_v2 import MobileNetV2
from research.models.cnn.resnet import BLOCKS, ImageNetResNet, ResNet
from research.models.cnn.vgg import CONVOLUTIONS, VGG
from research.models.cnn.xception import Xception
from research.models.linear import Linear
from research.models.mlp import MLP
from research.models.rnn.network import RecurrentNetwork
from research.models.rnn.seq2seq import Seq2Seq

MODELS: dict[str, Callable[..., nn.Module]] = {
    "mlp": MLP,
    "lenet": LeNet,
    "locally_connected": partial(LeNet, shared=False),
    "alexnet": AlexNet,
    "alexnet_2012": AlexNet2012,
    "vgg": VGG,
    **{f"vgg{depth}": partial(VGG, depth=depth) for depth in CONVOLUTIONS},
    **{f"vgg{depth}_bn": partial(VGG, depth=depth, norm="batch") for depth in CONVOLUTIONS},
    "resnet": ResNet,
    **{f"resnet{depth}": partial(ResNet, depth=depth) for depth in (20, 32, 44, 56, 110)},
    "resnet_imagenet": ImageNetResNet,
    **{f"resnet{depth}": partial(ImageNetResNet, depth=depth) for depth in BLOCKS},
    "googlenet": GoogLeNet,
    "inception_v3": InceptionV3,
    "inception_v4": InceptionV4,
    "xception": Xception,
    "mobilenet_v1": MobileNetV1,
    "mobilenet_v2": MobileNetV2,
}

# What takes sequences.
SEQUENCE_MODELS: dict[str, Callable[..., nn.Module]] = {
    "recurrent": RecurrentNetwork,
    "seq2seq": Seq2Seq,
    "linear": Linear,
}

ALL_MODELS = MODELS | SEQUENCE_MODELS

# Why a model may lack a switch that others have.
LACKS = {
    "skip": "it has no residual branches to skip",
    "pool": "it has no pooling to choose",
    "padding": "it has no convolutions to pad",
    "depth": "its depth is its paper's",
    "width": "its widths are its paper's",
    "hidden": "it has no hidden dense layers",
    "filters": "its filters are its paper's",
    "subsample": "its subsampling is its paper's",
    "shared": "only 'lenet' can do without shared weights",
    "width_multiplier": "only the MobileNets scale all widths by one number",
    "separable": "only 'mobilenet_v1' has both kinds of convolution",
    "aux_heads": "it has no auxiliary classifiers",
    "aux_dropout": "it has no auxiliary classifiers with dropout",
    "spatial_dropout": "dropout of feature maps has no place in it",
}


def create_model(name: str, /, **switches: Any) -> nn.Module:
    """Make the model called `name`, with its defaults but for `switches`.

    Raises:
        UserError: an unknown model, a switch it does not take, or a value that a switch does not.

    Example:
        >>> create_model("resnet56", norm="layer", num_classes=100).depth
        56
    """
    if name not in ALL_MODELS:
        raise unknown("model.name", name, ALL_MODELS)
    fixed = getattr(ALL_MODELS[name], "keywords", {})
    for switch, value in switches.items():
        if switch not in switches_of(name) and switch not in fixed:
            if switch in LACKS:
                raise UserError(
                    f"model.{switch}: found {value!r}, but {name!r} takes none: {LACKS[switch]}; "
                    f"expected switches among {', '.join(switches_of(name))}"
                )
            raise unknown(f"model.{switch} (model.name={name!r})", switch, switches_of(name))
        if switch in fixed and value != fixed[switch]:
            family = next(k for k, v in ALL_MODELS.items() if v is ALL_MODELS[name].func)
            raise UserError(
                f"model.{switch}: found {value!r}, but model.name={name!r} fixes it at "
                f"{fixed[switch]}; expected that, or model.name={family!r}"
            )
    return ALL_MODELS[name](**switches)


def switches_of(name: str) -> tuple[str, ...]:
    """The switches that `create_model(name)` takes, but for those its name already fixes."""
    fixed = getattr(ALL_MODELS[name], "keywords", {})
    return tuple(switch for switch in defaults_of(name) if switch not in fixed)


def defaults_of(name: str) -> dict[str, Any]:
    """The value that each switch of `create_model(name)` has where none is given."""
    factory = ALL_MODELS[name]
    module, fixed = (
        (factory.func, factory.keywords) if isinstance(factory, partial) else (factory, {})
    )
    fields = {f.name: f.default for f in dataclasses.fields(module)}
    return {k: v for k, v in fields.items() if k not in ("parent", "name")} | fixed
