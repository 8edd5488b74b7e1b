"""Every model by its name: parameters, shapes, switches and gradients."""

import jax
import jax.numpy as jnp
import pytest

from research.models import MODELS, create_model

# Parameters at the paper's size and number of classes: as torchvision and timm have them, or by
# the arithmetic of the tables that the models' files begin with.
PARAMETERS = {
    "mlp": (784 * 256 + 256) + (256 * 256 + 256) + 2570,
    "lenet": 61_706,
    "locally_connected": 28**2 * 156 + 10**2 * 2416 + (400 * 120 + 120) + 10_164 + 850,
    "alexnet": 61_100_840,
    "alexnet_2012": 60_965_224,
    "vgg": 138_357_544,
    "vgg11": 132_863_336,
    "vgg13": 133_047_848,
    "vgg16": 138_357_544,
    "vgg19": 143_667_240,
    "vgg11_bn": 132_868_840,
    "vgg13_bn": 133_053_736,
    "vgg16_bn": 138_365_992,
    "vgg19_bn": 143_678_248,
    "resnet": 269_722,
    "resnet20": 269_722,
    "resnet32": 464_154,
    "resnet44": 658_586,
    "resnet56": 853_018,
    "resnet110": 1_727_962,
    "resnet_imagenet": 25_557_032,
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "googlenet": 13_004_888,
    "inception_v3": 27_161_264,
    "inception_v4": 42_679_816,
    "xception": 22_855_952,
    "mobilenet_v1": 4_231_976,
    "mobilenet_v2": 3_504_872,
}
# The side of small images, where they cannot be of 16 pixels.
SIDES = {"alexnet": 63, "alexnet_2012": 67, "inception_v3": 299, "inception_v4": 75}
SIDES |= {n: 32 for n in PARAMETERS if n.startswith("vgg")}


def shapes(model, shape):
    """The shapes of variables, logits and endpoints for images of `shape`."""
    (logits, endpoints), variables = jax.eval_shape(
        model.init_with_output, jax.random.key(0), jnp.zeros(shape)
    )
    return variables, logits, endpoints


def count(model, shape):
    return sum(leaf.size for leaf in jax.tree.leaves(shapes(model, shape)[0]["params"]))


def test_no_model_is_forgotten():
    assert PARAMETERS.keys() == MODELS.keys()


@pytest.mark.parametrize("name", MODELS)
def test_parameters_and_output_at_the_size_of_the_paper(name):
    model = create_model(name)
    variables, logits, endpoints = shapes(model, (2, *model.input_shape))
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == PARAMETERS[name]
    assert logits.shape == endpoints["logits"].shape == (2, model.num_classes)
    assert model.paper


@pytest.mark.parametrize("name", MODELS)
def test_small_images_of_any_channels(name):
    side = SIDES.get(name, 16)
    _, logits, endpoints = shapes(create_model(name, num_classes=3), (2, side, side + 8, 5))
    assert logits.shape == (2, 3)
    assert any(key.split("/")[-1].startswith("act") for key in endpoints)
