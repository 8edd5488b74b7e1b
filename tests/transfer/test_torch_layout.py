"""Names, orders of axes, and what is said of weights that do not fit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.config import UserError
from research.models import create_model
from research.transfer import from_torch, to_torch

SMALL = {"depth": 8, "width": 4}


def draw(name, seed=0, **switches):
    """Variables of that model in which every number is another, and NumPy's: no compilation."""
    model = create_model(name, **switches)
    example = jax.ShapeDtypeStruct((1, *model.input_shape), jnp.float32)
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: rng.random(leaf.shape, leaf.dtype),
        jax.eval_shape(model.init, jax.random.key(0), example),
    )


@pytest.fixture(scope="module")
def variables():
    return draw("resnet", **SMALL)


@pytest.fixture
def weights(variables):
    return to_torch("resnet", variables, **SMALL)


def equal(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_names_of_the_cifar_resnets(weights):
    norm = [f".{leaf}" for leaf in ("weight", "bias", "running_mean", "running_var")]
    norm.append(".num_batches_tracked")
    expected = {"conv1.weight", "linear.weight", "linear.bias", *("bn1" + leaf for leaf in norm)}
    for stage in (1, 2, 3):
        for i in (1, 2):
            expected.add(f"layer{stage}.0.conv{i}.weight")
            expected |= {f"layer{stage}.0.bn{i}{leaf}" for leaf in norm}
    assert set(weights) == expected


def test_order_of_the_axes(variables, weights):
    ours = variables["params"]["stage2_block1"]["conv1"]["kernel"]
    theirs = weights["layer2.0.conv1.weight"]
    assert (ours.shape, theirs.shape) == ((3, 3, 4, 8), (8, 4, 3, 3))
    assert all(theirs[o, i, h, w] == ours[h, w, i, o] for o, i, h, w in np.ndindex(theirs.shape))
    np.testing.assert_array_equal(weights["linear.weight"].T, variables["params"]["head"]["kernel"])
    np.testing.assert_array_equal(weights["bn1.weight"], variables["params"]["stem_norm"]["scale"])
    statistics = variables["batch_stats"]["stem_norm"]
    np.testing.assert_array_equal(weights["bn1.running_var"], statistics["var"])
    np.testing.assert_array_equal(weights["bn1.running_mean"], statistics["mean"])
    assert weights["bn1.num_batches_tracked"] == 0


@pytest.mark.parametrize(("name", "first", "side"), [("vgg11", 0, 7), ("alexnet", 1, 6)])
def test_dense_layer_after_a_flattened_map(name, first, side):
    """Torch flattens a map channel by channel, the models here pixel by pixel."""
    ours = draw(name, hidden=(8, 6))
    theirs = to_torch(name, ours, hidden=(8, 6))[f"classifier.{first}.weight"]
    channels = theirs.shape[1] // side**2
    maps = np.random.default_rng(1).normal(size=(2, side, side, channels)).astype(np.float32)
    np.testing.assert_allclose(
        maps.reshape(2, -1) @ ours["params"]["dense1"]["kernel"],
        maps.transpose(0, 3, 1, 2).reshape(2, -1) @ theirs.T,
        rtol=1e-4,
        atol=1e-3,
    )


@pytest.mark.parametrize(
    ("name", "switches"),
    [
        ("resnet", SMALL | {"skip": "projection", "norm": "group", "norm_groups": 4}),
        ("resnet", SMALL | {"norm": "none", "num_classes": 3}),
        ("resnet18", {}),
        ("alexnet", {"hidden": (8, 6)}),
        ("vgg11", {"hidden": (8, 6), "num_classes": 3}),
        ("vgg19_bn", {"width": 4, "hidden": (8, 6)}),
        ("mobilenet_v1", {"width_multiplier": 0.25}),
        ("mobilenet_v2", {"width_multiplier": 0.25}),
    ],
)
def test_the_round_trip_is_exact(name, switches):
    before = draw(name, **switches)
    there = to_torch(name, before, **switches)
    equal(from_torch(name, there, **switches), before)
    again = to_torch(name, from_torch(name, there, **switches), **switches)
    assert list(again) == list(there)
    jax.tree.map(np.testing.assert_array_equal, again, there)


def test_a_parallel_models_prefix(weights, variables):
    equal(from_torch("resnet", {f"module.{k}": v for k, v in weights.items()}, **SMALL), variables)


def test_counters_are_optional(weights, variables):
    less = {k: v for k, v in weights.items() if not k.endswith("num_batches_tracked")}
    equal(from_torch("resnet", less, **SMALL), variables)


def test_dtypes_become_the_models(weights, variables):
    half = {k: v.astype(np.float16) if v.ndim else v for k, v in weights.items()}
    found = from_torch("resnet", half, **SMALL)
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {np.dtype(np.float32)}
    kernel = variables["params"]["stem"]["kernel"]
    np.testing.assert_array_equal(found["params"]["stem"]["kernel"], kernel.astype(np.float16))


def broken(weights):
    weights["layer1.0.conv0.weight"] = weights.pop("layer1.0.conv1.weight")
    weights["linear.weight"] = np.zeros((7, 16), np.float32)
    del weights["bn1.running_mean"]
    weights["fancy.gamma"] = np.zeros(3, np.float32)
    return weights


def test_all_that_does_not_fit_is_one_error(weights):
    with pytest.raises(UserError) as raised:
        from_torch("resnet", broken(weights), **SMALL)
    text = str(raised.value)
    for line in (
        "do not fit model.name='resnet': of its tensors 2 missing, 1 misshapen, 2 too many",
        "missing: layer1.0.conv1.weight [4, 4, 3, 3]; nearest: layer1.0.conv0.weight [4, 4, 3, 3]",
        "missing: bn1.running_mean [4]",
        "misshapen: linear.weight: found [7, 16], expected [10, 16]",
        "too many: layer1.0.conv0.weight [4, 4, 3, 3]; nearest: layer1.0.conv1.weight [4, 4, 3, 3]",
        "too many: fancy.gamma [3]",
    ):
        assert line in text
    assert len(text.splitlines()) == 6


def test_a_misspelt_tensor_has_a_nearest_name(weights):
    """Also where its last name is the misspelt one, and without a word where nothing is near."""
    weights["conv1.weigth"] = weights.pop("conv1.weight")
    weights["gamma"] = np.zeros((9, 9), np.float32)
    with pytest.raises(UserError) as raised:
        from_torch("resnet", weights, **SMALL)
    lines = str(raised.value).splitlines()
    assert "  missing: conv1.weight [4, 3, 3, 3]; nearest: conv1.weigth [4, 3, 3, 3]" in lines
    assert "  too many: conv1.weigth [4, 3, 3, 3]; nearest: conv1.weight [4, 3, 3, 3]" in lines
    assert "  too many: gamma [9, 9]" in lines


@pytest.mark.parametrize("found", ["resnet20.pth", [1], {1: np.zeros(3)}])
def test_what_is_no_state_dict_is_refused(found):
    with pytest.raises(UserError, match=r"from_torch: found a .*, expected a mapping of names"):
        from_torch("resnet", found, **SMALL)


def test_not_strict_loads_what_fits_and_names_the_rest(weights, variables):
    said = []
    found = from_torch("resnet", broken(weights), strict=False, say=said.append, **SMALL)
    assert [len(text.splitlines()) for text in said] == [6]
    assert "missing: bn1.running_mean [4]" in said[0] and "too many: fancy.gamma" in said[0]
    model = create_model("resnet", **SMALL)
    fresh = model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    for loaded, (path, leaf) in zip(
        jax.tree.leaves(variables), jax.tree.leaves_with_path(found), strict=True
    ):
        where = jax.tree_util.keystr(path, simple=True, separator="/")
        left_out = where in (
            *("params/stage1_block1/conv1/kernel", "params/head/kernel"),
            "batch_stats/stem_norm/mean",
        )
        if left_out:
            expected = fresh
            for key in where.split("/"):
                expected = expected[key]
            np.testing.assert_allclose(leaf, expected, rtol=1e-5, atol=1e-6)
        else:
            np.testing.assert_array_equal(leaf, loaded, where)


def test_a_parameter_without_a_counterpart():
    switches = SMALL | {"skip": "zero_init"}
    weights = to_torch("resnet", draw("resnet", **SMALL), **SMALL)
    with pytest.raises(UserError, match=r"params/stage1_block1/skip/scale \[\], of which torch's"):
        from_torch("resnet", weights, **switches)
    with pytest.raises(UserError, match="no counterpart of params/stage1_block1/skip/scale"):
        to_torch("resnet", draw("resnet", **switches), **switches)


def test_errors_of_names():
    with pytest.raises(UserError, match="found 'resnet19'"):
        from_torch("resnet19", {})
    with pytest.raises(UserError, match=r"torch weights are published: found 'mlp', expected one"):
        from_torch("mlp", {})
    with pytest.raises(UserError, match=r"model\.depth"):
        from_torch("resnet50", {}, depth=18)


def test_another_models_weights_are_refused_at_once():
    """Several hundred names, none of which fits."""
    with pytest.raises(UserError, match=r"model\.name='resnet56': "):
        from_torch("resnet56", to_torch("resnet50", draw("resnet50")))
