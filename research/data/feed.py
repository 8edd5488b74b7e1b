"""Feeds: batches on the device, shuffled by seed, from any step on.

Two feeds deliver the same bits. `resident` keeps the split on the devices and gathers batches
there; `streaming` decodes with Grain and sends batches ahead of their use. The order is a pure
function of (seed, position), so the position that a checkpoint keeps is one integer, the step.
"""

import atexit
import contextlib
import functools
import itertools
import weakref
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jax.sharding import NamedSharding, PartitionSpec, Sharding

from research.config import UserError, unknown
from research.data.buckets import WINDOW, Buckets, Cuts, cut
from research.data.split import Split
from research.data.stream import Stream

KINDS = ("auto", "resident", "streaming")
RESIDENT_BYTES = 2**30  # the largest split that `auto` keeps on the device
THREADS = 4  # decoding batches, per process; more would fight over Python's lock
AHEAD = 2  # batches on the device before their use

Batch = dict[str, jax.Array]
_open_feeds: weakref.WeakSet[Iterator[Batch]] = weakref.WeakSet()


@functools.lru_cache(maxsize=16)
def _permutation(size: int, seed: int, epoch: int) -> np.ndarray:
    order = np.random.default_rng((seed, epoch)).permutation(size)
    order.flags.writeable = False  # it is shared
    return order


def batch_indices(step: int, *, size: int, batch_size: int, seed: int) -> np.ndarray:
    """Return the examples of a training batch: int64[batch_size] in [0, size).

    The stream is one epoch after another, each a permutation of its own; batches straddle them.

    Args:
        step: number of the batch, from 0.
        size: number of examples in the split.
        batch_size: of the global batch, over all hosts.
        seed: of the shuffle, non-negative.
    """
    positions = np.arange(step * batch_size, (step + 1) * batch_size)
    epochs, offsets = np.divmod(positions, size)
    indices = np.empty(batch_size, np.int64)
    for epoch in range(epochs[0], epochs[-1] + 1):
        within = epochs == epoch
        indices[within] = _permutation(size, seed, epoch)[offsets[within]]
    return indices


