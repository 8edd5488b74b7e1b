"""GoogLeNet, Inception v3 and v4, Xception: their papers' tables, auxiliary heads and switches.

Sizes are those of the full networks. What takes arithmetic runs on the same code with short tables.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fixed_variables import fixed_variables
from flax import linen as nn
from sklearn.datasets import load_digits

from research.config import UserError
from research.models import create_model, layers
from research.models.cnn import inception_v3, inception_v4
from research.models.cnn.branches import Branches

DIGITS = load_digits()

COUNTS = {
    ("googlenet", True): 13_004_888,
    ("googlenet", False): 6_624_904,
    ("inception_v3", True): 27_161_264,
    ("inception_v3", False): 23_834_568,  # torchvision's without AuxLogits
    ("inception_v4", None): 42_679_816,
    ("xception", None): 22_855_952,
}
# The output of each line of the papers' tables.
OUTPUTS = {
    "googlenet": {
        "conv1/act": (112, 112, 64),
        "pool1": (56, 56, 64),
        "conv3/act": (56, 56, 192),
        "pool2": (28, 28, 192),
        "inception3a": (28, 28, 256),
        "inception3b": (28, 28, 480),
        "pool3": (14, 14, 480),
        "inception4a": (14, 14, 512),
        "inception4b": (14, 14, 512),
        "inception4c": (14, 14, 512),
        "inception4d": (14, 14, 528),
        "inception4e": (14, 14, 832),
        "pool4": (7, 7, 832),
        "inception5a": (7, 7, 832),
        "inception5b": (7, 7, 1024),
        "pool": (1024,),
    },
    "inception_v3": {
        "conv1a/act": (149, 149, 32),
        "conv2a/act": (147, 147, 32),
        "conv2b/act": (147, 147, 64),
        "pool1": (73, 73, 64),
        "conv3b/act": (73, 73, 80),
        "conv4a/act": (71, 71, 192),
        "pool2": (35, 35, 192),
        "inception5b": (35, 35, 256),
        "inception5d": (35, 35, 288),
        "inception6a": (17, 17, 768),
        "inception6e": (17, 17, 768),
        "aux/conv1/act": (5, 5, 128),
        "aux/conv2/act": (1, 1, 768),
        "inception7a": (8, 8, 1280),
        "inception7b": (8, 8, 2048),
        "inception7c/branch3x3_2b/act": (8, 8, 384),
        "inception7c": (8, 8, 2048),
        "pool": (2048,),
    },
    "inception_v4": {
        "stem3/act": (147, 147, 64),
        "stem4": (73, 73, 160),
        "stem5": (71, 71, 192),
        "stem6": (35, 35, 384),
        "inception_a4": (35, 35, 384),
        "reduction_a": (17, 17, 1024),
        "inception_b7": (17, 17, 1024),
        "reduction_b": (8, 8, 1536),
        "inception_c3": (8, 8, 1536),
        "pool": (1536,),
    },
    "xception": {
        "act1": (149, 149, 32),
        "act2": (147, 147, 64),
        "block1": (74, 74, 128),
        "block2": (37, 37, 256),
        "block3": (19, 19, 728),
        "block11": (19, 19, 728),
        "block12": (10, 10, 1024),
        "act3": (10, 10, 1536),
        "act4": (10, 10, 2048),
        "pool": (2048,),
    },
}
DROPOUT = {
    "googlenet": {
        "aux1/dropout": (0.7, 1024),
        "aux2/dropout": (0.7, 1024),
        "dropout": (0.2, 1024),
    },
    "inception_v3": {"dropout": (0.5, 2048)},
    "inception_v4": {"dropout": (0.2, 1536)},
    "xception": {"dropout": (0.5, 2048)},
}
NORM = {  # how many, and their epsilon; a skip's included
    "googlenet": (57 + 2, 1e-3),
    "inception_v3": (94 + 2, 1e-3),
    "inception_v4": (149, 1e-3),
    "xception": (40, 1e-5),
}


def shapes_of(model, images, **options):
    return jax.eval_shape(
        lambda key: model.init_with_output({"params": key, "dropout": key}, images, **options),
        jax.random.key(0),
    )


@pytest.mark.parametrize("name", OUTPUTS)
def test_tables_of_the_papers(name):
    """Outputs, batch norms and dropout of the full networks in training."""
    seen, model = {}, create_model(name)

    def record(call, args, kwargs, context):
        if isinstance(context.module, nn.BatchNorm | nn.Dropout):
            seen["/".join(context.module.path)] = context.module, args[0].shape
        return call(*args, **kwargs)

    images = jnp.zeros((2, *model.input_shape))
    with nn.intercept_methods(record):
        (logits, endpoints), variables = shapes_of(model, images, train=True)
    assert logits.shape == (2, 1000)
    found = {k: v.shape[1:] for k, v in endpoints.items() if k in OUTPUTS[name]}
    assert found == OUTPUTS[name]
    parameters = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    assert parameters == COUNTS.get((name, True), COUNTS.get((name, None)))

    norms = [m for m, _ in seen.values() if isinstance(m, nn.BatchNorm)]
    assert {(m.epsilon, m.momentum) for m in norms} == {(NORM[name][1], 0.9)}
    assert len(norms) == NORM[name][0]
    dropout = {k: (m.rate, s[1]) for k, (m, s) in seen.items() if isinstance(m, nn.Dropout)}
    assert dropout == DROPOUT[name]


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("googlenet", {"aux1/logits": 0.3, "aux2/logits": 0.3}),
        ("inception_v3", {"aux/logits": 0.4}),
    ],
)
def test_auxiliary_heads_are_of_training_alone(name, weights):
    """There they read the maps that the paper says; evaluation and aux_heads=False have none."""
    model, bare = create_model(name), create_model(name, aux_heads=False)
    assert model.aux_weights == weights
    images = jnp.zeros((2, *model.input_shape))
    (_, at_init), variables = shapes_of(model, images)
    assert weights.keys() <= at_init.keys()
    _, without = shapes_of(bare, images)
    assert sum(leaf.size for leaf in jax.tree.leaves(without["params"])) == COUNTS[name, False]
    assert variables["params"].keys() - without["params"].keys() == {
        k.split("/")[0] for k in weights
    }

    _, evaluated = jax.eval_shape(model.apply, variables, images)
    assert not any(k.startswith("aux") for k in evaluated)
    _, endpoints = jax.eval_shape(bare.apply, without, images)
    assert endpoints == evaluated


SIDE = {"googlenet": 32, "inception_v3": 72, "inception_v4": 32, "xception": 32}


def images_of(name):
    """Digits, each pixel a square of several."""
    factor = SIDE[name] // 8
    images = np.kron(DIGITS.images[:4], np.ones((1, factor, factor))) / 16
    return np.float32(images[..., None])


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("name", SIDE)
def test_evaluation_is_deterministic_and_of_each_image_alone(name):
    model, images = create_model(name, num_classes=10), images_of(name)
    variables = fixed_variables(model, images)
    logits, endpoints = model.apply(variables, images)
    np.testing.assert_array_equal(logits, model.apply(variables, images)[0])
    mixed = np.concatenate([images[:2], 1 - images[2:]])
    np.testing.assert_allclose(logits[:2], model.apply(variables, mixed)[0][:2], atol=1e-4)
    acts = [k for k in endpoints if k.split("/")[-1].startswith("act")]
    assert len(acts) >= 9 and all(np.min(endpoints[k]) == 0 for k in acts)


@pytest.mark.parametrize(
    ("table", "corner"), [(inception_v3.FIGURE_7, 4 / 9), (inception_v4.INCEPTION_C, 1.0)]
)
def test_averages_inside_a_module_at_the_border(table, corner):
    """v3 divides by the whole window of 3×3, of which a corner holds 4 pixels; v4 by these."""
    model = create_model("inception_v4", norm="none", use_bias=False, activation="linear")
    name = list(table)[-1]
    module = Branches({name: table[name]}, layers.Layers.of(model, train=False))
    images = jnp.ones((1, 5, 5, 2))
    (y, _), variables = module.init_with_output(jax.random.key(0), images)
    total = variables["params"][name]["conv"]["kernel"].sum((0, 1, 2))
    np.testing.assert_allclose(y[0, 0, 0], corner * total, rtol=1e-5)
    np.testing.assert_allclose(y[0, 2, 2], total, rtol=1e-5)


def test_the_first_branch_stands_first():
    """Concatenation is in the order of the table, side by side from the left."""
    model = create_model("googlenet")
    table = {"b": ((4, 1),), "a": ((3, 1), ((1, 1), (2, 1)))}
    module = Branches(table, layers.Layers.of(model, train=False))
    (y, endpoints), _ = module.init_with_output(jax.random.key(0), images_of("googlenet"))
    parts = [endpoints[f"{k}/act"] for k in ("b", "a_2a", "a_2b")]
    np.testing.assert_array_equal(y, np.concatenate(parts, axis=-1))
    assert list(endpoints) == ["b/act", "a_1/act", "a_2a/act", "a_2b/act"]


@pytest.mark.parametrize(
    ("name", "side", "switches", "message"),
    [
        ("googlenet", 14, {}, "'pool3' cannot be: .* on a map of 1×1"),
        ("inception_v3", 298, {}, r"17×17 pixels, found 16×16; .*299×299 .*model.aux_heads=False"),
        ("inception_v3", 74, {"aux_heads": False}, "a window of 3 .* on a map of 2×2"),
        ("inception_v4", 74, {}, "a window of 3 pixels, strides 2, on a map of 2×2"),
        ("xception", 6, {}, "'conv2' cannot be: a window of 3 pixels"),
    ],
)
def test_images_too_small(name, side, switches, message):
    model = create_model(name, **switches)
    with pytest.raises(UserError, match=message):
        shapes_of(model, jnp.zeros((1, side, side, 3)))


@pytest.mark.parametrize(
    ("name", "side"), [("googlenet", 15), ("inception_v3", 75), ("inception_v4", 75)]
)
def test_smallest_images(name, side):
    switches = {"aux_heads": False} if name == "inception_v3" else {}
    (logits, _), _ = shapes_of(create_model(name, **switches), jnp.zeros((1, side, side + 8, 1)))
    assert logits.shape == (1, 1000)


@pytest.mark.parametrize(
    ("name", "switches", "message"),
    [
        ("googlenet", {"padding": "valid"}, "'valid', but branches .* cannot be concatenated"),
        ("inception_v3", {"padding": "valid"}, "cannot be concatenated"),
        ("inception_v4", {"padding": "valid"}, "cannot be concatenated"),
        ("xception", {"padding": "valid"}, "model.skip='projection', but a branch"),
        ("inception_v3", {"aux_heads": 1}, "model.aux_heads: found 1, expected True or False"),
        ("googlenet", {"aux_dropout": 1.0}, "model.aux_dropout: found 1.0, expected a share"),
        ("inception_v4", {"aux_heads": True}, "it has no auxiliary classifiers"),
        ("inception_v4", {"skip": "none"}, "it has no residual branches"),
    ],
)
def test_create_model_refuses(name, switches, message):
    with pytest.raises(UserError, match=message):
        create_model(name, **switches)


def test_plain_xception_can_be_unpadded():
    model = create_model("xception", skip="none", padding="valid")
    (logits, _), _ = shapes_of(model, jnp.zeros((1, 1200, 1200, 3)))
    assert logits.shape == (1, 1000)
