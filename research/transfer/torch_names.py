"""What torchvision, timm and the CIFAR ResNets call the layers of the models here.

Each family has ordered rules (pattern of our module's path, name of theirs), of which the first
that matches the whole path counts. In a name, `{1}` stands for what the pattern's first group
matched, with dots for slashes and "bn" for "norm", and `{2-1}` for the number in its second group,
less one.
"""

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from flax import linen as nn

from research.config import unknown
from research.models import MODELS
from research.models.cnn.alexnet import AlexNet
from research.models.cnn.googlenet import GoogLeNet
from research.models.cnn.inception_v3 import InceptionV3
from research.models.cnn.inception_v4 import InceptionV4
from research.models.cnn.mobilenet_v1 import BLOCKS, MobileNetV1
from research.models.cnn.mobilenet_v2 import MobileNetV2
from research.models.cnn.resnet import ImageNetResNet, ResNet
from research.models.cnn.vgg import CONVOLUTIONS, VGG
from research.models.cnn.xception import Xception


class Rule(NamedTuple):
    """A module's path here, its name there.

    `side`: of a dense layer that reads a flattened map of `side`×`side` pixels, which torch
    flattens as [C, H, W] and the models here as [H, W, C]; 0 for any other.
    """

    path: str
    name: str
    side: int = 0


UNIT = "(conv|norm)"  # the two of a `ConvNormAct` that have parameters

RESIDUAL = (
    Rule("stem", "conv1"),
    Rule("stem_norm", "bn1"),
    Rule(rf"stage(.)_block(\d+)/{UNIT}(.)", "layer{1}.{2-1}.{3}{4}"),
    Rule(r"stage(.)_block(\d+)/skip/conv", "layer{1}.{2-1}.downsample.0"),
    Rule(r"stage(.)_block(\d+)/skip/norm", "layer{1}.{2-1}.downsample.1"),
)


def cifar_resnet(model: ResNet) -> Iterator[Rule]:
    """github.com/akamaster/pytorch_resnet_cifar10."""
    yield from RESIDUAL
    yield Rule("head", "linear")


def imagenet_resnet(model: ImageNetResNet) -> Iterator[Rule]:
    """torchvision and timm."""
    yield from RESIDUAL
    yield Rule("head", "fc")


def alexnet(model: AlexNet) -> Iterator[Rule]:
    """torchvision; activations, poolings and dropout are counted too."""
    for i, index in enumerate((0, 3, 6, 8, 10), start=1):
        yield Rule(f"conv{i}", f"features.{index}")
    yield Rule("dense1", "classifier.1", side=6)
    yield Rule("dense2", "classifier.4")
    yield Rule("head", "classifier.6")


def vgg(model: VGG) -> Iterator[Rule]:
    """torchvision; activations, poolings and dropout are counted too."""
    index = 0
    for stage, convolutions in enumerate(CONVOLUTIONS[model.depth], start=1):
        for i in range(1, convolutions + 1):
            yield Rule(f"conv{stage}_{i}", f"features.{index}")
            yield Rule(f"norm{stage}_{i}", f"features.{index + 1}")
            index += 2 if model.norm == "none" else 3
        index += 1
    yield Rule("dense1", "classifier.0", side=7)
    yield Rule("dense2", "classifier.3")
    yield Rule("head", "classifier.6")


def mobilenet_v1(model: MobileNetV1) -> Iterator[Rule]:
    """timm; its blocks are counted from 0 within stages, which begin with strides of 2."""
    yield Rule("stem/conv", "conv_stem")
    yield Rule("stem/norm", "bn1")
    stage = place = 0
    for i, (_, strides) in enumerate(BLOCKS, start=1):
        stage, place = (stage + 1, 0) if strides == 2 else (stage, place)
        for unit, conv, norm in (("depthwise", "conv_dw", "bn1"), ("pointwise", "conv_pw", "bn2")):
            yield Rule(f"block{i}/{unit}/conv", f"blocks.{stage}.{place}.{conv}")
            yield Rule(f"block{i}/{unit}/norm", f"blocks.{stage}.{place}.{norm}")
        place += 1
    yield Rule("head", "classifier")


def mobilenet_v2(model: MobileNetV2) -> Iterator[Rule]:
    """torchvision; the first block, which expands nothing, has one unit less."""
    yield Rule("stem/conv", "features.0.0")
    yield Rule("stem/norm", "features.0.1")
    for block, wide in (("block(1)", ("depthwise",)), (r"block(\d+)", ("expand", "depthwise"))):
        for i, unit in enumerate(wide):
            yield Rule(f"{block}/{unit}/conv", f"features.{{1}}.conv.{i}.0")
            yield Rule(f"{block}/{unit}/norm", f"features.{{1}}.conv.{i}.1")
        yield Rule(f"{block}/project/conv", f"features.{{1}}.conv.{len(wide)}")
        yield Rule(f"{block}/project/norm", f"features.{{1}}.conv.{len(wide) + 1}")
    yield Rule("last/conv", "features.18.0")
    yield Rule("last/norm", "features.18.1")
    yield Rule("head", "classifier.1")


