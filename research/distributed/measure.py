"""What the devices here do at their best, measured: the chip that `--topology=host:n` plans for.

Figures of a data sheet say what a chip could do; these say what products of matrices, passes over
memory and sums over devices reach, with all devices at work, so that a plan made of them can be
held against the step itself.
"""

import math
import os
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from research.distributed.chips import Chip, Nodes

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16, "float64": jnp.float64}
# By platform: the side of matrices, the bytes of an array that no cache holds.
SIZES = {"cpu": (1024, 2**26)}
LARGE = (8192, 2**30)


def measured(devices: list[jax.Device], precisions: Iterable[str]) -> Chip:
    """Measure each of `devices` while all of them work; takes seconds.

    Args:
        devices: of one machine.
        precisions: of `train.precision` at which to multiply.
    """
    side, nbytes = SIZES.get(devices[0].platform, LARGE)
    mesh = Mesh(np.array(devices), ("all",))
    split = NamedSharding(mesh, PartitionSpec("all"))
    count = len(devices)

    def ones(shape: tuple[int, ...], dtype: Any) -> jax.Array:
        make = partial(jnp.ones, (count, *shape), dtype)
        return jax.jit(make, out_shardings=split)()

    flops = {}
    for precision in precisions:
        with jax.enable_x64(precision == "float64"):
            matrix = ones((side, side), DTYPES[precision])
            multiply = jax.jit(lambda x: x @ x, out_shardings=split)
            flops[precision] = 2 * side**3 / best_seconds(multiply, matrix)
    array = ones((nbytes // 4,), jnp.float32)
    bandwidth = 2 * nbytes / best_seconds(jax.jit(lambda x: x + 1, out_shardings=split), array)
    network = Nodes(count, math.inf, math.inf)
    if count > 1:
        add = jax.jit(
            jax.shard_map(
                lambda x: jax.lax.psum(x, "all"),
                mesh=mesh,
                in_specs=PartitionSpec("all"),
                out_specs=PartitionSpec(),
            )
        )
        start = best_seconds(add, ones((1,), jnp.float32))
        seconds = max(best_seconds(add, array) - start, 1e-9)
        each = 2 * nbytes * (count - 1) / count / seconds
        network = Nodes(count, each, math.inf, start)
    return Chip("host", flops, _memory(devices), bandwidth, network)


def _memory(devices: list[jax.Device]) -> float:
    """Bytes of each: what the device says, or its share of the machine's."""
    stats = devices[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return stats["bytes_limit"]
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / len(devices)


def best_seconds(function: Callable, argument: Any, times: int = 5) -> float:
    """Return the shortest of some calls, in seconds; one before them compiles."""
    found = []
    for _ in range(times + 1):
        began = time.perf_counter()
        jax.block_until_ready(function(argument))
        found.append(time.perf_counter() - began)
    return min(found[1:])


def step_seconds(step: Callable, state: Any, batch: Any, times: int = 5) -> float:
    """Return the median seconds of a compiled step, which donates the state; the first is not
    counted."""
    found = []
    for _ in range(times + 1):
        began = time.perf_counter()
        state, metrics = step(state, batch)
        jax.block_until_ready((state, metrics))
        found.append(time.perf_counter() - began)
    return float(np.median(found[1:]))
