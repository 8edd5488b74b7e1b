"""One training step as a pure function; where it runs is not its business."""

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from research.distributed.platform import platform
from research.inspection.gradient_flow import layer_norms
from research.inspection.units import dead_units
from research.tasks.through_time import through_time
from research.train.loss_scaling import where_finite
from research.train.state import TrainState
from research.transfer.batch_norm import synchronized_batch_norms

Metrics = dict[str, dict[str, jax.Array]]


def make_train_step(
    task,
    optimizer: optax.GradientTransformation,
    *,
    accumulate: int = 1,
    ema: float = 0.0,
    swa_start: int | None = None,
    diagnostics_every: int = 0,
    parts: int = 1,
    axis: str | None = None,
) -> Callable[[TrainState, Mapping[str, jax.Array]], tuple[TrainState, Metrics]]:
    """Return `step(state, batch) → (state, metrics)`: forward → loss → gradient → clip → update.

    Args:
        task: has `loss(variables, batch, key) → (loss, (collections, metric sums, endpoints))`.
        optimizer: as `research.train.optimizer.make_optimizer` returns, perhaps within
            `research.train.loss_scaling`.
        accumulate: micro-batches whose mean gradient makes the step; divides the batch.
        ema: decay of the averaged parameters, 0 for none.
        swa_start: steps after which the averaged parameters are the mean of those that each step
            leaves, and before which they are the last (P. Izmailov et al., Averaging Weights Leads
            to Wider Optima and Better Generalization, UAI 2018, Algorithm 1 with c = 1); None for
            none.
        diagnostics_every: steps between the diagnostics by layer and, of a recurrent network,
            through time; 0 for none.
        parts: into which batch norm splits the batch, each normalised by itself: 1, or the number
            of devices that hold its rows.
        axis: over which the devices of a `shard_map` or `pmap` add up, each of which calls the step
            with its own rows; None where it is called with all. Devices draw each for itself, so
            that with dropout or augmentation the numbers are others than without an axis; but for
            that they are the same.

    Returns:
        A function whose metrics are groups of sums, each beside its `count`: `examples` (loss,
        accuracy), `updates` (gradient norms, share of clipped steps), and `diagnostics` (count is 0
        on the steps between).
    """

    def loss_and_gradient(params, collections, batch, key, scale=None):
        def scaled_loss(params):
            value, others = loss(params)
            return value * scale.astype(value.dtype), others

        def loss(params):
            variables = {"params": params, **collections}
            if not axis and parts == 1:
                return task.loss(variables, batch, key)
            if not axis:
                return in_parts(task.loss, parts, variables, batch, key)
            with synchronized_batch_norms(axis) if parts == 1 else contextlib.nullcontext():
                value, (new, sums, endpoints) = task.loss(variables, batch, key)
            # Of the mean over all devices' examples, the part that is due to these.
            count = sums["count"].astype(value.dtype)
            value *= count / jax.lax.psum(count, axis)
            return value, (new, sums, endpoints)

        differentiate = jax.value_and_grad(loss if scale is None else scaled_loss, has_aux=True)
        (_, (collections, sums, endpoints)), gradient = differentiate(params)
        if scale is not None:
            gradient = jax.tree.map(lambda g: g / scale, gradient)
        return gradient, collections, sums, endpoints

    def accumulated(params, collections, batch, key, scale=None):
        def micro_step(carry, item):
            total, collections = carry
            gradient, collections, sums, endpoints = loss_and_gradient(
                params, collections, *item, scale
            )
            return (jax.tree.map(jnp.add, total, gradient), collections), (sums, endpoints)

        # Every `accumulate`-th row each, so that a device keeps the rows that it holds.
        micro = jax.tree.map(
            lambda x: x.reshape(-1, accumulate, *x.shape[1:]).swapaxes(0, 1), batch
        )
        zeros = jax.tree.map(jnp.zeros_like, params)
        (gradient, collections), (sums, endpoints) = jax.lax.scan(
            micro_step,
            (zeros, collections),
            (micro, jax.random.split(key, accumulate)),
            unroll=platform() == "cpu",  # XLA:CPU convolves many times slower in a loop
        )
        gradient = jax.tree.map(lambda g: g / accumulate, gradient)
        sums = jax.tree.map(lambda x: x.sum(0), sums)
        endpoints = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), endpoints)
        return gradient, collections, sums, endpoints

    forward_backward = accumulated if accumulate > 1 else loss_and_gradient

    def step(state: TrainState, batch) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(state.key, state.step)
        if axis and jax.lax.axis_size(axis) > 1:
            key = jax.random.fold_in(key, jax.lax.axis_index(axis))
        scale = optax.tree.get(state.opt_state, "loss_scale")  # None: the loss is taken as it is
        gradient, collections, sums, endpoints = forward_backward(
            state.params, state.collections, batch, key, scale
        )
        if axis:
            gradient, sums = jax.lax.psum((gradient, sums), axis)
            if "batch_stats" in collections:
                averages = jax.lax.pmean(collections["batch_stats"], axis)
                collections = {**collections, "batch_stats": averages}
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
        if swa_start is not None:
            share = 1 / (1 + jnp.maximum(state.step - swa_start, 0))
            average = jax.tree.map(
                lambda a, p: a + (p - a) * share.astype(p.dtype), state.ema, params
            )
        if scale is not None:
            metrics["updates"] |= {"loss_scale": scale}
            finite = optax.tree.get(opt_state, "finite")
            collections, average = where_finite(
                finite, (collections, average), (state.collections, state.ema)
            )
        state = state.replace(
            step=state.step + 1,
            params=params,
            collections=collections,
            opt_state=opt_state,
            ema=average,
        )
        return state, metrics

    return step


def in_parts(loss: Callable, parts: int, variables: Any, batch: Any, key: jax.Array):
    """As `loss(variables, batch, key)` of a batch whose `parts` do not see each other's statistics.

    The parts are consecutive rows, as many devices would hold them. New collections are the mean
    over the parts.

    References:
        E. Hoffer et al., Train longer, generalize better, 2017, §5 (ghost batch normalisation).
    """
    split = jax.tree.map(lambda x: x.reshape(parts, -1, *x.shape[1:]), batch)
    values, (collections, sums, endpoints) = jax.vmap(loss, in_axes=(None, 0, 0))(
        variables, split, jax.random.split(key, parts)
    )
    count = sums["count"].astype(values.dtype)
    value = jnp.sum(values * count) / jnp.sum(count)
    collections = jax.tree.map(lambda x: x.mean(0), collections)
    sums = jax.tree.map(lambda x: x.sum(0), sums)
    endpoints = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), endpoints)
    return value, (collections, sums, endpoints)


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
    sizes, changes = layer_norms(params), layer_norms(updates)
    ratios = {layer: changes[layer] / jnp.maximum(sizes[layer], 1e-12) for layer in sizes}
    found = {
        "gradient_norm": layer_norms(gradient),
        "parameter_norm": sizes,
        "update_ratio": ratios,
        "dead_units": dead_units(endpoints),
    }
    return {f"{what}/{layer}": x for what, layers in found.items() for layer, x in layers.items()}
