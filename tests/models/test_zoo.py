"""Every model by its name: parameters, shapes, switches and gradients."""

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fixed_variables import fixed_variables, training_loss
from sklearn.datasets import load_digits
from torch_training import MODELS as TORCHS

from research.config import UserError
from research.models import MODELS, create_model, defaults_of, layers, switches_of
from research.models.norms import NORMS
from research.models.pooling import POOLS

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
DIGITS = load_digits()
LABELS = DIGITS.target[:4]


class Small(NamedTuple):
    """A model of each family, made small: the side of its images and switches that shrink it.

    Deep ones have short tables besides (`short_tables`). `impossible` has the values that switches
    cannot have, and the error each is. Of a model with `every`, each value of a switch is tried; of
    the others, which take long, one, and none is computed. `equal` are values that change nothing.
    """

    side: int
    switches: Mapping[str, Any] = MappingProxyType({})
    impossible: Mapping[tuple[str, Any], str] = MappingProxyType({})
    every: bool = False
    equal: tuple[tuple[str, Any], ...] = ()


# Where no map of even side is strided and padded, no odd pixel stands on either side.
UNSTRIDED = (("padding", "same_upper"),)
INCEPTION = {("padding", "valid"): "branches .* cannot be concatenated"}
RESIDUAL = {("padding", "valid"): r"'valid' with model\.skip"}
SMALL = {
    "mlp": Small(8, {"hidden": (16,)}, {("norm", "instance"): "found 'instance'"}, every=True),
    "lenet": Small(8, {"filters": (8, 16), "hidden": (16,)}, every=True, equal=UNSTRIDED),
    "locally_connected": Small(
        8, {"filters": (8, 16), "hidden": (16,)}, every=True, equal=UNSTRIDED
    ),
    "alexnet": Small(63, {"hidden": (16,)}),
    "alexnet_2012": Small(67, {"hidden": (16,)}, equal=UNSTRIDED),
    "vgg11": Small(32, {"width": 8, "hidden": (16,)}, equal=UNSTRIDED),
    "resnet": Small(8, {"depth": 8, "width": 8}, RESIDUAL, every=True),
    "resnet18": Small(32, {}, RESIDUAL),
    "resnet50": Small(32, {}, RESIDUAL),
    "googlenet": Small(32, {"aux_dropout": 0.0}, INCEPTION),
    "inception_v3": Small(72, {}, INCEPTION, equal=UNSTRIDED),
    "inception_v4": Small(32, {}, INCEPTION, equal=UNSTRIDED),
    "xception": Small(32, {}, RESIDUAL, equal=UNSTRIDED),
    "mobilenet_v1": Small(32, {"width_multiplier": 0.25}),
    "mobilenet_v2": Small(
        32,
        {"width_multiplier": 0.25},
        RESIDUAL | {("skip", "projection"): "'projection', .* nothing to project"},
    ),
}
# The values of the switches that the models share; each is compared with the model's default.
VALUES = {
    "norm": NORMS,
    "norm_groups": (4,),
    "norm_epsilon": (1.0,),
    "activation": tuple(layers.ACTIVATIONS),
    "skip": layers.SKIPS,
    "pool": tuple(POOLS),
    "padding": ("same", "reflect", "circular", "same_upper"),
    "use_bias": (False,),
    "subsample": ("stride",),
    "aux_heads": (False,),
    "dtype": (jnp.bfloat16,),
    "param_dtype": (jnp.bfloat16,),
}
# What makes a switch matter: not every model has a norm, and a norm would undo a bias.
NEEDS = {
    "norm_groups": {"norm": "group"},
    "norm_epsilon": {"norm": "group"},
    "use_bias": {"norm": "none"},
}
# These change the parameters, and so the shapes.
SIZES = {
    "num_classes": 7,
    "depth": 14,
    "width": 16,
    "hidden": (8, 8),
    "filters": (4, 8),
    "shared": False,
    "width_multiplier": 0.5,
    "separable": False,
}


def small(name, **switches):
    return create_model(name, **(SMALL[name].switches | {"num_classes": 10} | switches))


def images(name):
    """Digits, each pixel enlarged; bright, so that not all activations are below ReLU6's 6."""
    side = SMALL[name].side
    pixels = np.arange(side) * 8 // side
    bright = 16 if name == "locally_connected" else 1  # its kernels are drawn that much smaller
    return bright * DIGITS.images[:4][:, pixels][:, :, pixels, None].astype(np.float32)


@cache
def slope_of(name, **switches):
    """`() → ` the slope of a small model's loss in one direction of parameter space, and logits.

    Where the slope differs, so does the gradient.
    """
    model = small(name, dropout=0.0, **switches)
    variables = fixed_variables(model, images(name), scalar=0.5, vector=4.0)
    loss = training_loss(model, variables, images(name), LABELS)
    direction = variables["params"]
    return lambda: jax.jvp(loss, (variables["params"],), (direction,), has_aux=True)[1:]


@cache
def evaluated(name, **switches):
    """Logits and slope. Not jitted: one by one, the same few operations are compiled once for all
    values of a switch.
    """
    slope, logits = slope_of(name, **switches)()
    return np.asarray(logits), float(slope)


@cache
def traced(name, **switches):
    """What would be computed for them, as text; of deep networks compiling takes too long."""
    return str(jax.make_jaxpr(slope_of(name, **switches))())


