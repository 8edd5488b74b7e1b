"""One training step as a pure function; where it runs is not its business."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from research.tasks.through_time import through_time
from research.train.state import TrainState

Metrics = dict[str, dict[str, jax.Array]]


def make_train_step(
    task,
    optimizer: optax.GradientTransformation,
    *,
    accumulate: int = 1,
    ema: float = 0.0,
    diagnostics_every: int = 0,
) -> Callable[[TrainState, Mapping[str, jax.Array]], tuple[TrainState, Metrics]]:
    """Return `step(state, batch) → (state, metrics)`: forward → loss → gradient → clip → update.

    Args:
        task: has `loss(variables, batch, key) → (loss, (collections, metric sums, endpoints))`.
        optimizer: as `research.train.optimizer.make_optimizer` returns.
        accumulate: micro-batches whose mean gradient makes the step; divides the batch.
        ema: decay of the averaged parameters, 0 for none.
        diagnostics_every: steps between the diagnostics by layer and, of a recurrent network,
            through time; 0 for none.

    Returns:
        A function whose metrics are groups of sums, each beside its `count`: `examples` (loss,
        accuracy), `updates` (gradient norms, share of clipped steps), and `diagnostics` (count is 0
        on the steps between).
    """

    def loss_and_gradient(params, collections, batch, key):
        def loss(params):
            return task.loss({"params": params, **collections}, batch, key)

        (_, (collections, sums, endpoints)), gradient = jax.value_and_grad(loss, has_aux=True)(
            params
        )
        return gradient, collections, sums, endpoints

    def accumulated(params, collections, batch, key):
        def micro_step(carry, item):
            total, collections = carry
            gradient, collections, sums, endpoints = loss_and_gradient(params, collections, *item)
            return (jax.tree.map(jnp.add, total, gradient), collections), (sums, endpoints)

        micro = jax.tree.map(lambda x: x.reshape(accumulate, -1, *x.shape[1:]), batch)
        zeros = jax.tree.map(jnp.zeros_like, params)
        (gradient, collections), (sums, endpoints) = jax.lax.scan(
            micro_step,
            (zeros, collections),
            (micro, jax.random.split(key, accumulate)),
            unroll=jax.default_backend() == "cpu",  # XLA:CPU convolves many times slower in a loop
        )
        gradient = jax.tree.map(lambda g: g / accumulate, gradient)
        sums = jax.tree.map(lambda x: x.sum(0), sums)
        endpoints = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), endpoints)
        return gradient, collections, sums, endpoints

    forward_backward = accumulated if accumulate > 1 else loss_and_gradient

    def step(state: TrainState, batch) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(state.key, state.step)
        gradient, collections, sums, endpoints = forward_backward(
            state.params, state.collections, batch, key
        )
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = {"examples": sums, "updates": clipping(opt_state)}
        if diagnostics_every:
            variables = {"params": state.params, **state.collections}
            metrics["diagnostics"] = every(
                diagnostics_every,
                state.step,
                lambda *operands: diagnose(*operands) | through_time(task, variables, batch, key),
                state.params,
                gradient,
                updates,
                endpoints,
            )
        average = state.ema
        if ema:
            average = optax.incremental_update(params, state.ema, 1 - ema)
        state = state.replace(
            step=state.step + 1,
            params=params,
            collections=collections,
            opt_state=opt_state,
            ema=average,
        )
        return state, metrics

    return step


def clipping(opt_state: Any) -> dict[str, jax.Array]:
    """Return the global gradient norm before and after clipping, and whether clipping acted."""
    before = optax.tree.get(opt_state, "gradient_norm")
    after = optax.tree.get(opt_state, "gradient_norm_clipped")
    return {
        "gradient_norm": before,
        "gradient_norm_clipped": after,
        "clipped_fraction": (after < before * (1 - 1e-6)).astype(before.dtype),
        "count": jnp.ones((), before.dtype),
    }


def every(interval: int, step: jax.Array, function: Callable, *operands) -> dict[str, jax.Array]:
    """Return `function(*operands)` with `count` 1 on every `interval`-th step, else zeros.

    The first step is one of them, and then each whose number (from 1) `interval` divides.
    """
    shapes = jax.eval_shape(function, *operands)
    now = (step == 0) | ((step + 1) % interval == 0)
    values = jax.lax.cond(
        now,
        function,
        lambda *_: jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes),
        *operands,
    )
    return values | {"count": now.astype(jnp.float32)}


def diagnose(params, gradient, updates, endpoints) -> dict[str, jax.Array]:
    """Return what tells a healthy layer from a sick one, as `{"quantity/layer": scalar}`.

    `gradient_norm`, `parameter_norm` (both Euclidean) and `update_ratio` (norm of the update over
    norm of the parameter that it changes) by kernel; `dead_units` by activation: the share of its
    channels that are 0 on the whole batch.
    """
    norms = {}
    leaves = jax.tree_util.tree_flatten_with_path(params)[0]
    for (path, parameter), g, u in zip(
        leaves, jax.tree.leaves(gradient), jax.tree.leaves(updates), strict=True
    ):
        if parameter.ndim < 2:  # scales and biases belong to the layer before them
            continue
        layer = "/".join(p.key for p in path[:-1])
        size = jnp.linalg.norm(parameter)
        norms[f"gradient_norm/{layer}"] = jnp.linalg.norm(g)
        norms[f"parameter_norm/{layer}"] = size
        norms[f"update_ratio/{layer}"] = jnp.linalg.norm(u) / jnp.maximum(size, 1e-12)
    for name, activation in endpoints.items():
        if name.rpartition("/")[2].startswith("act"):
            dead = jnp.all(activation == 0, axis=tuple(range(activation.ndim - 1)))
            norms[f"dead_units/{name}"] = jnp.mean(dead.astype(jnp.float32))
    return norms
