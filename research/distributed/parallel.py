"""A step compiled for a mesh, in one of three ways that give the same numbers.

- jit: the compiler splits the whole program after the shardings of what enters and leaves it.
- shard_map: each device runs the step on its rows, and the step adds up what they share.
- pmap: the same in the older form, over a leading axis of devices.

The last two split the batch only: what each device holds of the state is its own affair in `jit`
alone.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from research.config import UserError
from research.distributed.mesh import batch_sharding, batch_shards, replicated
from research.distributed.platform import spread
from research.distributed.sharding import Rules, shardings

AXIS = "data"  # over which the devices of shard_map and pmap add up


def check_parallel(parallel: str, mesh: Mesh) -> None:
    """Raise a `UserError` for a mesh that the way `parallel` is not for."""
    for axis in ("fsdp", "model"):
        if parallel != "jit" and mesh.shape[axis] > 1:
            raise UserError(
                f"--parallel: found {parallel!r} with --mesh={axis}:{mesh.shape[axis]}, expected "
                f"'jit': {parallel} splits the batch only"
            )
    processes = len({device.process_index for device in mesh.devices.flat})
    if parallel == "pmap" and processes > 1:
        raise UserError(
            f"--parallel: found 'pmap' with {processes} processes, expected 'jit' or 'shard_map': "
            "inside a compiled step it knows the devices of one process only"
        )


def compile_for(
    mesh: Mesh, function: Callable, state: Any, batch: Any, *, rules: Rules, donate: bool = False
) -> Callable:
    """Compile `function(state, batch)` ahead of time: the state by the rules, the batch by rows.

    Args:
        mesh: the run's devices.
        function: pure; what it returns is split by the rules, too: a new state as the old one,
            and all that they do not name is replicated.
        state: arrays or their shapes.
        batch: arrays or their shapes.
        rules: of the model's family.
        donate: whether the state's buffers may be reused for the result.
    """
    with spread(batch_shards(mesh)):
        jitted = jax.jit(
            function,
            in_shardings=(shardings(state, mesh, rules), batch_sharding(mesh)),
            out_shardings=shardings(jax.eval_shape(function, state, batch), mesh, rules),
            donate_argnums=0 if donate else (),
        )
        return jitted.lower(state, batch).compile()


def compile_step(
    parallel: str, mesh: Mesh, make_step: Callable, state: Any, batch: Any, *, rules: Rules
) -> Callable:
    """Compile a training step ahead of time; it donates the state.

    Args:
        parallel: `jit`, `shard_map` or `pmap`.
        mesh: the run's devices.
        make_step: `make_step(axis=None)` returns `step(state, batch) → (state, metrics)`; with the
            name of an axis, one that sees a device's rows and adds up over that axis.
        state: arrays or their shapes.
        batch: arrays or their shapes.
        rules: of the model's family.

    Raises:
        UserError: a mesh that this way is not for.
    """
    check_parallel(parallel, mesh)
    if parallel == "jit":
        return compile_for(mesh, make_step(), state, batch, rules=rules, donate=True)
    step = make_step(axis=AXIS)
    # Over one axis only: a collective names all that it adds up over.
    line = Mesh(mesh.devices.reshape(-1), (AXIS,), axis_types=mesh.axis_types[:1])
    places = shardings(state, mesh, rules)
    rows = jax.tree.map(_rows_at, places)
    if parallel == "shard_map":
        specs = jax.tree.map(
            lambda at: PartitionSpec(*[None] * at, AXIS) if at >= 0 else PartitionSpec(), rows
        )
        mapped = jax.shard_map(
            step,
            mesh=line,
            in_specs=(specs, PartitionSpec(AXIS)),
            out_specs=(specs, PartitionSpec()),
            check_vma=False,  # of the state it cannot tell that all devices compute the same
        )
    else:
        axes = jax.tree.map(lambda at: at if at >= 0 else None, rows)
        count = batch_shards(mesh)
        pmapped = jax.pmap(
            step, AXIS, in_axes=(axes, 0), out_axes=(axes, None), devices=list(mesh.devices.flat)
        )

        def mapped(state, batch):
            state = jax.tree.map(partial(_deal, count), state, rows)
            new, metrics = pmapped(state, jax.tree.map(lambda x: _deal(count, x, 0), batch))
            return jax.tree.map(_collect, new, rows), metrics

    jitted = jax.jit(
        mapped,
        in_shardings=(places, batch_sharding(mesh)),
        out_shardings=(places, replicated(mesh)),
        donate_argnums=0,
    )
    return jitted.lower(state, batch).compile()


def _rows_at(place: NamedSharding) -> int:
    """Which dimension of an array of the state has a row for each of the batch's; -1: none."""
    return next((i for i, part in enumerate(place.spec) if part is not None), -1)


def _deal(count: int, x: jax.Array, at: int) -> jax.Array:
    """Part dimension `at` among so many devices: […, N, …] → […, devices, N / devices, …]."""
    if at < 0:
        return x
    return x.reshape(*x.shape[:at], count, -1, *x.shape[at + 1 :])


def _collect(x: jax.Array, at: int) -> jax.Array:
    return x if at < 0 else x.reshape(*x.shape[:at], -1, *x.shape[at + 2 :])
