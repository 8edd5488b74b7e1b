"""How long what the devices of a step pass to one another takes them."""

from collections.abc import Callable, Iterable
from functools import cache, partial

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from research.distributed.collectives import Collective
from research.distributed.measure import best_seconds

SMALL = 4096  # bytes, whose time is that of the start
REPEATS = 3


def replayed(found: Iterable[Collective], mesh: Mesh) -> float:
    """Return the seconds that a step's collectives take when nothing else runs.

    Two sizes of each kind along each axis are timed on the devices of `mesh`, those between taken
    to lie on a line: a start and a bandwidth.

    Args:
        found: what `collectives` finds in the step.
        mesh: that it was compiled for.
    """
    found, seconds = tuple(found), 0.0
    for kind, axes in dict.fromkeys((each.kind, each.axes) for each in found):
        alike = [each for each in found if (each.kind, each.axes) == (kind, axes)]
        largest = max(each.nbytes for each in alike)
        start = _seconds(kind, axes, SMALL, mesh)
        slope = 0.0
        if largest > SMALL:
            slope = max(0.0, _seconds(kind, axes, largest, mesh) - start) / (largest - SMALL)
        for each in alike:
            seconds += each.times * (start + slope * max(0, each.nbytes - SMALL))
    return seconds


@cache
def _seconds(kind: str, axes: tuple[str, ...], nbytes: int, mesh: Mesh) -> float:
    """Time one collective of an array of so many bytes: the least of a few."""
    size = 1
    for axis in axes:
        size *= mesh.shape[axis]
    run: dict[str, Callable] = {
        "all-reduce": partial(jax.lax.psum, axis_name=axes),
        "all-gather": lambda x: jax.lax.all_gather(x[: len(x) // size], axes, tiled=True),
        "reduce-scatter": partial(jax.lax.psum_scatter, axis_name=axes, tiled=True),
        "all-to-all": lambda x: jax.lax.all_to_all(x, axes, 0, 0, tiled=True),
        "collective-permute": partial(
            jax.lax.ppermute, axis_name=axes, perm=[(i, (i + 1) % size) for i in range(size)]
        ),
    }
    # A row for each device; the numbers in it divide among all.
    numbers = max(1, nbytes // 4 // size) * size
    rows = PartitionSpec(mesh.axis_names)

    def alone(x):
        return run[kind](x[0])[None]

    replay = jax.jit(
        jax.shard_map(alone, mesh=mesh, in_specs=rows, out_specs=rows, check_vma=False)
    )
    sharding = jax.sharding.NamedSharding(mesh, rows)
    data = jax.jit(lambda: jnp.zeros((mesh.size, numbers), jnp.float32), out_shardings=sharding)()
    return best_seconds(replay, data, REPEATS)
