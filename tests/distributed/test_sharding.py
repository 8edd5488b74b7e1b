"""The rules, over the whole zoo and over whole train states."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from research.config import UserError
from research.data.sources import load_dataset
from research.distributed.mesh import make_mesh
from research.distributed.sharding import (
    CONVOLUTIONAL,
    DENSE,
    LARGE,
    RECURRENT,
    check_split,
    local_bytes,
    name_of,
    rules_of,
    shardings,
    spec_of,
)
from research.models import MODELS, create_model
from research.train.program import pure_functions, state_shapes

FSDP, MIXED = {"fsdp": 8}, {"data": 2, "fsdp": 2, "model": 2}


def mesh_of(sizes):
    return make_mesh(jax.devices(), sizes)


@pytest.mark.parametrize(
    ("path", "shape", "sizes", "rules", "expected"),
    [
        ("conv1/kernel", (3, 3, 64, 128), MIXED, CONVOLUTIONAL, (None, None, "fsdp", "model")),
        ("stem/kernel", (7, 7, 3, 64), MIXED, CONVOLUTIONAL, (None, None, None, ("fsdp", "model"))),
        ("head/kernel", (2048, 1000), FSDP, CONVOLUTIONAL, ("fsdp", "model")),
        ("head/kernel", (64, 10), MIXED, CONVOLUTIONAL, ("fsdp", "model")),
        ("head/kernel", (64, 7), MIXED, DENSE, (("fsdp", "model"), None)),
        ("head/bias", (64,), MIXED, DENSE, ()),
        ("embedding/embedding", (1000, 64), MIXED, RECURRENT, ("model", "fsdp")),
        ("carry/state/0", (2, 8, 64), MIXED, RECURRENT, (None, ("data", "fsdp"), None)),
        ("carry/state/0", (2, 7, 64), MIXED, RECURRENT, ()),
        ("layer1/recurrent_kernel", (32, 128), {"data": 8}, RECURRENT, ()),
        ("kernel", (7, 5), MIXED, DENSE, ()),
    ],
)
def test_specs(path, shape, sizes, rules, expected):
    assert spec_of(path, shape, mesh_of(sizes), rules) == PartitionSpec(*expected)


def state_of(config, dataset, sizes, rules):
    state = state_shapes(config, pure_functions(config, dataset)[0])
    places = shardings(state, mesh_of(sizes), rules)
    return jax.tree.map(
        lambda s, place: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=place), state, places
    )


def test_fsdp_holds_an_eighth_of_resnet50_and_of_its_optimizer(tiny, digits):
    config = tiny({"model.name": "resnet50", "model.hidden": None, "data.image_size": 32})
    digits = load_dataset("digits", image_size=32)
    rules = rules_of("resnet50")
    whole, split = (state_of(config, digits, sizes, rules) for sizes in ({"data": 8}, FSDP))
    for part in ("params", "opt_state"):
        here, there = (local_bytes(getattr(state, part)) for state in (split, whole))
        assert here <= there / 7, part
        assert there == sum(
            x.size * x.dtype.itemsize for x in jax.tree.leaves(getattr(whole, part))
        )


def test_the_optimizer_is_split_as_the_parameters_are(tiny, digits):
    config = tiny({"optimizer.name": "adam", "train.ema": 0.9})
    state = state_of(config, digits, MIXED, DENSE)
    specs = {
        name_of(path): leaf.sharding.spec
        for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0]
    }
    kernels = {path: spec for path, spec in specs.items() if path.endswith("dense1/kernel")}
    assert len(kernels) == 4  # the parameters, two moments, the average
    assert set(kernels.values()) == {PartitionSpec("fsdp", "model")}


@pytest.mark.parametrize("name", MODELS)
def test_no_large_parameter_of_the_zoo_stays_whole(name):
    switches = {"hidden": (1024,)} if name == "mlp" else {}
    model = create_model(name, num_classes=1000, **switches)
    side = 32 if name in ("mlp", "lenet", "locally_connected") else 299
    images = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x), images)
    for sizes in (FSDP, {"data": 4, "model": 2}, MIXED):
        check_split(variables["params"], mesh_of(sizes), rules_of(name))


@pytest.mark.parametrize("model", ["recurrent", "seq2seq"])
def test_a_recurrent_state_is_split_and_initialised_where_it_lies(tiny, model):
    data = {"recurrent": "toy/text", "seq2seq": "toy/clauses"}[model]
    changes = {"model.name": model, "model.hidden": None, "data.name": data}
    config = tiny(changes | {"model.hidden_size": 16, "model.embedding_size": 16})
    dataset, mesh, rules = load_dataset(data), mesh_of(MIXED), rules_of(model)
    check_split(state_of(config, dataset, MIXED, rules).params, mesh, rules)
    init = pure_functions(config, dataset)[0]
    values = {"learning_rate": 0.1, "clip_threshold": 1.0}
    places = shardings(jax.eval_shape(init, jax.random.key(0), values), mesh, rules)
    split = jax.jit(init, out_shardings=places)(jax.random.key(0), values)
    whole = jax.jit(init)(jax.random.key(0), values)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    jax.tree.map(close, split.params, whole.params)
    kernels = [
        x
        for path, x in jax.tree_util.tree_flatten_with_path(split.params)[0]
        if name_of(path).endswith("recurrent_kernel")
    ]
    assert all(x.addressable_shards[0].data.size == x.size // 4 for x in kernels)


@pytest.mark.parametrize(
    ("shape", "sizes", "words"),
    [
        ((7, 5), {"model": 8}, ["model:8", "divides no kernel"]),
        ((7, 5), FSDP, ["fsdp:8", "divides no kernel"]),
    ],
)
def test_an_axis_that_splits_nothing(shape, sizes, words):
    with pytest.raises(UserError) as error:
        check_split({"kernel": jnp.zeros(shape)}, mesh_of(sizes), DENSE)
    assert all(word in str(error.value) for word in ["--mesh", *words])


def test_a_large_parameter_is_not_left_whole_unasked():
    params = {
        "kernel": jax.ShapeDtypeStruct((8, 8), jnp.float32),
        "table": jax.ShapeDtypeStruct((LARGE,), jnp.float32),
    }
    with pytest.raises(UserError, match=r"table, 262,144 numbers.*train\.replicate"):
        check_split(params, mesh_of(FSDP), DENSE)
    check_split(params, mesh_of(FSDP), DENSE, ["^table$"])
    check_split(params, mesh_of({"data": 8}), DENSE)
