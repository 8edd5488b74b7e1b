"""Everything that training changes, as one pytree."""

import hashlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from research.distributed.cluster import spread


class TrainState(struct.PyTreeNode):
    """The state of one run.

    Attributes:
        step: int32 scalar, optimiser steps taken; also the position in the stream of batches.
        params: what the gradient moves.
        collections: what the forward pass moves (`batch_stats`), `{}` for a model without any.
        opt_state: the optimiser's, with the runtime hyperparameters inside.
        key: the run's PRNG key; step i draws from `fold_in(key, i)`.
        ema: average of `params`, a moving one or that of the last steps, or None.
    """

    step: jax.Array
    params: Any
    collections: Any
    opt_state: Any
    key: jax.Array
    ema: Any = None

    @property
    def variables(self) -> dict[str, Any]:
        """What is evaluated: the averaged parameters where there are some."""
        params = self.params if self.ema is None else self.ema
        return {"params": params, **self.collections}


def create_state(task, optimizer, key, batch, hyperparams, *, ema: bool = False) -> TrainState:
    """Return the state before the first step.

    Args:
        task: has `init(key, batch) → variables`.
        optimizer: as `research.train.optimizer.make_optimizer` returns.
        key: the seed's PRNG key.
        batch: an example batch; only its shapes matter.
        hyperparams: runtime values by name, `{"learning_rate": …, "clip_threshold": …}`.
        ema: whether to keep averaged parameters.
    """
    init_key, key = jax.random.split(key)
    collections = task.init(init_key, batch)
    params = collections.pop("params")
    opt_state = optax.tree.set(optimizer.init(params), **hyperparams)
    # A copy: the averaged and the raw parameters must not share a buffer that is donated.
    average = jax.tree.map(jnp.copy, params) if ema else None
    return TrainState(jnp.zeros((), jnp.int32), params, collections, opt_state, key, average)


def start_from(state: TrainState, variables: Any) -> TrainState:
    """Return `state` with other parameters and collections, cast and placed as its own are."""

    def place(new, old):
        return spread(np.array(new, old.dtype), old.sharding)

    collections = dict(variables)
    params = collections.pop("params")
    return state.replace(
        params=jax.tree.map(place, params, state.params),
        collections=jax.tree.map(place, collections, state.collections),
        ema=None if state.ema is None else jax.tree.map(place, params, state.ema),
    )


def params_digest(params: Any) -> str:
    """Return the SHA-256 of the parameters' bytes, in path order, as hexadecimal."""
    digest = hashlib.sha256()
    leaves = jax.tree_util.tree_flatten_with_path(params)[0]
    for _, leaf in sorted(leaves, key=lambda item: jax.tree_util.keystr(item[0])):
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()