def sweep(every):
    """Name, switch and value, what makes it matter."""
    for name, row in SMALL.items():
        if row.every != every:
            continue
        for switch in sorted(VALUES.keys() & switches_of(name)):
            values = [
                value
                for value in VALUES[switch]
                if value != defaults_of(name)[switch]
                and (switch, value) not in (*row.impossible, *row.equal)
            ]
            if not row.every:  # of norms the one that others need, which is computed once
                values = ["group"] if switch == "norm" else values[-1:]
            for value in values:
                needs = NEEDS.get(switch, {})
                yield pytest.param(name, {switch: value}, needs, id=f"{name}-{switch}-{value}")


@pytest.mark.parametrize(("name", "switch", "needs"), list(sweep(every=True)))
def test_every_switch_changes_output_and_gradients(name, switch, needs):
    logits, slope = evaluated(name, **switch, **needs)
    logits_0, slope_0 = evaluated(name, **needs)
    assert logits.shape == (4, 10)
    assert logits.dtype == np.float32
    assert np.isfinite(logits).all() and np.isfinite(slope)
    assert np.max(np.abs(logits - logits_0)) > 1e-4 * np.max(np.abs(logits_0))
    assert abs(slope - slope_0) > 1e-5 * abs(slope_0)


@pytest.mark.usefixtures("shortest")
@pytest.mark.parametrize(("name", "switch", "needs"), list(sweep(every=False)))
def test_every_switch_changes_what_a_deep_network_computes(name, switch, needs):
    assert traced(name, **switch, **needs) != traced(name, **needs)


@pytest.mark.usefixtures("shortest")
@pytest.mark.parametrize("name", [name for name, row in SMALL.items() if not row.every])
def test_the_same_switches_are_the_same_computation(name):
    assert traced.__wrapped__(name) == traced(name)


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("name", [name for name in SMALL if name not in TORCHS])
def test_every_parameter_has_a_gradient(name):
    """Those of the others are torch's, see test_torch_training.py."""
    model = small(name, dropout=0.0)
    variables = fixed_variables(model, images(name), scalar=0.5)
    loss = training_loss(model, variables, images(name), LABELS)
    gradient, _ = jax.jit(jax.grad(loss, has_aux=True))(variables["params"])
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        assert np.any(leaf != 0), jax.tree_util.keystr(path)


@pytest.mark.usefixtures("shortest")
@pytest.mark.parametrize("name", SMALL)
def test_evaluation_is_deterministic_and_dropout_in_training_only(name):
    model = small(name, dropout=0.5)
    variables = fixed_variables(model, images(name))
    logits, _ = model.apply(variables, images(name))
    np.testing.assert_array_equal(logits, model.apply(variables, images(name))[0])
    dropped = [
        model.apply(
            variables,
            images(name),
            train=True,
            rngs={"dropout": jax.random.key(i)},
            mutable=["batch_stats"],
        )[0][0]
        for i in (0, 1)
    ]
    assert np.max(np.abs(dropped[0] - dropped[1])) > 1e-3


@pytest.mark.usefixtures("shortest")
@pytest.mark.parametrize("name", SMALL)
def test_kernel_init_draws_every_kernel(name):
    model = small(name, kernel_init="zeros")
    params = jax.jit(lambda key: model.init(key, images(name))["params"])(jax.random.key(0))
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        assert path[-1].key != "kernel" or not np.any(leaf), jax.tree_util.keystr(path)


IMPOSSIBLE = [(n, *case) for n, row in SMALL.items() for case in row.impossible.items()]


@pytest.mark.parametrize(("name", "switch", "message"), IMPOSSIBLE)
def test_an_impossible_switch_says_why(name, switch, message):
    with pytest.raises(UserError, match=message):
        small(name, **dict([switch]))


@pytest.mark.usefixtures("shortest")
@pytest.mark.parametrize("name", SMALL)
def test_every_size_changes_the_parameters(name):
    """And no switch of a model is forgotten here."""
    shape = (1, SMALL[name].side, SMALL[name].side, 1)
    found = set(switches_of(name))
    for switch in found & SIZES.keys():
        assert count(small(name), shape) != count(small(name, **{switch: SIZES[switch]}), shape)
    elsewhere = {"kernel_init", "norm_momentum", "dropout", "spatial_dropout", "aux_dropout"}
    assert found <= VALUES.keys() | SIZES.keys() | elsewhere


@pytest.mark.parametrize("name", ["lenet", "locally_connected", "alexnet", "alexnet_2012", "vgg11"])
def test_unpadded_maps_are_smaller(name):
    models = create_model(name), create_model(name, padding="valid")
    padded, unpadded = (shapes(m, (1, *m.input_shape))[2] for m in models)
    last = [key for key, x in padded.items() if x.ndim == 4 and key.endswith("act")][-1]
    assert unpadded[last].shape[1] < padded[last].shape[1]


@pytest.mark.parametrize("name", [n for n, row in SMALL.items() if row.impossible is RESIDUAL])
def test_plain_twins_can_be_unpadded(name):
    create_model(name, skip="none", padding="valid")


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
    """Evaluated without a key and with nothing mutable: it can neither draw nor change anything."""
    side = SIDES.get(name, 16)
    model, shape = create_model(name, num_classes=3), (2, side, side + 8, 5)
    variables, logits, _ = shapes(model, shape)
    evaluated, endpoints = jax.eval_shape(model.apply, variables, jnp.zeros(shape))
    assert logits.shape == evaluated.shape == (2, 3)
    assert any(key.split("/")[-1].startswith("act") for key in endpoints)
