"""Meshes of devices, and the compilation of a step for one."""

import os
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from research.config import UserError


def lanes(devices_per_run: int) -> list[Mesh]:
    """Return a mesh for each run that can train at the same time.

    Accelerators are dealt out in groups of `devices_per_run` (-1: all to one run). A CPU is one
    device, which takes work from several threads: it serves as many runs as it has cores. Two runs
    took 0.74–0.82 of the time of one after the other on 2 cores, bit-equal to running alone, and
    compiled once; with a host device each, 0.70–0.73 but compiled twice.

    Raises:
        UserError: fewer devices than asked for, or a number that they do not divide into.
    """
    devices = jax.devices()
    size = len(devices) if devices_per_run == -1 else devices_per_run
    if size > len(devices) or len(devices) % size:
        raise UserError(
            f"train.devices: found {size}, expected a divisor of the {len(devices)} "
            f"{devices[0].platform} devices here, or -1 for all"
        )
    if jax.process_count() > 1 and size != len(devices):
        raise UserError(
            f"train.devices: found {size}, expected -1: a run spans all {jax.process_count()} hosts"
        )
    groups = [data_mesh(devices[i : i + size]) for i in range(0, len(devices), size)]
    if devices[0].platform == "cpu" and len(groups) == 1 and size == 1:
        return groups * cores()
    return groups


def cores() -> int:
    """Return the processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def data_mesh(devices: list[jax.Device]) -> Mesh:
    """Return a mesh over which a batch is split."""
    # Auto axes: with Explicit ones, the default, a scan over a sharded batch fails.
    return jax.make_mesh((len(devices),), ("data",), (AxisType.Auto,), devices=devices)


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of what every device holds whole: parameters, scalars."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The sharding of a batch: its first dimension over the devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


def compile_for(
    mesh: Mesh, function: Callable, state: Any, batch: Any, *, donate: bool
) -> Callable:
    """Compile `function(state, batch)` ahead of time: state replicated, batch split.

    Args:
        mesh: the run's devices.
        function: pure; what it returns is replicated.
        state: arrays or their shapes.
        batch: arrays or their shapes.
        donate: whether the state's buffers may be reused for the result.
    """
    jitted = jax.jit(
        function,
        in_shardings=(replicated(mesh), batch_sharding(mesh)),
        out_shardings=replicated(mesh),
        donate_argnums=0 if donate else (),
    )
    return jitted.lower(state, batch).compile()
