"""Meshes of devices: which axes a run's devices are arranged along, and which runs share them.

A mesh is written `data:4,model:2`. Its axes:

- seed: runs that train side by side, each on devices of its own;
- data: the batch is split, the state is not;
- fsdp: the batch is split, and so are the parameters and the optimiser's state;
- model: kernels are split, and the batch is not.
"""

import math
import os
from collections.abc import Sequence

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from research.config import UserError, unknown

AXES = ("data", "fsdp", "model")  # of one run's mesh
BATCH = ("data", "fsdp")  # those over which a batch is split


def parse_mesh(text: str) -> dict[str, int]:
    """Return the sizes that `text` names, -1 for the rest of the devices.

    Example:
        >>> parse_mesh("data:-1,model:2")
        {'data': -1, 'model': 2}

    Raises:
        UserError: an axis that does not exist or is named twice, or a size that cannot be.
    """
    sizes: dict[str, int] = {}
    for part in filter(None, text.replace(" ", "").split(",")):
        axis, _, size = part.partition(":")
        if axis not in ("seed", *AXES):
            raise unknown("--mesh: axis", axis, ("seed", *AXES))
        if axis in sizes:
            raise UserError(f"--mesh: found the axis {axis} twice in {text!r}, expected it once")
        if not size.removeprefix("-").isdigit() or int(size) < -1 or int(size) == 0:
            raise UserError(
                f"--mesh: found {part!r}, expected {axis}:n, n above 0, or -1: the rest"
            )
        sizes[axis] = int(size)
    if list(sizes.values()).count(-1) > 1:
        raise UserError(f"--mesh: found -1 twice in {text!r}, expected it once: it is the rest")
    return sizes


def host_devices(texts: Sequence[str]) -> int:
    """Return how many devices the largest of these meshes names; the rest, -1, counts as 1."""
    return max(math.prod(abs(size) for size in parse_mesh(text).values()) for text in texts)


def mesh_sizes(text: str, devices: int, span: str = "") -> dict[str, int]:
    """Return the size of every axis of a mesh on so many `devices`, `seed` among them.

    An axis without a size is 1; but `seed`, unless it has one, or another is -1, is what is left,
    so that no device idles.

    Args:
        text: as `parse_mesh` takes it.
        devices: how many there are.
        span: whose they are, where one run has to span them all, such as "2 processes"; without
            any size it is data-parallel.

    Raises:
        UserError: the devices are too few, or the mesh does not multiply out to their number.
    """
    named = parse_mesh(text)
    if span:
        named = {"seed": 1} | (named or {"data": -1})
    elif -1 not in named.values():
        named = {"seed": -1} | named
    known = math.prod(size for size in named.values() if size != -1)
    rest = devices // known
    if span and (devices % known or (-1 not in named.values() and known != devices)):
        raise UserError(
            f"--mesh: {text!r} takes {known} devices, expected the {devices} of {span}, which one "
            "run spans; -1 is the rest"
        )
    if known > devices or devices % known:
        whole = [n for n in range(1, devices + 1) if devices % n == 0]
        nearest = min(whole, key=lambda n: abs(n - known))
        raise UserError(
            f"--mesh: {text!r} takes {known} devices, expected a divisor of the {devices} here "
            f"(nearest: {nearest})"
        )
    sizes = {
        axis: rest if named.get(axis) == -1 else named.get(axis, 1) for axis in ("seed", *AXES)
    }
    if span and sizes["seed"] > 1:
        raise UserError(
            f"--mesh: found seed:{sizes['seed']}, expected 1: one run spans all {span}; launch "
            "seeds as jobs of their own"
        )
    return sizes


def lanes(text: str) -> list[Mesh]:
    """Return a mesh for each run that can train at the same time, of the devices here.

    A CPU is one device, which takes work from several threads: it serves as many runs as it has
    cores, unless the mesh says how many (`seed:1`). Two runs took 0.74–0.82 of the time of one
    after the other on 2 cores, bit-equal to running alone, and compiled once; with a host device
    each, 0.70–0.73 but compiled twice.

    Raises:
        UserError: a mesh that cannot be on these devices.
    """
    devices, processes = jax.devices(), jax.process_count()
    span = f"{processes} processes" if processes > 1 else ""
    sizes = mesh_sizes(text, len(devices), span)
    count = sizes.pop("seed")
    each = math.prod(sizes.values())
    if devices[0].platform == "cpu" and processes == 1 and "seed" not in parse_mesh(text):
        count = cores() if each == 1 else min(count, cores())
    if devices[0].platform == "cpu" and each == 1:
        return [make_mesh(devices[:1], sizes)] * count
    return [make_mesh(devices[i * each : (i + 1) * each], sizes) for i in range(count)]


def cores() -> int:
    """Return the processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def make_mesh(devices: Sequence[jax.Device], sizes: dict[str, int] | None = None) -> Mesh:
    """Return a mesh of a run's `devices`, with all of `AXES`; without `sizes`, data-parallel."""
    sizes = sizes or {"data": len(devices)}
    shape = tuple(sizes.get(axis, 1) for axis in AXES)
    # Auto axes: with Explicit ones, the default, a scan over a sharded batch fails.
    return jax.make_mesh(shape, AXES, (AxisType.Auto,) * len(AXES), devices=devices)


def batch_shards(mesh: Mesh) -> int:
    """Return into how many parts a batch is split."""
    return math.prod(mesh.shape[axis] for axis in BATCH)


def check_batch(field: str, size: int, mesh: Mesh, text: str, accumulate: int = 1) -> None:
    """Check that a batch divides over the devices that share it.

    Args:
        field: of the config that names its size, for the message.
        size: of the batch.
        mesh: of a run.
        text: as the user wrote it.
        accumulate: micro-batches, each of which divides, too.

    Raises:
        UserError: it does not.
    """
    parts = batch_shards(mesh) * accumulate
    if size % parts:
        nearest = max(1, round(size / parts)) * parts
        times = f", in {accumulate} micro-batches" if accumulate > 1 else ""
        raise UserError(
            f"{field}: found {size}, expected a multiple of the {parts} parts that "
            f"--mesh={text!r} splits a batch into{times} (nearest: {nearest})"
        )


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of what every device holds whole: scalars, and the state of one axis `data`."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The sharding of a batch: its first dimension over `data` and `fsdp`."""
    return NamedSharding(mesh, PartitionSpec(BATCH))
