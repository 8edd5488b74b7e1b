"""Receptive fields against the gradient, which sees exactly what a network can.

With positive kernels nothing cancels: a pixel that a unit can see has a gradient, any other has
none. Maxima pass the gradient of one pixel only, so they are tried on many images.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from sklearn.datasets import load_digits

from research.config import UserError
from research.inspection.receptive_field import (
    Field,
    effective_receptive_field,
    effective_size,
    share_inside,
)
from research.inspection.structure import structure
from research.models import create_model
from research.models.pooling import pool

positive = nn.initializers.uniform(1.0)


def conv(x, size, strides=1, padding="SAME", features=2, layer=nn.Conv, **options):
    size = (size, size) if isinstance(size, int) else size
    options = {"kernel_init": positive, "bias_init": positive} | options
    return layer(features, size, strides, padding=padding, **options)(x)


def separable(x):
    x = conv(x, 3, 2, 1, features=4, feature_group_count=2)
    return conv(x, 1)


def inception(x):
    branches = [
        conv(x, 1),
        conv(conv(x, 1), 5),
        conv(x, (1, 7)),
        conv(pool(x, "max", 3, 1, "SAME"), 1),
    ]
    return jnp.concatenate(branches, axis=-1)


def residual(x):
    y = conv(conv(x, 3, 2, 1), 3, 1, 1, features=4)
    return y + jnp.pad(x[:, ::2, ::2], ((0, 0), (0, 0), (0, 0), (0, 2)))


def space_to_depth(x):
    n, h, w, c = x.shape
    x = x.reshape(n, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 2, 4, 5)
    return conv(x.reshape(n, h // 2, w // 2, 4 * c), 3)


def squeeze_excite(x):
    return x * conv(x, 3).mean((1, 2), keepdims=True)


def reflected(x):
    return conv(
        jnp.pad(x, ((0, 0), (2, 2), (1, 1), (0, 0)), mode="reflect"), (5, 3), padding="VALID"
    )


# Name → what is applied, one after the other, to two channels of 20×20.
NETWORKS = {
    "valid": [lambda x: conv(x, 3, padding="VALID"), lambda x: conv(x, 5, padding="VALID")],
    "same": [lambda x: conv(x, 3), lambda x: conv(x, 2)],
    "strides": [lambda x: conv(x, 3, 2, 1), lambda x: conv(x, 2, 2), lambda x: conv(x, 3)],
    "strides that skip": [lambda x: conv(x, 1, 2), lambda x: conv(x, 3), lambda x: conv(x, 1, 3)],
    "dilation": [lambda x: conv(x, 3, kernel_dilation=2), lambda x: conv(x, 2, kernel_dilation=3)],
    "axes": [lambda x: conv(x, (1, 7)), lambda x: conv(x, (3, 1), (1, 2)), lambda x: conv(x, 3)],
    "uneven padding": [lambda x: conv(x, 3, 2, ((0, 2), (2, 0))), lambda x: conv(x, 3, 2)],
    "max pool": [lambda x: pool(x, "max", 3, 2, 1), lambda x: conv(x, 3)],
    "average pool": [lambda x: conv(x, 3), lambda x: pool(x, "average", 3, 2, "SAME")],
    "separable": [separable, nn.relu, separable],
    "inception": [inception, lambda x: conv(x, 3, 2)],
    "residual": [lambda x: conv(x, 3), residual],
    "local": [lambda x: conv(x, 3, 2, 1, layer=nn.ConvLocal), lambda x: conv(x, 3)],
    "crop": [lambda x: x[:, 2:-3, 4:-1], lambda x: conv(x, 3)],
    "space to depth": [space_to_depth],
    "activations": [nn.relu, lambda x: conv(x, 3), nn.gelu, nn.silu, nn.elu, lambda x: conv(x, 3)],
    "transposed": [lambda x: conv(x, 3, 2, layer=nn.ConvTranspose), lambda x: conv(x, 3)],
    "squeeze and excite": [squeeze_excite],
    "group norm": [lambda x: conv(x, 3), lambda x: nn.GroupNorm(num_groups=1)(x)],
    "global pool": [lambda x: conv(x, 3, 4, padding="VALID"), lambda x: x.mean((1, 2))],
    "dense": [lambda x: nn.Dense(3, kernel_init=positive)(x.reshape(len(x), -1))],
    "reflect": [reflected, lambda x: conv(x, 3, padding="VALID")],
}


class Network(nn.Module):
    """The network of that name; an endpoint after each part."""

    name_of: str

    @nn.compact
    def __call__(self, x, *, train=False):
        endpoints = {}
        for i, part in enumerate(NETWORKS[self.name_of]):
            x = endpoints[str(i)] = part(x)
        return x, endpoints


def seen(model, variables, images, endpoint):
    """Each pixel's gradient to units along the diagonal of an endpoint: [units, H, W]."""
    shape = jax.eval_shape(lambda x: model.apply(variables, x)[1][endpoint], images).shape
    n = max(shape[1:-1], default=1)
    units = [np.arange(n) % size for size in shape[1:-1]]

    def total(batch):
        x = model.apply(variables, batch)[1][endpoint]
        x = x.reshape(n, len(images), *x.shape[1:])
        return x[np.arange(n), :, *units].sum()

    gradient = jax.jit(jax.grad(total))(jnp.tile(images, (n, 1, 1, 1)))
    gradient = abs(gradient).reshape(n, *images.shape).sum((1, -1))
    return np.stack(units or [[0], [0]], 1), np.asarray(gradient)


