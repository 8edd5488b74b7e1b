"""Freezing, rates and unfreezing: what training leaves alone, and by how much it moves the rest."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.tree_util import tree_flatten_with_path

from research.data.feed import make_feed
from research.distributed.mesh import batch_sharding
from research.train.optimizer import hyperparams, make_optimizer
from research.train.program import pure_functions
from research.train.tasks import make_task
from research.transfer.finetune import spell
from research.transfer.patterns import is_frozen

RESNET = {"model.name": "resnet", "model.hidden": None, "model.depth": 8, "model.width": 4}
MLP = {"model.hidden": (8, 8), "model.norm": "batch"}
EVERYTHING = {  # that could move a parameter without a gradient
    "optimizer.l2": 0.1,
    "optimizer.weight_decay": 0.1,
    "optimizer.decay_norm_and_bias": True,
    "optimizer.clip.kind": "global_norm",
    "train.ema": 0.5,
}


def states(config, dataset, mesh, steps):
    """Yield the state before training and after each step, on the host."""
    init, step, _ = pure_functions(config, dataset)
    state = jax.jit(init)(jax.random.key(0), hyperparams(config.optimizer))
    feed = make_feed(
        dataset.train,
        kind="resident",
        batch_size=config.data.batch_size,
        seed=0,
        sharding=batch_sharding(mesh),
    )
    step = jax.jit(step)
    yield flat(state)
    for _ in range(steps):
        state, _ = step(state, next(feed))
        yield flat(state)


def flat(state):
    trees = {"params": state.params, "ema": state.ema, **state.collections}
    return {
        f"{name}/{spell(path)}": np.asarray(leaf)
        for name, tree in trees.items()
        for path, leaf in tree_flatten_with_path(tree)[0]
    }


@pytest.mark.parametrize(
    ("model", "freeze"),
    [
        (RESNET, ("stem*", "stage1_*", "stage2_*/norm2")),
        (MLP, ("*", "!head")),
        (MLP, ("dense1", "norm1")),
        (MLP, ("*", "!norm*")),
    ],
)
def test_what_is_frozen_stays_bit_for_bit_and_the_rest_moves(tiny, digits, mesh, model, freeze):
    config = tiny(model | EVERYTHING | {"transfer.freeze": freeze})
    before, *_, after = states(config, digits, mesh, 2)
    for name in before:
        collection, _, path = name.partition("/")
        if collection == "batch_stats":  # of a norm, whose scale says whether it is frozen
            path = path.rpartition("/")[0] + "/scale"
        same = before[name].tobytes() == after[name].tobytes()
        assert same == is_frozen(freeze, path), name


def test_a_frozen_batch_norm_uses_its_averages_in_training(tiny, digits):
    """All but the head frozen, the training loss is that of evaluation mode."""
    config = tiny(MLP | {"transfer.freeze": ("*", "!head")})
    task = make_task(config, digits)
    images, labels = digits.train.arrays().values()
    batch = {"image": images[:32], "label": labels[:32], "mask": np.ones(32, np.float32)}
    variables = task.init(jax.random.key(0), batch)
    rng = np.random.default_rng(0)
    variables["batch_stats"] = jax.tree.map(
        lambda x: jnp.asarray(rng.uniform(0.5, 2, x.shape), x.dtype), variables["batch_stats"]
    )
    loss, _ = task.loss(variables, batch, jax.random.key(1))
    sums, _ = task.evaluate(variables, batch)
    assert float(loss) == pytest.approx(float(sums["loss"]) / 32, rel=1e-6)
    unfrozen = make_task(tiny(MLP), digits)
    assert abs(float(unfrozen.loss(variables, batch, jax.random.key(1))[0]) - float(loss)) > 0.1


def test_what_is_frozen_has_no_share_in_the_norm_that_is_clipped(tiny):
    config = tiny({"transfer.freeze": ("stem",), "optimizer.clip.kind": "global_norm"})
    params = {"stem": {"kernel": jnp.ones((2, 2))}, "head": {"kernel": jnp.ones((2, 2))}}
    gradient = {"stem": {"kernel": jnp.full((2, 2), 1e6)}, "head": {"kernel": jnp.ones((2, 2)) / 4}}
    optimizer = make_optimizer(config.optimizer, 10, config.transfer)
    _, state = optimizer.update(gradient, optimizer.init(params), params)
    assert float(optax.tree.get(state, "gradient_norm")) == pytest.approx(0.5)
    spoilt = gradient | {"stem": {"kernel": jnp.full((2, 2), jnp.nan)}}
    updates, _ = optimizer.update(spoilt, optimizer.init(params), params)
    assert not np.any(updates["stem"]["kernel"]) and np.all(np.isfinite(updates["head"]["kernel"]))


@pytest.mark.parametrize("name", ["sgd", "rmsprop", "adam"])
def test_rates_are_exact_ratios_of_the_updates(tiny, name):
    """Of powers of two, so that rounding is the same."""
    rates = (("stem*", 0.25), ("*norm*", 0.5), ("head", 8.0))
    base = tiny(RESNET | {"optimizer.name": name})
    slow = tiny(RESNET | {"optimizer.name": name, "transfer.rates": rates})
    rng = np.random.default_rng(0)
    params = {
        "stem": {"kernel": jnp.asarray(rng.normal(size=(3, 4)))},
        "stem_norm": {"scale": jnp.asarray(rng.normal(size=4))},
        "stage1": {"norm": {"bias": jnp.asarray(rng.normal(size=4))}, "kernel": jnp.ones((4, 4))},
        "head": {"kernel": jnp.asarray(rng.normal(size=(4, 2))), "bias": jnp.ones(2)},
    }
    factors = {"stem/kernel": 0.25, "stem_norm/scale": 0.5, "stage1/norm/bias": 0.5}
    factors |= {"head/kernel": 8, "head/bias": 8, "stage1/kernel": 1}
    optimizers = [make_optimizer(c.optimizer, 10, c.transfer) for c in (base, slow)]
    moments = [o.init(params) for o in optimizers]
    for _ in range(3):
        gradient = jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape), p.dtype), params)
        updates = []
        for i, optimizer in enumerate(optimizers):
            update, moments[i] = optimizer.update(gradient, moments[i], params)
            updates.append({spell(p): np.asarray(u) for p, u in tree_flatten_with_path(update)[0]})
        for path, factor in factors.items():
            np.testing.assert_array_equal(updates[1][path], updates[0][path] * factor)


def test_layers_are_unfrozen_from_the_head_down(tiny, digits, mesh):
    """Every second step one more; a norm together with the convolution before it."""
    config = tiny(MLP | EVERYTHING | {"transfer.unfreeze_every": 2})
    groups = (("head",), ("dense2", "norm2"), ("dense1", "norm1"))
    trajectory = list(states(config, digits, mesh, 6))
    for step, (before, after) in enumerate(itertools.pairwise(trajectory)):
        for start, names in enumerate(groups):
            for path in (p for p in before if p.startswith("params/")):
                if path.split("/")[1] in names:
                    moved = before[path].tobytes() != after[path].tobytes()
                    assert moved == (step >= 2 * start), (step, path)
