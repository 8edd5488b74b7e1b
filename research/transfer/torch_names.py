"""What torchvision, timm and the CIFAR ResNets call the layers of the models here.

Each family has ordered rules (pattern of our module's path, name of theirs), of which the first
that matches the whole path counts. In a name, `{1}` stands for the pattern's first group and
`{2-1}` for the number in its second group, less one.
"""

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

from flax import linen as nn

from research.config import unknown
from research.models import MODELS
from research.models.cnn.resnet import ImageNetResNet, ResNet


class Rule(NamedTuple):
    """A module's path here, its name there.

    `side`: a dense layer that reads a flattened map of `side`×`side` pixels, which torch flattens
    as [C, H, W] and the models here as [H, W, C]; 0 for any other.
    """

    path: str
    name: str
    side: int = 0


def cifar_resnet(model: ResNet) -> Iterable[Rule]:
    """The names of github.com/akamaster/pytorch_resnet_cifar10."""
    yield Rule("stem", "conv1")
    yield Rule("stem_norm", "bn1")
    yield from _residual()
    yield Rule("head", "linear")


def imagenet_resnet(model: ImageNetResNet) -> Iterable[Rule]:
    """The names of torchvision.models.resnet and of timm."""
    yield Rule("stem", "conv1")
    yield Rule("stem_norm", "bn1")
    yield from _residual()
    yield Rule("head", "fc")


def _residual() -> Iterable[Rule]:
    block = r"stage(\d)_block(\d+)"
    yield Rule(f"{block}/conv(.)", "layer{1}.{2-1}.conv{3}")
    yield Rule(f"{block}/norm(.)", "layer{1}.{2-1}.bn{3}")
    yield Rule(f"{block}/skip/conv", "layer{1}.{2-1}.downsample.0")
    yield Rule(f"{block}/skip/norm", "layer{1}.{2-1}.downsample.1")


FAMILIES: dict[type[nn.Module], Callable[..., Iterable[Rule]]] = {
    ResNet: cifar_resnet,
    ImageNetResNet: imagenet_resnet,
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
                return re.sub(
                    r"\{(\d)([+-]\d+)?\}", lambda m: _fill(m, match), rule.name
                ), rule.side
        return None

    return find


def _fill(slot: re.Match, path: re.Match) -> str:
    group, shift = path[int(slot[1])], slot[2]
    return group if shift is None else str(int(group) + int(shift))
