"""Whole networks: sizes, endpoints, switches, precision and errors, on handwritten digits."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fixed_variables import fixed_variables, training_loss
from sklearn.datasets import load_digits

from research.config import UserError
from research.models import create_model
from research.models.norms import NORMS

DIGITS = load_digits()
IMAGES = (DIGITS.images[:16, :, :, None] / 16).astype(np.float32)
LABELS = DIGITS.target[:16]
TINY = {"resnet": {"depth": 8, "width": 8}, "mlp": {"hidden": (16,)}}


def parameter_count(model, shape):
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros(shape))
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


def initialised(model):
    """Variables by the model's own `init`, drawn by XLA's generator, which compiles fast."""
    return jax.jit(model.init)(jax.random.key(0, impl="rbg"), IMAGES)


drawn = partial(fixed_variables, images=IMAGES)


@pytest.mark.parametrize(
    ("skip", "counts"),
    [
        ("identity", (269_722, 464_154, 658_586, 853_018, 1_727_962)),
        ("projection", (272_474, 466_906, 661_338, 855_770, 1_730_714)),
    ],
)
def test_resnet_parameter_counts(skip, counts):
    for depth, count in zip((20, 32, 44, 56, 110), counts, strict=True):
        assert parameter_count(create_model(f"resnet{depth}", skip=skip), (1, 32, 32, 3)) == count
    assert parameter_count(create_model("resnet", depth=20, skip=skip), (1, 32, 32, 3)) == counts[0]


def test_resnet_parameter_counts_of_the_other_skips():
    """A plain net has as many as option A; SkipInit one more for each of the 3n = 9 branches."""
    assert parameter_count(create_model("resnet20", skip="none"), (1, 32, 32, 3)) == 269_722
    assert parameter_count(create_model("resnet20", skip="zero_init"), (1, 32, 32, 3)) == 269_731


def test_resnet_biases_stand_in_for_a_missing_norm():
    """Without a norm each of its scales goes, and each of its biases moves to the convolution."""
    channels = 16 + 6 * (16 + 32 + 64)  # of the norms of ResNet-20
    model = create_model("resnet20", norm="none")
    assert parameter_count(model, (1, 32, 32, 3)) == 269_722 - channels


def test_mlp_parameter_counts():
    assert parameter_count(create_model("mlp", hidden=(32, 16)), (1, 8, 8, 1)) == (
        (64 * 32 + 32) + (32 * 16 + 16) + (16 * 10 + 10)
    )
    assert parameter_count(create_model("mlp", hidden=()), (1, 64)) == 64 * 10 + 10


def test_mlp_is_its_formula():
    model = create_model("mlp", hidden=(16,), activation="tanh")
    variables = drawn(model)
    logits, _ = model.apply(variables, IMAGES)
    dense, head = variables["params"]["dense1"], variables["params"]["head"]
    hidden = np.tanh(IMAGES.reshape(16, 64) @ dense["kernel"] + dense["bias"])
    np.testing.assert_allclose(logits, hidden @ head["kernel"] + head["bias"], atol=1e-5)


@pytest.mark.parametrize("depth", [8, 20])
def test_resnet_endpoints(depth):
    """Every activation function's output, in the order of the network, and of the right shape."""
    model = create_model("resnet", depth=depth, num_classes=7)
    found = {}

    def apply(key, x):
        (logits, endpoints), _ = model.init_with_output(key, x)
        found.update(endpoints)
        return logits, endpoints

    _, shapes = jax.eval_shape(apply, jax.random.key(0), jnp.zeros((2, 32, 24, 3)))
    blocks = range(1, (depth - 2) // 6 + 1)
    inner = [f"stage{s}/block{b}/act{a}" for s in (1, 2, 3) for b in blocks for a in (1, 2)]
    assert list(found) == ["stem/act", *inner, "pool", "logits"]
    assert shapes["stage1/block1/act2"].shape == (2, 32, 24, 16)
    assert shapes["stage2/block1/act1"].shape == (2, 16, 12, 32)
    assert shapes["stage3/block1/act2"].shape == (2, 8, 6, 64)
    assert shapes["pool"].shape == (2, 64)
    assert shapes["logits"].shape == (2, 7)


def test_endpoints_are_the_activations_that_the_output_is_made_of():
    model = create_model("resnet", **TINY["resnet"])
    variables = drawn(model)
    logits, endpoints = model.apply(variables, IMAGES)
    head = variables["params"]["head"]
    pooled = np.mean(endpoints["stage3/block1/act2"], axis=(1, 2))
    np.testing.assert_allclose(pooled, endpoints["pool"], atol=1e-5)
    np.testing.assert_allclose(pooled @ head["kernel"] + head["bias"], logits, atol=1e-4)
    np.testing.assert_array_equal(logits, endpoints["logits"])
    assert all(np.min(x) == 0 for name, x in endpoints.items() if "act" in name)  # relu's


def blocks_in_and_out(skip):
    """Input, first activation and output of the first block of each stage."""
    model = create_model("resnet", skip=skip, norm="none", **TINY["resnet"])
    variables = initialised(model)
    _, e = model.apply(variables, IMAGES)
    out = [np.asarray(e[f"stage{s}/block1/act2"]) for s in (1, 2, 3)]
    inner = [np.asarray(e[f"stage{s}/block1/act1"]) for s in (1, 2, 3)]
    blocks = [variables["params"][f"stage{s}_block1"] for s in (1, 2, 3)]
    return zip([np.asarray(e["stem/act"]), *out[:-1]], inner, out, blocks, strict=True)


def convolve(x, layer):
    """A 3×3 convolution by nine matrix products, one for each place in the kernel."""
    kernel, padded = np.asarray(layer["kernel"]), np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
    height, width = x.shape[1:3]
    return layer["bias"] + sum(
        padded[:, i : i + height, j : j + width] @ kernel[i, j] for i in range(3) for j in range(3)
    )


def shortcut(x, stage):
    """Option A: at the second and third stage half the pixels, twice the channels."""
    if stage == 1:
        return x
    nothing, inside = np.split(np.zeros_like(x[:, ::2, ::2]), 2, axis=-1)[0], x[:, ::2, ::2]
    return np.concatenate([nothing, inside, nothing], axis=-1)


@pytest.mark.parametrize("skip", ["identity", "none"])
def test_block_is_its_formula(skip):
    """He et al. 2015, eq. 1: y = σ(F(x) + x), and for the plain twin y = σ(F(x))."""
    for stage, (x, act1, y, block) in enumerate(blocks_in_and_out(skip), start=1):
        strides = 1 if stage == 1 else 2
        first = convolve(x, block["conv1"])[:, ::strides, ::strides]
        np.testing.assert_allclose(act1, np.maximum(first, 0), rtol=1e-4, atol=1e-4)
        total = convolve(act1, block["conv2"]) + (shortcut(x, stage) if skip != "none" else 0)
        np.testing.assert_allclose(y, np.maximum(total, 0), rtol=1e-4, atol=1e-4)
        assert skip != "none" or "skip" not in block


def test_zero_init_starts_as_the_identity():
    for stage, (x, _, y, _) in enumerate(blocks_in_and_out("zero_init"), start=1):
        np.testing.assert_array_equal(y, shortcut(x, stage))


def test_plain_twin_has_no_addition_of_feature_maps():
    """The skips of ResNet-8 are three sums of two feature maps; its plain twin has none."""

    def sums(skip):
        model = create_model("resnet", skip=skip, **TINY["resnet"])
        variables = jax.eval_shape(model.init, jax.random.key(0), IMAGES)
        jaxpr = jax.make_jaxpr(model.apply)(variables, IMAGES)
        return sum(
            e.primitive.name in ("add", "add_any")
            and all(v.aval.ndim == 4 and min(v.aval.shape[1:3]) > 1 for v in e.invars)
            for e in jaxpr.eqns
        )

    assert (sums("identity"), sums("none")) == (3, 0)


@pytest.mark.parametrize("skip", ["projection", "zero_init"])
def test_every_parameter_has_a_gradient(skip):
    """With SkipInit, at first, only what is on the skips' way, and the scalars themselves."""
    model = create_model("resnet", skip=skip, **TINY["resnet"])
    variables = drawn(model)
    gradient = jax.jit(jax.grad(training_loss(model, variables, IMAGES, LABELS), has_aux=True))
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient(variables["params"])[0]):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        in_branch = "block" in name and "skip" not in name
        assert np.any(leaf != 0) == (skip == "projection" or not in_branch), name