def googlenet(model: GoogLeNet) -> Iterator[Rule]:
    """torchvision; in the last branch the pooling is counted too."""
    yield Rule(f"(conv.)/{UNIT}", "{1}.{2}")
    yield Rule(f"(inception..)/branch1/{UNIT}", "{1}.branch1.{2}")
    yield Rule(f"(inception..)/branch(.)_(.)/{UNIT}", "{1}.branch{2}.{3-1}.{4}")
    yield Rule(f"(inception..)/branch4/{UNIT}", "{1}.branch4.1.{2}")
    yield Rule(f"(aux.)/conv/{UNIT}", "{1}.conv.{2}")
    yield Rule("(aux.)/dense", "{1}.fc1", side=4)
    yield Rule("(aux.)/head", "{1}.fc2")
    yield Rule("head", "fc")


def inception_v3(model: InceptionV3) -> Iterator[Rule]:
    """torchvision."""
    yield Rule(f"conv3b/{UNIT}", "Conv2d_3b_1x1.{1}")
    yield Rule(f"conv(..)/{UNIT}", "Conv2d_{1}_3x3.{2}")
    yield Rule(rf"inception(..)/(\w+)/{UNIT}", "Mixed_{1}.{2}.{3}")
    yield Rule(f"aux/conv(.)/{UNIT}", "AuxLogits.conv{1-1}.{2}")
    yield Rule("aux/head", "AuxLogits.fc")
    yield Rule("head", "fc")


def inception_v4(model: InceptionV4) -> Iterator[Rule]:
    """timm; modules are numbered from the first on, and in the last branch the pooling too."""
    yield Rule(f"stem([123])/{UNIT}", "features.{1-1}.{2}")
    yield Rule(f"stem([46])/branch./{UNIT}", "features.{1-1}.conv.{2}")
    places = {"stem(5)": "{1-1}", "inception_a(.)": "{1+5}", "reduction_(a)": "10"}
    places |= {"inception_b(.)": "{1+10}", "reduction_(b)": "18", "inception_c(.)": "{1+18}"}
    for module, place in places.items():
        joint = "_" if "_c" in module else "."
        branch = f"features.{place}.branch{{2-1}}"
        yield Rule(f"{module}/branch4/{UNIT}", f"features.{place}.branch3.1.{{2}}")
        yield Rule(f"{module}/branch(.)/{UNIT}", f"{branch}.{{3}}")
        yield Rule(rf"{module}/branch(.)_(\d)(\w?)/{UNIT}", f"{branch}{joint}{{3-1}}{{4}}.{{5}}")
    yield Rule("head", "last_linear")


def xception(model: Xception) -> Iterator[Rule]:
    """timm's legacy_xception; in a block, which but for the first begins with an activation, these
    are counted too."""
    yield Rule(f"{UNIT}([12])", "{1}{2}")
    yield Rule(r"block(\d+)/skip/conv", "block{1}.skip")
    yield Rule(r"block(\d+)/skip/norm", "block{1}.skipbn")
    for block, place in (("(1)", 0), (r"(\d+)", 1)):
        for i in (1, 2, 3):
            yield Rule(f"block{block}/conv{i}/depthwise", f"block{{1}}.rep.{place}.conv1")
            yield Rule(f"block{block}/conv{i}/pointwise", f"block{{1}}.rep.{place}.pointwise")
            yield Rule(f"block{block}/norm{i}", f"block{{1}}.rep.{place + 1}")
            place += 3
    yield Rule("conv([34])/depthwise", "conv{1}.conv1")
    yield Rule("conv([34])/pointwise", "conv{1}.pointwise")
    yield Rule("norm([34])", "bn{1}")
    yield Rule("head", "fc")


FAMILIES: dict[type[nn.Module], Callable[..., Iterator[Rule]]] = {
    ResNet: cifar_resnet,
    ImageNetResNet: imagenet_resnet,
    AlexNet: alexnet,
    VGG: vgg,
    GoogLeNet: googlenet,
    InceptionV3: inception_v3,
    InceptionV4: inception_v4,
    Xception: xception,
    MobileNetV1: mobilenet_v1,
    MobileNetV2: mobilenet_v2,
}


def torch_names(name: str, model: nn.Module) -> Callable[[str], tuple[str, int] | None]:
    """Return `module path → (its torch name, side of the map it flattens)`, None without a rule.

    Raises:
        UserError: no layout is known of models like `model`, which `create_model` calls `name`.
    """
    if type(model) not in FAMILIES:
        known = [n for n, make in MODELS.items() if getattr(make, "func", make) in FAMILIES]
        raise unknown("from_torch: a model of which torch weights are published", name, known)
    rules = tuple(FAMILIES[type(model)](model))

    def find(path: str) -> tuple[str, int] | None:
        for rule in rules:
            if match := re.fullmatch(rule.path, path):
                return _fill(rule.name, match), rule.side
        return None

    return find


def _fill(name: str, match: re.Match) -> str:
    def group(slot: re.Match) -> str:
        found, shift = match[int(slot[1])], slot[2]
        if shift:
            return str(int(found) + int(shift))
        return found.replace("/", ".").replace("norm", "bn")

    return re.sub(r"\{(\d)([+-]\d+)?\}", group, name)
