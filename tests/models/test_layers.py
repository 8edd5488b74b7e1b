"""The parts of networks, each against a brute force in NumPy float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from flax import linen as nn

from research.config import UserError
from research.models import layers, norms, pooling
from research.models.network import Network

RNG = np.random.default_rng(0)
SHAPE = (3, 4, 5, 8)  # N, H, W, C
# Channels of different scale, on a mean far from zero: a variance taken as E[x²] − E[x]² would be
# visibly wrong here.
IMAGES = (RNG.normal(size=SHAPE) * np.arange(1, 9) + 300).astype(np.float32)
SCALE, BIAS = RNG.normal(size=8).astype(np.float32), RNG.normal(size=8).astype(np.float32)


class Norm(nn.Module):
    norm: str
    groups: int = 8
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x, train=False):
        options = {"groups": self.groups, "dtype": self.dtype, "param_dtype": self.param_dtype}
        return norms.normalize(x, self.norm, train=train, name="norm", **options)


def variables(norm, scale=SCALE, bias=BIAS, **state):
    affine = {"params": {"norm": {"scale": scale, "bias": bias}}}
    return (affine if norms.has_affine(norm) else {}) | state


def moments_of_sets(x, sets):
    """Normalise, one by one, each set of entries of `x`; `sets` are indices."""
    y = np.empty(x.shape)
    for index in sets:
        mean = x[index].mean()
        y[index] = (x[index] - mean) / np.sqrt(((x[index] - mean) ** 2).mean() + 1e-5)
    return y


def brute_force(norm, x, groups=2):
    x, n, channels = np.asarray(x, np.float64), x.shape[0], x.shape[-1]
    size = channels // groups
    if norm == "none":
        return x
    if norm == "local_response":
        y = np.empty(x.shape)
        for i in range(channels):
            near = [j for j in range(channels) if abs(i - j) <= 2]
            y[..., i] = x[..., i] / (2 + 1e-4 * sum(x[..., j] ** 2 for j in near)) ** 0.75
        return y
    sets = {
        "batch": [np.s_[..., c] for c in range(channels)],
        "layer": [np.s_[i] for i in range(n)],
        "group": [
            np.s_[i, ..., g * size : (g + 1) * size] for i in range(n) for g in range(groups)
        ],
        "instance": [np.s_[i, ..., c] for i in range(n) for c in range(channels)],
    }[norm]
    return moments_of_sets(x, sets) * SCALE + BIAS


@pytest.mark.parametrize("norm", norms.NORMS)
def test_norm_is_its_definition(norm):
    y, _ = Norm(norm, groups=2).apply(
        variables(norm), IMAGES, train=True, mutable=["batch_stats"]
    )  # fmt: skip
    np.testing.assert_allclose(y, brute_force(norm, IMAGES), rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize("norm", ["layer", "group", "batch", "local_response"])
def test_norm_of_feature_vectors(norm):
    x = IMAGES[:, 0, 0]
    y, _ = Norm(norm, groups=2).apply(variables(norm), x, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(y, brute_force(norm, x), rtol=1e-4, atol=2e-4)


def test_batch_norm_averages_when_training_and_uses_the_averages_afterwards():
    module, mean, var = Norm("batch"), np.zeros(8), np.ones(8)
    state = module.init(jax.random.key(0), IMAGES)
    np.testing.assert_array_equal(state["batch_stats"]["norm"]["mean"], mean)
    for batch in (IMAGES, 2 * IMAGES):
        _, updates = module.apply(state, batch, train=True, mutable=["batch_stats"])
        state = state | updates
        mean = 0.9 * mean + 0.1 * batch.mean((0, 1, 2), dtype=np.float64)
        var = 0.9 * var + 0.1 * batch.var((0, 1, 2), dtype=np.float64)
    np.testing.assert_allclose(state["batch_stats"]["norm"]["mean"], mean, rtol=1e-5)
    np.testing.assert_allclose(state["batch_stats"]["norm"]["var"], var, rtol=1e-5)

    y, unchanged = module.apply(state, IMAGES, train=False, mutable=["batch_stats"])
    np.testing.assert_allclose(y, (IMAGES - mean) / np.sqrt(var + 1e-5), rtol=1e-4, atol=1e-4)
    jax.tree.map(np.testing.assert_array_equal, unchanged["batch_stats"], state["batch_stats"])


@pytest.mark.parametrize("norm", norms.NORMS)
def test_norm_keeps_statistics_in_float32_below_bfloat16(norm):
    """Of bfloat16 inputs, the result is the exact one rounded once at the end."""
    x = (IMAGES - 300).astype(jnp.bfloat16)
    module = Norm(norm, groups=2, dtype=jnp.bfloat16)
    y, state = module.apply(variables(norm), x, train=True, mutable=["batch_stats"])
    assert y.dtype == jnp.bfloat16
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(state))
    expected = brute_force(norm, x)
    np.testing.assert_allclose(np.asarray(y, np.float64), expected, rtol=2**-8, atol=1e-5)


@pytest.mark.parametrize("param_dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("norm", norms.NORMS)
def test_norm_in_float64(norm, param_dtype):
    with jax.enable_x64(True):
        module = Norm(norm, groups=2, dtype=jnp.float64, param_dtype=param_dtype)
        state = module.init(jax.random.key(0), IMAGES)
        given = variables(norm, SCALE.astype(param_dtype), BIAS.astype(param_dtype))
        y, updates = module.apply(
            state | given, IMAGES.astype(np.float64), train=True, mutable=["batch_stats"]
        )
        assert y.dtype == jnp.float64
        # The running averages keep their dtype from step to step, or a jitted step recompiles.
        for leaf, before in zip(
            jax.tree.leaves(updates), jax.tree.leaves(state.get("batch_stats")), strict=True
        ):
            assert leaf.dtype == before.dtype == jnp.float64
    np.testing.assert_allclose(y, brute_force(norm, IMAGES), rtol=1e-12, atol=1e-11)


def test_bias_exactly_where_the_norm_has_none():
    biased = [norm for norm in norms.NORMS if not norms.has_affine(norm)]
    assert biased == ["none", "local_response"]
    for norm in norms.NORMS:
        affine = Norm(norm).init(jax.random.key(0), IMAGES).get("params", {})
        assert bool(affine) == norms.has_affine(norm)


def test_norms_that_cannot_be():
    with pytest.raises(UserError, match=r"model.norm_groups: found 3, .*8 channels.*nearest: 2"):
        Norm("group", groups=3).init(jax.random.key(0), IMAGES)
    with pytest.raises(UserError, match=r"model.norm: 'instance'"):
        Norm("instance").init(jax.random.key(0), IMAGES[:, :1, :1])


ACTIVATIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "relu6": lambda x: np.clip(x, 0, 6),
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "gelu": lambda x: x * scipy.special.ndtr(x),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "linear": lambda x: x,
}


@pytest.mark.parametrize("name", layers.ACTIVATIONS)
def test_activation_is_its_definition(name):
    x = np.linspace(-8, 8, 81)
    y = layers.ACTIVATIONS[name](jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(y, ACTIVATIONS[name](x), rtol=1e-5, atol=1e-6)


REDUCE = {"max": np.max, "average": np.mean, "sum": np.sum}


@pytest.mark.parametrize(("size", "strides", "padding"), [(2, None, 0), (3, 2, 1), (3, 1, 0)])
@pytest.mark.parametrize("kind", pooling.POOLS)
def test_pool_is_its_definition(kind, size, strides, padding):
    """Every window by a loop, over the pixels that exist."""
    x, s = IMAGES - 300, strides or size
    height, width = ((n + 2 * padding - size) // s + 1 for n in x.shape[1:3])
    expected = np.empty((3, height, width, 8))
    for i in range(height):
        for j in range(width):
            rows = slice(max(i * s - padding, 0), i * s - padding + size)
            columns = slice(max(j * s - padding, 0), j * s - padding + size)
            expected[:, i, j] = REDUCE[kind](x[:, rows, columns], axis=(1, 2))
    y = pooling.pool(x, kind, size, strides, padding)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
    assert pooling.pool(x.astype(jnp.bfloat16), kind, size, strides, "SAME").dtype == jnp.bfloat16


@pytest.mark.parametrize("kind", pooling.POOLS)
def test_global_pool_is_its_definition(kind):
    y = pooling.global_pool(IMAGES - 300, kind)
    np.testing.assert_allclose(y, REDUCE[kind](IMAGES - 300.0, (1, 2)), rtol=1e-4, atol=1e-4)


KEY = jax.random.key(0, impl="rbg")  # XLA's own generator: threefry takes seconds to compile
KERNEL = (3, 3, 32, 64)  # 288 inputs and 576 outputs of one position each


@pytest.mark.parametrize(
    ("name", "variance"),
    [
        ("he", 2 / 288),
        ("lecun", 1 / 288),
        ("glorot", 2 / (288 + 576)),
        ("xavier", 2 / (288 + 576)),
        ("normal", 1e-4),
        ("zeros", 0),
    ],
)
def test_kernel_init_has_the_variance_of_its_paper(name, variance):
    kernel = layers.KERNEL_INITS[name](KEY, KERNEL, jnp.float32)
    np.testing.assert_allclose(np.var(kernel), variance, rtol=0.03)  # 18,432 draws: ±1 %
    np.testing.assert_allclose(np.mean(kernel), 0, atol=0.002)


def test_orthogonal_kernel_init_is_orthogonal():
    kernel = layers.KERNEL_INITS["orthogonal"](KEY, KERNEL, jnp.float32)
    columns = np.reshape(kernel, (288, 64))
    np.testing.assert_allclose(columns.T @ columns, np.eye(64), atol=1e-5)


def test_every_kernel_init_is_tested():
    tested = {"he", "lecun", "glorot", "xavier", "normal", "zeros", "orthogonal"}
    assert set(layers.KERNEL_INITS) == tested


class Joined(Network):
    """A skip around a branch that is given."""

    skip: str = "identity"
    strides: int = 2
    norm: str = "batch"

    @nn.compact
    def __call__(self, x, branch):
        layer = layers.Layers.of(self, train=False)
        return layers.Skip(self.skip, self.strides, layer, name="skip")(x, branch)


BRANCH = RNG.normal(size=(3, 2, 3, 12)).astype(np.float32)  # half of IMAGES' sides, 12 channels
NOTHING = np.zeros((3, 2, 3, 2))
SHORTCUT = np.concatenate([NOTHING, IMAGES[:, ::2, ::2], NOTHING], axis=-1)


@pytest.mark.parametrize(
    ("skip", "expected"),
    [("none", BRANCH), ("identity", SHORTCUT + BRANCH), ("zero_init", SHORTCUT)],
)
def test_skip_without_projection(skip, expected):
    y, state = Joined(skip=skip).init_with_output(jax.random.key(0), IMAGES, BRANCH)
    np.testing.assert_allclose(y, expected, rtol=1e-6)
    assert jax.tree.map(jnp.shape, state) == (
        {"params": {"skip": {"scale": ()}}} if skip == "zero_init" else {}
    )


def test_zero_init_multiplies_the_branch():
    state = {"params": {"skip": {"scale": jnp.float32(0.5)}}}
    y = Joined(skip="zero_init").apply(state, IMAGES, BRANCH)
    np.testing.assert_allclose(y, SHORTCUT + 0.5 * BRANCH, rtol=1e-6)


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_projection_is_a_matrix_and_a_norm_where_the_shape_changes(norm):
    x = IMAGES - 300
    y, state = Joined(skip="projection", norm=norm).init_with_output(jax.random.key(0), x, BRANCH)
    kernel = np.asarray(state["params"]["skip"]["conv"]["kernel"])[0, 0]
    deviation = np.sqrt(1 + 1e-5) if norm == "batch" else 1  # batch norm's averages start at 0, 1
    expected = np.einsum("nhwc,cd->nhwd", x[:, ::2, ::2], kernel) / deviation + BRANCH
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)
    assert ("bias" in state["params"]["skip"]["conv"]) == (norm == "none")

    y, state = Joined(skip="projection", strides=1).init_with_output(jax.random.key(0), x, 2 * x)
    np.testing.assert_allclose(y, 3 * x, rtol=1e-6)
    assert not jax.tree.leaves(state)


class Convolved(Network):
    """One convolution."""

    padding: str = "same"
    options: tuple = ()

    @nn.compact
    def __call__(self, x):
        return layers.Layers.of(self, train=False).conv(x, 4, name="conv", **dict(self.options))


# Padding → NumPy's name for it, and how much of 1 pixel (for a 3×3 kernel) is before and after.
PADS = {
    "same": ("constant", (1, 1)),
    "valid": ("constant", (0, 0)),
    "reflect": ("reflect", (1, 1)),
    "circular": ("wrap", (1, 1)),
}


@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("padding", PADS)
def test_convolution_pads_as_numpy_does(padding, strides):
    """Every window by a loop over an image that NumPy padded."""
    x, (mode, (before, after)) = IMAGES[:, :, :, :2] - 300, PADS[padding]
    model = Convolved(padding=padding, options=(("size", 3), ("strides", strides)))
    y, state = model.init_with_output(jax.random.key(0), x)
    kernel = np.asarray(state["params"]["conv"]["kernel"])
    padded = np.pad(x, [(0, 0), (before, after), (before, after), (0, 0)], mode=mode)
    height, width = ((n - 3) // strides + 1 for n in padded.shape[1:3])
    expected = np.empty((3, height, width, 4))
    for i in range(height):
        for j in range(width):
            a, b = i * strides, j * strides
            expected[:, i, j] = np.einsum("nhwc,hwcd->nd", padded[:, a : a + 3, b : b + 3], kernel)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("size", "strides"), [(3, 2), (3, 1), (5, 2), (2, 2)])
def test_same_upper_is_what_xla_calls_same(size, strides):
    options = (("size", size), ("strides", strides))
    y, state = Convolved(padding="same_upper", options=options).init_with_output(
        jax.random.key(0), IMAGES
    )
    conv = nn.Conv(4, (size, size), strides, padding="SAME")
    np.testing.assert_array_equal(y, conv.apply({"params": state["params"]["conv"]}, IMAGES))


@pytest.mark.parametrize(
    ("options", "shape", "parameters"),
    [
        ({"size": (1, 7)}, (3, 4, 5, 4), 7 * 8 * 4 + 4),
        ({"size": 3, "groups": 4}, (3, 4, 5, 4), 9 * 2 * 4 + 4),
        ({"size": 3, "dilation": 2}, (3, 4, 5, 4), 9 * 8 * 4 + 4),
        ({"size": 3, "dilation": 2, "padding": 0}, (3, 0, 1, 4), None),
        ({"size": 3, "padding": 0, "shared": False}, (3, 2, 3, 4), 6 * (9 * 8 * 4 + 4)),
        ({"size": 5, "padding": (2, 0)}, (3, 4, 1, 4), 25 * 8 * 4 + 4),
    ],
)
def test_convolution_arithmetic(options, shape, parameters):
    model = Convolved(options=tuple(options.items()))
    if parameters is None:
        with pytest.raises(UserError, match=r"'conv' .*⌊\(4 − 5 \+ 0\) / 1⌋ \+ 1 = 0 pixels"):
            jax.eval_shape(model.init_with_output, jax.random.key(0), IMAGES)
    else:
        y, state = jax.eval_shape(model.init_with_output, jax.random.key(0), IMAGES)
        assert y.shape == shape
        assert sum(leaf.size for leaf in jax.tree.leaves(state)) == parameters


@pytest.mark.parametrize(
    ("norm", "use_bias", "biased"),
    [("none", None, True), ("batch", None, False), ("batch", True, True), ("none", False, False)],
)
def test_use_bias(norm, use_bias, biased):
    model = Convolved(norm=norm, use_bias=use_bias, options=(("size", 3),))
    params = jax.eval_shape(model.init, jax.random.key(0), IMAGES)["params"]
    assert ("bias" in params["conv"]) == biased


def test_averages_include_the_padding_where_asked():
    x = IMAGES[..., :1] - 300
    padded = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
    y = pooling.pool(x, "average", 3, 1, 1, count_padding=True)
    expected = sum(padded[:, i : i + 4, j : j + 5] for i in range(3) for j in range(3)) / 9
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("side", [1, 3, 4, 7])
def test_average_to_any_size(side):
    """Each output pixel by the definition; where the image is as large, it is the image."""
    x = IMAGES - 300
    expected = np.empty((3, side, side, 8))
    for i in range(side):
        for j in range(side):
            rows = slice(i * 4 // side, -(-(i + 1) * 4 // side))
            columns = slice(j * 5 // side, -(-(j + 1) * 5 // side))
            expected[:, i, j] = x[:, rows, columns].mean((1, 2))
    np.testing.assert_allclose(pooling.average_to(x, side), expected, rtol=1e-4, atol=1e-4)
    square = x[:, :, :4]
    np.testing.assert_array_equal(pooling.average_to(square, 4), square)


class Dropped(Network):
    spatial: bool = False

    @nn.compact
    def __call__(self, x, train):
        layer = layers.Layers.of(self, train)
        return layer.dropout(x, self.dropout, spatial=self.spatial, name="dropout")


@pytest.mark.parametrize("spatial", [False, True])
def test_dropout_zeroes_units_or_whole_maps_and_keeps_the_mean(spatial):
    x, model = np.ones((64, 4, 4, 32), np.float32), Dropped(dropout=0.25, spatial=spatial)
    y = np.asarray(model.apply({}, x, train=True, rngs={"dropout": jax.random.key(0)}))
    assert set(np.unique(y)) == {0, np.float32(1 / 0.75)}
    np.testing.assert_allclose(y.mean(), 1, atol=0.05)
    assert np.all(y == y[:, :1, :1]) == spatial
    np.testing.assert_array_equal(model.apply({}, x, train=False), x)