@pytest.mark.parametrize(
    ("name", "switch", "values"),
    [
        ("resnet", "depth", (8, 14, 20)),
        ("resnet", "width", (8, 16)),
        ("mlp", "hidden", ((16,), (24,), (16, 8), ())),
        ("mlp", "num_classes", (10, 7)),
        ("resnet", "num_classes", (10, 7)),
    ],
)
def test_every_size_changes_the_parameters(name, switch, values):
    sizes = TINY[name] | {switch: None}
    counts = {
        parameter_count(create_model(name, **(sizes | {switch: value})), (1, 8, 8, 1))
        for value in values
    }
    assert len(counts) == len(values)


@pytest.mark.parametrize("kernel_init", ["he", "lecun", "glorot", "orthogonal"])
def test_kernel_init_of_mlp(kernel_init):
    """The kernels are those of the initialiser: E[w²] = 2/n, 1/n, 2/(n + m), 1/max(n, m)."""
    model = create_model("mlp", hidden=(256,), kernel_init=kernel_init)
    kernel = initialised(model)["params"]["dense1"]["kernel"]  # 64 × 256: ±1.5 % in 16,384 draws
    expected = {"he": 2 / 64, "lecun": 1 / 64, "glorot": 2 / 320, "orthogonal": 1 / 256}
    np.testing.assert_allclose(np.mean(kernel**2), expected[kernel_init], rtol=0.05)


