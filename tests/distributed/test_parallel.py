"""One step, compiled for every layout: the same numbers, and really other programs."""

import jax
import numpy as np
import pytest

from research.config import UserError
from research.data.feed import make_feed
from research.data.sources import load_dataset
from research.distributed.collectives import collectives
from research.distributed.hlo import parse
from research.distributed.mesh import batch_sharding, make_mesh
from research.distributed.parallel import compile_step
from research.distributed.sharding import local_bytes, rules_of, shardings
from research.train.optimizer import hyperparams
from research.train.program import pure_functions, state_shapes, step_maker, training_shapes

CLIP = {"optimizer.clip.kind": "global_norm", "optimizer.clip.threshold": 0.5}
RECURRENT = {"model.hidden": None, "model.hidden_size": 8, "model.embedding_size": 8}
MODELS = {
    "resnet": {
        **{"model.name": "resnet", "model.hidden": None, "model.depth": 8, "model.width": 8},
        **{"data.name": "digits", "model.norm": "batch"},
    },
    "language_model": {
        **{"model.name": "recurrent", "model.cell": "lstm", "data.name": "toy/text"},
        **{"data.length": 8, **RECURRENT},
    },
    "seq2seq": {"model.name": "seq2seq", "data.name": "toy/translation", **RECURRENT},
}
# Convolutions and batch norm, as in a ResNet, that compile in a fifth of the time.
LENET = {"model.name": "lenet", "model.hidden": (8,), "model.filters": (8, 8)}
LENET |= {"data.name": "digits", "model.norm": "batch"}
LAYOUTS = {
    "one": ({"data": 1}, "jit"),
    "data": ({"data": 8}, "jit"),
    "fsdp": ({"fsdp": 8}, "jit"),
    "mixed": ({"data": 4, "model": 2}, "jit"),
    "shard_map": ({"data": 8}, "shard_map"),
    "pmap": ({"data": 8}, "pmap"),
}


def trained(config, layout, steps):
    """Return the compiled step, and after so many steps in that layout the state and the losses."""
    sizes, parallel = LAYOUTS[layout]
    dataset = load_dataset(config.data.name, length=config.data.length)
    mesh = make_mesh(jax.devices()[: np.prod(list(sizes.values()))], sizes)
    rules = rules_of(config.model.name)
    with jax.enable_x64(config.train.precision == "float64"):
        init = pure_functions(config, dataset)[0]
        shapes = state_shapes(config, init)
        step = compile_step(
            *(parallel, mesh, step_maker(config, dataset, mesh), shapes),
            training_shapes(config, dataset),
            rules=rules,
        )
        state = jax.jit(init)(jax.random.key(0), hyperparams(config.optimizer))
        state = jax.device_put(state, shardings(shapes, mesh, rules))
        feed = make_feed(
            *(dataset.train,),
            kind="auto",
            batch_size=config.data.batch_size,
            seed=0,
            sharding=batch_sharding(mesh),
        )
        losses = []
        for _ in range(steps):
            state, metrics = step(state, next(feed))
            losses.append(jax.device_get(metrics["examples"]))
        return step, state, losses


def numbers(state):
    return state.params, state.collections


def close(found, expected, tolerance):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance),
        jax.device_get(found),
        jax.device_get(expected),
    )


@pytest.mark.parametrize("model", MODELS)
def test_every_layout_gives_the_same_numbers(tiny, model):
    """And clips the same gradient: that of the whole batch."""
    config = tiny(MODELS[model] | CLIP | {"train.precision": "float64"})
    _, first, losses = trained(config, "one", 20)
    assert losses[-1]["loss"] < losses[0]["loss"]
    sizes = {"one": local_bytes(first.params)}
    for layout in list(LAYOUTS)[1:]:
        _, state, others = trained(config, layout, 20)
        close((others, numbers(state)), (losses, numbers(first)), 1e-10)
        sizes[layout] = local_bytes(state.params)
    assert sizes["data"] == sizes["shard_map"] == sizes["pmap"] == sizes["one"]
    assert sizes["fsdp"] < sizes["one"] / 3 and sizes["mixed"] < sizes["one"] * 0.7


@pytest.mark.parametrize("model", MODELS)
def test_one_step_in_float32(tiny, model):
    config = tiny(MODELS[model] | CLIP)
    _, first, losses = trained(config, "one", 1)
    _, state, others = trained(config, "data", 1)
    close((others, state.params), (losses, first.params), 1e-5)


def test_micro_batches_take_their_rows_from_every_device(tiny):
    config = tiny(LENET | {"train.precision": "float64", "train.accumulate": 2})
    _, first, losses = trained(config, "one", 5)
    for layout in ("data", "shard_map"):
        _, state, others = trained(config, layout, 5)
        close((others, numbers(state)), (losses, numbers(first)), 1e-10)


def test_statistics_of_each_devices_own_rows(tiny):
    """The same numbers in all three ways; other ones than with those of the whole batch."""
    device = {"train.precision": "float64", "train.batch_statistics": "device"}
    config = tiny(LENET | device)
    _, first, losses = trained(config, "data", 5)
    for layout in ("shard_map", "pmap"):
        _, state, others = trained(config, layout, 5)
        close((others, numbers(state)), (losses, numbers(first)), 1e-10)
    _, _, whole = trained(tiny(LENET | {"train.precision": "float64"}), "data", 1)
    assert abs(whole[0]["loss"] - losses[0]["loss"]) > 1e-3


def sent(config, layout):
    """Return the collectives of the compiled step, and the state after it."""
    step, state, _ = trained(config, layout, 1)
    sizes = {"data": 1, "fsdp": 1, "model": 1} | LAYOUTS[layout][0]
    return collectives(parse(step.as_text()), sizes), state


@pytest.mark.parametrize("layout", ["data", "shard_map", "pmap"])
def test_gradients_are_added_up_once_and_no_activation_is_gathered(tiny, layout):
    found, state = sent(tiny(LENET | {"data.batch_size": 64}), layout)
    assert {(each.kind, each.axes, each.times) for each in found} == {("all-reduce", ("data",), 1)}
    gradient = local_bytes(state.params)
    statistics = local_bytes(state.collections)
    total = sum(each.nbytes for each in found)
    # Of each norm two moments forward, and backward as many again, in one or two passes.
    assert gradient + statistics <= total <= gradient + 4 * statistics + 100


def test_each_layout_is_another_program(tiny):
    fsdp, _ = sent(tiny(LENET), "fsdp")
    assert {"all-gather", "all-reduce"} <= {each.kind for each in fsdp}
    mixed, _ = sent(tiny(MODELS["language_model"]), "mixed")
    assert {("data",), ("model",)} <= {each.axes for each in mixed}
    # The state of the recurrence goes round at each of its steps.
    assert max(each.times for each in mixed if each.axes == ("model",)) >= 8


@pytest.mark.parametrize("parallel", ["shard_map", "pmap"])
def test_only_jit_splits_the_state(tiny, digits, parallel):
    mesh = make_mesh(jax.devices(), {"fsdp": 8})
    with pytest.raises(UserError, match=f"--parallel: found '{parallel}' with --mesh=fsdp:8"):
        compile_step(parallel, mesh, None, None, None, rules=())