def _grouped(step: int, *, buckets: Buckets, size: int, batch_size: int, seed: int) -> np.ndarray:
    """As `batch_indices`, but that the examples of `WINDOW` batches are dealt to them by length."""
    batches = min(WINDOW, size // batch_size)  # an epoch at most
    window, place = divmod(step, batches)
    held = batch_indices(window, size=size, batch_size=batches * batch_size, seed=seed)
    return buckets.sort(held, batch_size, np.random.default_rng((seed, window, batches)))[place]


def make_feed(
    split: Split,
    *,
    kind: str,
    batch_size: int,
    seed: int,
    sharding: Sharding,
    buckets: int = 1,
    workers: int = 0,
    start: int = 0,
) -> Iterator[Batch]:
    """Yield training batches on the device, for ever.

    Safe to call from several threads, each with a sharding of its own.

    Args:
        split: the examples.
        kind: `resident`, `streaming`, or `auto`: resident up to 1 GiB.
        batch_size: of the global batch, over all hosts and devices.
        seed: of the shuffle, non-negative.
        sharding: of the batch dimension: a `SingleDeviceSharding`, or a `NamedSharding` whose
            first dimension is the batch, over mesh axes of type Auto.
        buckets: numbers of steps, evenly from 0 to those of the longest sequence, to which batches
            are padded; above 1, the examples of a batch are of about one length.
        workers: processes that decode (streaming only); 0 decodes in threads of this one.
        start: the first step to deliver.

    Returns:
        A generator of dicts: the arrays that the split's `spec` names, [B, ...] each, and `mask`,
        float32[B], all ones. `close()` ends its threads and processes. A `Stream` is not shuffled:
        its batches follow each other in the text.

    Raises:
        UserError: an unknown kind, a batch size that is larger than the split or does not divide
            over the devices, or buckets of what has no length.
    """
    padding = Buckets.of(split, buckets)
    if not 0 < batch_size <= len(split):
        raise UserError(
            f"data.batch_size: found {batch_size}, expected 1 to {len(split)}, the number of "
            f"examples {split.name} has to train on"
        )
    if isinstance(split, Stream):
        split = split.rows(batch_size, whole=False)
        choose = functools.partial(_round, size=len(split), batch_size=batch_size)
    else:
        choose = functools.partial(batch_indices, size=len(split), batch_size=batch_size, seed=seed)
        if buckets > 1:
            choose = functools.partial(_grouped, buckets=padding, **choose.keywords)
    return _feed(split, choose, start, None, kind, batch_size, sharding, workers, padding)


def evaluation_batches(
    split: Split, *, batch_size: int, sharding: Sharding, kind: str = "auto", workers: int = 0
) -> Iterator[Batch]:
    """Yield every example exactly once, in order, as batches like those of `make_feed`.

    The last batch is filled up with zeros, whose mask is 0. Of a `Stream` every token is a target
    once, in `batch_size` streams side by side: a model begins each of them without the text before.

    Raises:
        UserError: an unknown kind, or a batch size that does not divide over the devices.
    """
    if batch_size < 1:
        raise UserError(f"data.batch_size: found {batch_size}, expected at least 1")
    if isinstance(split, Stream):
        split = split.rows(batch_size, whole=True)
    choose = functools.partial(_in_order, size=len(split), batch_size=batch_size)
    steps = -(-len(split) // batch_size)
    return _feed(split, choose, 0, steps, kind, batch_size, sharding, workers)


def padding_share(split: Split, *, batch_size: int, seed: int, buckets: int = 1) -> float:
    """Return the share of the steps of an epoch's training batches that is padding.

    Of inputs, and of targets where they have a length of their own; 0 of what has no length. All
    devices that share a batch compute as many steps, real or not.
    """
    if "length" not in split.spec or isinstance(split, Stream):
        return 0.0
    padding, arrays = Buckets.of(split, buckets), split.arrays()
    choose = functools.partial(batch_indices, size=len(split), batch_size=batch_size, seed=seed)
    if buckets > 1:
        choose = functools.partial(_grouped, buckets=padding, **choose.keywords)
    real = computed = 0
    for step in range(len(split) // batch_size):
        indices = choose(step)
        steps = dict(padding.fit(indices))
        for name, length in (("inputs", "length"), ("targets", "target_length")):
            if length in arrays:
                real += int(arrays[length][indices].sum())
                width = arrays[name].shape[1]
                computed += batch_size * min(width, steps.get(name, width))
    return 1 - real / computed


def is_resident(split: Split, kind: str) -> bool:
    """Whether the feed `kind` keeps the split on the devices; `auto` does up to 1 GiB."""
    return kind == "resident" or (kind == "auto" and split.nbytes <= RESIDENT_BYTES)


def _in_order(step: int, *, size: int, batch_size: int) -> np.ndarray:
    """Return the examples of an evaluation batch: int64[batch_size], -1 past the end."""
    indices = np.arange(step * batch_size, (step + 1) * batch_size)
    return np.where(indices < size, indices, -1)


def _round(step: int, *, size: int, batch_size: int) -> np.ndarray:
    """Return the rows of a training batch of streams, which begin anew after their last chunk."""
    return (step * batch_size + np.arange(batch_size)) % size


def _feed(
    split: Split,
    choose: Callable[[int], np.ndarray],
    start: int,
    stop: int | None,
    kind: str,
    batch_size: int,
    sharding: Sharding,
    workers: int,
    buckets: Buckets | None = None,
) -> Iterator[Batch]:
    """Deliver the batches `choose(step)`, step from `start` to `stop` (None: no end)."""
    if kind not in KINDS:
        raise unknown("data.feed", kind, KINDS)
    rows = _local_rows(batch_size, sharding)

    def chosen(step: int) -> tuple[np.ndarray, Cuts]:
        """The examples that this host reads, cut as all of the batch."""
        indices = choose(step)
        return indices[rows], buckets.fit(indices) if buckets else ()

    def place(local: np.ndarray) -> jax.Array:
        shape = (batch_size, *local.shape[1:])
        return jax.make_array_from_process_local_data(sharding, local, shape)

    if is_resident(split, kind):
        return _resident(split, chosen, start, stop, place, sharding)
    feed = _streaming(split, chosen, start, stop, place, workers)
    _open_feeds.add(feed)
    return feed


@atexit.register
def _close_feeds() -> None:
    """Close what was left open, while there still are modules for Grain to close it with."""
    for feed in list(_open_feeds):
        with contextlib.suppress(ValueError):  # another thread is inside it
            feed.close()


def _local_rows(batch_size: int, sharding: Sharding) -> np.ndarray:
    """Return the rows of a global batch that this host's devices hold, in order.

    With the batch spread over H hosts that is this host's contiguous 1/H.
    """
    # Any array with as many rows as devices divides, so this counts the shards of a batch.
    probe = sharding.devices_indices_map((sharding.num_devices,))
    shards = len({rows.indices(sharding.num_devices) for (rows,) in probe.values()})
    if batch_size % shards:
        nearest = max(1, round(batch_size / shards)) * shards
        raise UserError(
            f"data.batch_size: {batch_size} does not divide over {shards} devices; the nearest "
            f"that does is {nearest}"
        )
    held = sharding.addressable_devices_indices_map((batch_size,)).values()
    return np.unique(np.concatenate([np.arange(batch_size)[rows] for rows in held]))


def _resident(
    split: Split,
    chosen: Callable[[int], tuple[np.ndarray, Cuts]],
    start: int,
    stop: int | None,
    place: Callable[[np.ndarray], jax.Array],
    sharding: Sharding,
) -> Iterator[Batch]:
    """Gather batches on the devices, from a copy of the split on each."""
    everywhere = sharding
    if isinstance(sharding, NamedSharding):
        everywhere = NamedSharding(sharding.mesh, PartitionSpec())

    def upload() -> Batch:
        return {
            name: jax.make_array_from_process_local_data(everywhere, array, array.shape)
            for name, array in split.arrays().items()
        }

    arrays = split.remember(("resident", everywhere), upload)
    gather = _gather(sharding)
    for step in itertools.count(start) if stop is None else range(start, stop):
        indices, cuts = chosen(step)
        yield gather(arrays, place(indices.astype(np.int32)), cuts)


@functools.lru_cache(maxsize=32)
def _gather(sharding: Sharding) -> Callable[..., Batch]:
    """Compile the choice of rows; an index of -1 gives zeros, masked."""

    def gather(arrays, indices, cuts):
        real = indices >= 0
        rows = jnp.maximum(indices, 0)

        def choose(array):
            chosen = real.reshape(-1, *[1] * (array.ndim - 1))
            return jnp.where(chosen, array[rows], jnp.zeros((), array.dtype))

        batch = jax.tree.map(choose, arrays) | {"mask": real.astype(jnp.float32)}
        return cut(batch, cuts)

    return jax.jit(gather, out_shardings=sharding, static_argnums=2)


def _streaming(
    split: Split,
    chosen: Callable[[int], tuple[np.ndarray, Cuts]],
    start: int,
    stop: int | None,
    place: Callable[[np.ndarray], jax.Array],
    workers: int,
) -> Iterator[Batch]:
    """Decode batches with Grain, in threads or processes, and send them ahead of their use."""
    import grain

    def decode(step: int) -> dict[str, np.ndarray]:
        indices, cuts = chosen(step)
        real = indices >= 0
        batch = {
            name: np.zeros((len(indices), *shape), dtype)
            for name, (shape, dtype) in split.spec.items()
        }
        for name, array in split.read(indices[real]).items():
            batch[name][real] = array
        return cut(batch | {"mask": real.astype(np.float32)}, cuts)

    endless = start + 2**40  # steps: Grain counts in a fixed width
    batches = (
        grain.MapDataset.range(start, endless if stop is None else stop)
        .map(decode)
        .to_iter_dataset(grain.ReadOptions(num_threads=THREADS, prefetch_buffer_size=THREADS))
    )
    if workers:
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()  # Grain reads its own; outside absl.app nobody parsed them
        options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=AHEAD)
        batches = batches.mp_prefetch(options)
    on_device = grain.experimental.ThreadPrefetchIterDataset(
        batches.map(lambda batch: jax.tree.map(place, batch)), prefetch_buffer_size=AHEAD
    )
    iterator = iter(on_device)
    try:
        yield from iterator
    finally:
        iterator.close()