@pytest.mark.parametrize(("name", "skip"), [("mlp", {}), ("resnet", {"skip": "projection"})])
def test_kernel_init_is_that_of_every_kernel(name, skip):
    params = initialised(create_model(name, kernel_init="zeros", **TINY[name], **skip))["params"]
    kernels = [leaf for leaf in jax.tree.leaves(params) if leaf.ndim > 1]
    assert len(kernels) == {"mlp": 2, "resnet": 10}[name]
    assert not any(np.any(kernel) for kernel in kernels)


@pytest.mark.parametrize("name", ["resnet", "mlp"])
def test_initialisation_and_evaluation_are_deterministic(name):
    model = create_model(name, norm="batch", **TINY[name])
    variables = initialised(model)
    jax.tree.map(np.testing.assert_array_equal, variables, initialised(model))
    logits, _ = model.apply(variables, IMAGES)
    np.testing.assert_array_equal(logits, model.apply(variables, IMAGES)[0])
    # When evaluating, an image's logits do not depend on which others are in the batch.
    mixed = np.concatenate([IMAGES[:8], 1 - IMAGES[8:]])
    np.testing.assert_allclose(logits[:8], model.apply(variables, mixed)[0][:8], atol=1e-5)


@pytest.mark.parametrize("name", ["resnet", "mlp"])
def test_bfloat16_compute_keeps_parameters_and_logits_in_float32(name):
    model = create_model(name, norm="batch", dtype=jnp.bfloat16, **TINY[name])
    (logits, endpoints), variables = jax.eval_shape(
        model.init_with_output, jax.random.key(0), IMAGES
    )
    assert {leaf.dtype.name for leaf in jax.tree.leaves(variables)} == {"float32"}
    assert logits.dtype == jnp.float32
    assert {e.dtype.name for k, e in endpoints.items() if "act" in k} == {"bfloat16"}


def test_bfloat16_is_close_to_float32():
    models = [
        create_model("resnet", dtype=d, **TINY["resnet"]) for d in (jnp.float32, jnp.bfloat16)
    ]
    variables = drawn(models[0])
    single, half = (
        model.apply(variables, IMAGES, train=True, mutable=["batch_stats"])[0][0]
        for model in models
    )
    assert np.max(np.abs(single - half)) < 0.1 * np.std(single)


@pytest.mark.parametrize("norm", NORMS)
def test_float64_throughout(norm):
    """Parameters, statistics and endpoints; and a training step changes no dtype."""
    with jax.enable_x64(True):
        double = {"dtype": jnp.float64, "param_dtype": jnp.float64}
        model = create_model("resnet", norm=norm, **double, **TINY["resnet"])
        apply = partial(model.apply, train=True, mutable=["batch_stats"])
        variables = jax.eval_shape(model.init, jax.random.key(0), IMAGES)
        output, updates = jax.eval_shape(apply, variables, IMAGES)
        dtypes = {leaf.dtype.name for leaf in jax.tree.leaves((variables, output, updates))}
        assert dtypes == {"float64"}


