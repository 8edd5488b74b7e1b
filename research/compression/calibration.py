"""The range of what enters each layer, by which activations are quantised.

A range r is symmetric, −r to r, one number a layer. It lies beside the parameters in a collection
of its own, as `{"conv1": {"inputs": r}, …}`; 0 means that it has not been found yet.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from research.config import UserError
from research.models.rnn.parallel import PARALLEL
from research.models.rnn.recurrent import Direction
from research.models.rnn.scan import Inputs

RANGES = "ranges"  # the collection

# Those that multiply their inputs with a kernel. The state of a recurrent layer stays as it is.
LAYERS = (nn.Conv, nn.ConvLocal, nn.Dense, Direction, *PARALLEL.values())

METHODS = ("absmax", "percentile", "mse")
PERCENTILE = 99.9

# Magnitudes are counted in bins that each reach 2^(1/64), or 1.1 %, beyond the one before.
FINE, OCTAVES = 64, 40  # a bin's share of an octave; octaves, half of them below 1
BOUND = 127.5  # of eight bits, as qwix has it: ±127, and half a step around them


@contextlib.contextmanager
def each_input(change: Callable[[tuple[str, ...], jax.Array], jax.Array]) -> Iterator[None]:
    """Within, call every layer with `change(path, x)` in place of its input x, [N, …]."""

    def intercept(next_function, arguments, keywords, context):
        if isinstance(context.module, LAYERS) and context.method_name == "__call__":
            x, *others = arguments
            path = context.module.path
            x = x._replace(x=change(path, x.x)) if isinstance(x, Inputs) else change(path, x)
            arguments = (x, *others)
        return next_function(*arguments, **keywords)

    with nn.intercept_methods(intercept):
        yield


def quantize_inputs(x: jax.Array, limit: jax.Array) -> jax.Array:
    """Return `x` in steps of eight bits over the range −`limit` to `limit`.

    What lies beyond is cut off, and has no gradient; the steps have that of the identity. Where
    the limit is 0, `x` is left as it is.
    """
    wide = x.astype(jnp.float32)
    step = jnp.where(limit > 0, limit, 1.0) / BOUND
    cut = jnp.clip(wide, -limit, limit)
    seen = jnp.clip(jnp.round(wide / step), -128, 127) * step
    seen = (cut + jax.lax.stop_gradient(seen - cut)).astype(x.dtype)
    return jnp.where(limit > 0, seen, x)


@dataclasses.dataclass(frozen=True)
class Seen:
    """What entered a layer.

    Attributes:
        largest: the largest magnitude.
        counts: [FINE·OCTAVES], how many magnitudes fell into each bin; 0 into the first. Integers
            of a batch, and sums of batches in float64: float32 counts no further than 2^24.
    """

    largest: Any
    counts: Any

    def __add__(self, other: "Seen") -> "Seen":
        counts = np.add(self.counts, other.counts, dtype=np.float64)
        return Seen(np.maximum(self.largest, other.largest), counts)


jax.tree_util.register_dataclass(Seen, ["largest", "counts"], [])


def observe(evaluate: Callable, variables: Any, batch: Any) -> dict[str, Seen]:
    """Return what enters each layer, by its path, as `evaluate(variables, batch)` runs.

    Args:
        evaluate: a task's.
        variables: those whose inputs are not quantised yet: all ranges are 0.
        batch: has a `mask`, 0 for rows that do not count; of sequences a `length`, beyond which
            their steps do not.
    """
    found: dict[str, Seen] = {}

    def look(path, x):
        size = jnp.abs(x.astype(jnp.float32))
        real = batch["mask"].reshape(-1, *(1,) * (x.ndim - 1)) > 0
        if "length" in batch and x.ndim > 2 and x.shape[1] == batch["inputs"].shape[1]:
            steps = jnp.arange(x.shape[1]) < batch["length"][:, None]
            real &= steps.reshape(*steps.shape, *(1,) * (x.ndim - 2))
        size = jnp.where(real, size, 0)
        place = FINE * (jnp.log2(jnp.maximum(size, 2.0**-OCTAVES)) + OCTAVES // 2)
        place = jnp.clip(place, 0, FINE * OCTAVES - 1).astype(jnp.int32)
        ones = jnp.broadcast_to(real, x.shape).astype(jnp.int32)
        counts = jnp.zeros(FINE * OCTAVES, jnp.int32).at[place].add(ones)
        name, seen = "/".join(path), Seen(size.max(), counts)
        if name in found:  # a layer that is called more than once
            before = found[name]
            seen = Seen(jnp.maximum(before.largest, seen.largest), before.counts + seen.counts)
        found[name] = seen
        return x

    with each_input(look):
        evaluate(variables, batch)
    return found


def calibrate(observed: Iterable[dict[str, Seen]], method: str) -> dict[str, Any]:
    """Return the ranges that batches of examples ask for.

    Args:
        observed: of each batch, as `observe` returns it.
        method: `absmax`, the largest magnitude; `percentile`, that which `PERCENTILE` % of all stay
            below; `mse`, the range of the least expected squared error: that of rounding, of a
            twelfth of a step squared, and that of what is cut off.

    Raises:
        UserError: there is no batch.

    References:
        H. Wu et al., Integer Quantization for Deep Learning Inference, 2020, §4 (max, percentile);
        R. Banner et al., Post training 4-bit quantization of convolutional networks, NeurIPS 2019,
        §3 (the expected error).
    """
    total: dict[str, Seen] = {}
    for batch in observed:
        for name, seen in jax.device_get(batch).items():
            total[name] = total[name] + seen if name in total else seen
    if not total:
        raise UserError(
            "quantize.batches: found no example to calibrate on, expected a batch at least"
        )
    return unflatten_dict(
        {
            (*name.split("/"), "inputs"): np.float32(_range(seen, method))
            for name, seen in total.items()
        }
    )


def _range(seen: Seen, method: str) -> float:
    largest = float(seen.largest)
    if method == "absmax" or largest == 0:
        return largest
    edges = 2.0 ** (np.arange(1, FINE * OCTAVES + 1) / FINE - OCTAVES // 2)  # upper ones
    counts = np.asarray(seen.counts, np.float64)
    if method == "percentile":
        below = np.cumsum(counts) / counts.sum()
        return min(largest, float(edges[np.searchsorted(below, PERCENTILE / 100)]))
    sizes = edges * 2.0 ** (-0.5 / FINE)  # the middles of the bins
    candidates = largest * np.arange(20, 129) / 128
    steps = candidates / BOUND
    # A magnitude below half a step is rounded to 0.
    rounding = np.minimum(steps[:, None] ** 2 / 12, sizes**2)
    beyond = np.maximum(sizes - candidates[:, None], 0) ** 2
    errors = np.where(sizes <= candidates[:, None], rounding, beyond) @ counts
    return float(candidates[errors.argmin()])


def fresh_ranges(paths: Iterable[tuple[str, ...]]) -> dict[str, Any]:
    """Return ranges of 0 for the layers at `paths`."""
    return unflatten_dict({(*path, "inputs"): jnp.zeros(()) for path in paths})


def range_of(ranges: Any, path: tuple[str, ...]) -> jax.Array | None:
    """Return the range of the layer at `path`; None where it has none."""
    return flatten_dict(ranges).get((*path, "inputs"))