def assert_sees(fields, unit, gradient, *, exactly, slack=0):
    """The pixels with a gradient lie in the fields; `exactly`: they reach to the edges of both."""
    for axis, (field, i) in enumerate(zip(fields, unit, strict=True)):
        first, last = field.pixels(int(i))
        first, last = max(0, first), min(gradient.shape[axis] - 1, last)
        rows = np.flatnonzero(gradient.max(axis=1 - axis))
        assert first <= rows[0] and rows[-1] <= last, (axis, unit, field)
        if exactly:
            assert rows[0] - first <= slack and last - rows[-1] <= slack, (axis, unit, field)


@pytest.mark.parametrize("name", NETWORKS)
def test_fields_are_what_the_gradient_sees(name):
    model = Network(name)
    count = 64 if "max" in name else 2
    images = jax.random.uniform(jax.random.key(1), (count, 20, 20, 2))
    variables = jax.jit(model.init)(jax.random.key(0), images[:1])
    last = str(len(NETWORKS[name]) - 1)
    fields = structure(model, images.shape[1:]).endpoints[last]
    units, gradients = seen(model, variables, images, last)
    for i, (unit, gradient) in enumerate(zip(units, gradients, strict=True)):
        # At the border of a map, padding takes the place of what a unit could see. A transposed
        # convolution's field ends between pixels.
        exactly, slack = i == len(units) // 2, 0.5 if name == "transposed" else 0
        assert_sees(fields, unit, gradient, exactly=exactly, slack=slack)


# Of models with published figures: the field, and the stride, of an endpoint (Araujo et al. 2019,
# table 1, for ResNet v1; torchvision's ResNets stride in the 3×3 convolution, so see less).
PUBLISHED_FIELDS = {
    ("resnet18", "stage4/block2/act2"): (435, 32),
    ("resnet50", "stage4/block3/act3"): (427, 32),
}


@pytest.mark.parametrize(("name", "endpoint"), PUBLISHED_FIELDS)
def test_published_fields(name, endpoint):
    model = create_model(name)
    for field in structure(model, model.input_shape).endpoints[endpoint]:
        assert (field.size, field.stride) == PUBLISHED_FIELDS[name, endpoint]


@pytest.fixture(scope="module")
def resnet8():
    """A ResNet-8 all of whose weights are positive, and digits to see."""
    model = create_model("resnet", depth=8, width=2)
    images = load_digits().images[:8].repeat(6, 1).repeat(6, 2)[..., None] / 16 + 0.1
    images = jnp.asarray(images, jnp.float32)
    variables = jax.tree.map(abs, jax.jit(model.init)(jax.random.key(0), images))
    return model, variables, images


def test_of_no_gradient_there_is_no_share():
    assert np.isnan(
        share_inside(np.zeros((4, 4)), [Field(3, 1, 0, axis=a) for a in (1, 2)], (1, 1))
    )
    assert effective_size(np.zeros((4, 4))) == 0