def test_any_channels_and_sizes():
    for shape in [(1, 4, 4, 1), (2, 7, 13, 5), (1, 8, 8, 1), (1, 33, 32, 3)]:
        model = create_model("resnet", **TINY["resnet"])
        (logits, _), _ = jax.eval_shape(model.init_with_output, jax.random.key(0), jnp.zeros(shape))
        assert logits.shape == (shape[0], 10)


@pytest.mark.parametrize(
    ("name", "switches", "message"),
    [
        ("resnt", {}, r"model.name: found 'resnt', .*did you mean 'resnet'"),
        ("resnet", {"norm": "bach"}, r"model.norm: found 'bach', .*did you mean 'batch'"),
        ("resnet", {"skip": "identiy"}, r"model.skip: .*did you mean 'identity'"),
        ("resnet", {"activation": "rleu"}, r"model.activation: .*did you mean 'relu'"),
        ("resnet", {"pool": "avg"}, r"model.pool: .*expected one of average, max, sum"),
        ("resnet", {"kernel_init": "orthgonal"}, r"model.kernel_init: .*'orthogonal'"),
        ("resnet", {"dtype": "flot32"}, r"model.dtype: .*did you mean 'float32'"),
        ("resnet", {"dtype": None}, r"model.dtype: found 'None'"),
        ("resnet", {"param_dtype": jnp.int32}, r"model.param_dtype: found 'int32'"),
        ("resnet", {"depth": 21}, r"model.depth: found 21, expected 6n\+2 \(nearest: 20 and 26\)"),
        ("resnet", {"depth": 2}, r"model.depth: found 2, expected 6n\+2 \(nearest: 8\)"),
        ("resnet", {"depth": 20.0}, r"model.depth: found 20.0, expected a whole number"),
        ("resnet", {"num_classes": 0}, r"model.num_classes: found 0"),
        ("resnet", {"norm": "group", "width": 20}, r"model.norm_groups: .*20 .*nearest: 10"),
        ("resnet", {"nrom": "batch"}, r"model.nrom .*found 'nrom', .*did you mean 'norm'"),
        ("resnet", {"parent": None}, r"model.parent .*expected one of num_classes, norm"),
        ("resnet", {"padding": "valid"}, r"found 'valid' with model.skip='identity', but a branch"),
        ("resnet", {"dropout": 1.5}, r"model.dropout: found 1.5, expected a share"),
        ("resnet", {"use_bias": "yes"}, r"model.use_bias: found 'yes', expected True or False"),
        ("resnet18", {"depth": 20}, r"'resnet18' fixes it at 18; .*'resnet_imagenet'"),
        ("resnet_imagenet", {"depth": 20}, r"expected one of 18, 34, 50, .*nearest: 18"),
        ("resnet20", {"depth": 32}, r"model.depth: found 32, but .*'resnet20' fixes it at 20"),
        ("mlp", {"skip": "none"}, r"model.skip: found 'none', but 'mlp' takes none: it has no res"),
        ("mlp", {"norm": "instance"}, r"model.norm: found 'instance'"),
        ("mlp", {"hidden": 64}, r"model.hidden: found 64, expected widths"),
        ("mlp", {"hidden": (64, -1)}, r"model.hidden: found -1"),
        ("mlp", {"hidden": (20,), "norm": "group"}, r"model.norm_groups: found 8"),
    ],
)
def test_create_model_refuses(name, switches, message):
    with pytest.raises(UserError, match=message):
        create_model(name, **switches)


def test_inputs_that_cannot_be():
    plain = create_model("resnet", depth=8, skip="none", padding="valid")
    with pytest.raises(UserError, match=r"'stage3_block1/conv1' cannot.* 1×1 leaves .*= 0 pixel"):
        jax.eval_shape(plain.init, jax.random.key(0), jnp.zeros((1, 14, 14, 1)))
    with pytest.raises(UserError, match=r"found inputs of shape \(1, 64\)"):
        create_model("resnet").init(jax.random.key(0), jnp.zeros((1, 64)))


def test_names_and_lists_that_say_what_is_fixed_already():
    assert create_model("resnet56", depth=56).depth == 56
    assert create_model("mlp", hidden=[4, 4]).hidden == (4, 4)