@pytest.mark.parametrize("endpoint", ["stem/act", "stage1/block1/act2", "stage3/block1/act2"])
def test_effective_fields_lie_in_the_theoretical(resnet8, endpoint):
    model, variables, images = resnet8
    gradient = effective_receptive_field(model, variables, images, endpoint)
    assert gradient.shape == (48, 48)
    endpoints = structure(model, images.shape[1:]).endpoints
    fields = endpoints[endpoint]
    shape = model.apply(variables, images)[1][endpoint].shape[1:-1]
    unit = [n // 2 for n in shape]
    assert_sees(fields, unit, gradient, exactly=True)
    assert share_inside(gradient, fields, unit) == 1
    assert share_inside(gradient, [dataclasses.replace(f, size=1) for f in fields], unit) < 1
    # A Gaussian within the square (Luo et al. 2016): smaller, but for one layer's.
    assert effective_size(gradient) <= fields[0].size
    if endpoint == "stage3/block1/act2":
        assert effective_size(gradient) < 0.9 * fields[0].size


def test_effective_field_is_a_finite_difference(resnet8):
    model, _, images = resnet8
    with jax.enable_x64(True):
        model = model.clone(dtype=jnp.float64, param_dtype=jnp.float64, activation="tanh")
        images = jnp.asarray(images[:1], jnp.float64)
        variables = jax.jit(model.init)(jax.random.key(0), images)
        gradient = effective_receptive_field(model, variables, images, "stage2/block1/act2")

        @jax.jit
        def centre(images):
            return model.apply(variables, images)[1]["stage2/block1/act2"][0, 12, 12].sum()

        step = 1e-6
        for pixel in [(24, 24), (20, 27), (30, 22)]:
            up, down = (centre(images.at[0, *pixel, 0].add(s)) for s in (step, -step))
            slope = float(abs(up - down) / (2 * step))
            assert gradient[pixel] == pytest.approx(slope, rel=1e-5)


def test_effective_field_of_the_whole_output(resnet8):
    gradient = effective_receptive_field(*resnet8, "logits")
    assert (gradient > 0).all()


def test_unknown_endpoint(resnet8):
    with pytest.raises(UserError, match=r"'stem/akt'.*did you mean 'stem/act'"):
        effective_receptive_field(*resnet8, "stem/akt")


def test_effective_size_of_a_square():
    assert effective_size(np.pad(np.ones((5, 5)), 3)) == 5


def test_a_field_names_its_pixels():
    field = Field(size=7, stride=2, start=-3, axis=1)
    assert field.pixels(0) == (-3, 3) and field.pixels(10) == (17, 23)


# Over the zoo: an endpoint that sees a part of the image, strides and branches behind it.
ZOO = {
    "lenet": ("conv1/act", (28, 28, 1)),
    "resnet": ("stage2/block1/act2", (32, 32, 3)),
    "mobilenet_v2": ("block4", (48, 48, 3)),
    "xception": ("block1/act2", (71, 71, 3)),
}


@pytest.mark.parametrize("name", ZOO)
def test_effective_fields_lie_in_the_theoretical_over_the_zoo(name):
    """With positive kernels that keep the size of what they read, no unit is off or saturated."""
    endpoint, shape = ZOO[name]
    switches = {"depth": 8, "width": 4} if name == "resnet" else {}
    if name == "mobilenet_v2":
        switches = {"width_multiplier": 0.25}
    model = create_model(name, num_classes=10, **switches)
    images = jax.random.uniform(jax.random.key(1), (1, *shape))
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    rng = np.random.default_rng(0)

    def draw(path, s):
        if len(s.shape) < 2:
            return jnp.full(s.shape, path[-1].key in ("scale", "var"), s.dtype)
        inputs = np.prod(s.shape[:-1])
        return jnp.asarray(rng.uniform(0.5, 1, s.shape) / inputs, s.dtype)

    variables = jax.tree_util.tree_map_with_path(draw, shapes)
    gradient = effective_receptive_field(model, variables, images, endpoint)
    fields = structure(model, shape).endpoints[endpoint]
    found = jax.eval_shape(lambda v: model.apply(v, images)[1][endpoint], variables).shape
    unit = [n // 2 for n in found[1:-1]]
    assert share_inside(gradient, fields, unit) == 1
    assert (gradient > 0).sum() < gradient.size  # or there would be nothing to lie in
    smaller = [dataclasses.replace(f, size=f.size - 2, start=f.start + 1) for f in fields]
    assert share_inside(gradient, smaller, unit) < 1
