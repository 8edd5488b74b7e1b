"""Which processes make up a run: start-up, agreement among them, and their end.

    start_cluster("10.0.0.1:1234", num_processes=2, process_id=0)

before JAX looks for devices. Every process is the same program and takes the same steps, each on
its own devices and rows of a batch; only process 0 (`is_main`) writes files and speaks.
"""

import json
import os
import sys
import time
import traceback
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Sharding

from research.config import REQUEUE, UserError
from research.distributed import roll_call

TIMEOUT = 300.0  # seconds until all processes have to be there
HEARTBEAT = 60.0  # seconds of silence after which a process counts as gone

_roll: roll_call.Roll | None = None


def start_cluster(
    coordinator_address: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    *,
    cluster_timeout: float = TIMEOUT,
    heartbeat: float = HEARTBEAT,
) -> int:
    """Join the other processes of this run, if there are any; return how many they all are.

    Either all three of the first arguments are given, or SLURM (`srun`), Open MPI (`mpirun`), an
    indexed Kubernetes Job or JobSet, or a Cloud TPU is asked, as `jax.distributed.initialize` asks
    them. A single process, such as a shell inside an allocation, stays by itself.

    Args:
        coordinator_address: `host:port` of process 0, as all can reach it; the port must be free.
        num_processes: how many there are.
        process_id: which of them this is, from 0.
        cluster_timeout: seconds until all of them have to be there.
        heartbeat: seconds of silence after which one of them counts as gone. A killed one is
            noticed at once.

    Raises:
        UserError: flags that cannot be, a coordinator that cannot be reached, or processes missing
            or doubled.
    """
    global _roll
    given = {
        "--coordinator_address": coordinator_address,
        "--num_processes": num_processes,
        "--process_id": process_id,
    }
    for name, seconds in (("--cluster_timeout", cluster_timeout), ("--heartbeat", heartbeat)):
        if not seconds >= 1:
            raise UserError(f"{name}: found {seconds:g}, expected at least 1 second")
    local = None
    if all(value is None for value in given.values()):
        if not (kind := environment()):
            return 1
        coordinator_address, num_processes, process_id, local = _detect(kind, cluster_timeout)
        if num_processes == 1:
            return 1
    elif missing := [name for name, value in given.items() if value is None]:
        there = [f"{name}={value}" for name, value in given.items() if value is not None]
        raise UserError(f"{missing[0]}: found none beside {' '.join(there)}, expected all three")
    roll_call.parse_address(coordinator_address)
    if num_processes < 1:
        raise UserError(f"--num_processes: found {num_processes}, expected at least 1")
    if not 0 <= process_id < num_processes:
        raise UserError(
            f"--process_id: found {process_id}, expected 0 to {num_processes - 1}, one less than "
            f"--num_processes={num_processes}"
        )
    if num_processes == 1:
        return 1
    roll = roll_call.answer(coordinator_address, num_processes, process_id, cluster_timeout)
    # Ahead of JAX, whose own heartbeat aborts a process with a stack trace.
    roll.watch(heartbeat, _end)
    jax.distributed.initialize(
        coordinator_address,
        num_processes,
        process_id,
        local,
        cluster_detection_method="deactivate",
        initialization_timeout=int(cluster_timeout),
        heartbeat_timeout_seconds=int(3 * heartbeat),
    )
    _roll = roll
    return num_processes


def environment() -> str | None:
    """Name the scheduler that started this process as one of several; None where none did."""
    from jax._src.cloud_tpu_init import running_in_cloud_tpu_vm

    env = os.environ
    # Of the step, where SLURM says it: a shell inside an allocation of several tasks is only one.
    tasks = env.get("SLURM_STEP_NUM_TASKS", env.get("SLURM_NTASKS", "1"))
    if "SLURM_STEP_NODELIST" in env and "SLURM_PROCID" in env and int(tasks) > 1:
        return "SLURM"
    if "OMPI_MCA_orte_hnp_uri" in env and int(env.get("OMPI_COMM_WORLD_SIZE", "1")) > 1:
        return "Open MPI"
    if running_in_cloud_tpu_vm:
        return "Cloud TPU"
    if "KUBERNETES_SERVICE_HOST" in env and "JOB_COMPLETION_INDEX" in env:
        return "Kubernetes"
    return None


def _detect(kind: str, timeout: float) -> tuple[str, int, int, list[int] | None]:
    """Return address, processes, this process and its devices, as JAX finds them."""
    # What `jax.distributed.initialize()` calls first: it gives us the address to meet at.
    from jax._src.clusters import ClusterEnv

    try:
        found = ClusterEnv.auto_detect_unset_distributed_params(
            None, None, None, None, None, int(timeout)
        )
        if None in found[:3]:
            raise RuntimeError("pip install kubernetes" if kind == "Kubernetes" else "no answer")
    except Exception as error:
        raise UserError(
            f"--coordinator_address: found none, and {kind} does not say which processes there "
            f"are ({error}); expected --coordinator_address, --num_processes and --process_id"
        ) from error
    return found


def is_main() -> bool:
    """Whether this process writes files and speaks: the first, or the only one."""
    return jax.process_index() == 0


def barrier(name: str) -> None:
    """Wait until every process is here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def from_main(function: Callable[[], Any]) -> Any:
    """Return in every process what `function()` returns in process 0; JSON must be able to say it.

    No other process calls it: on a shared file system each may see a file at another moment.
    """
    if jax.process_count() == 1:
        return function()
    data = np.frombuffer(json.dumps(function()).encode(), np.uint8) if is_main() else None
    size = multihost_utils.broadcast_one_to_all(np.int32(0 if data is None else data.size))
    data = np.zeros(int(size), np.uint8) if data is None else data
    return json.loads(bytes(multihost_utils.broadcast_one_to_all(data)))


def everywhere(holds: bool) -> bool:
    """Whether `holds` is true in every process."""
    if jax.process_count() == 1:
        return holds
    return bool(np.all(multihost_utils.process_allgather(np.bool_(holds))))


def spread(tree: Any, sharding: Sharding) -> Any:
    """Return values that every process has, whole and equal, as arrays of `sharding`."""
    if jax.process_count() == 1:
        return jax.device_put(tree, sharding)

    def place(value):
        if jnp.issubdtype(jnp.result_type(value), jax.dtypes.prng_key):
            return jax.random.wrap_key_data(place(jax.random.key_data(value)))
        array = np.asarray(value, jnp.result_type(value))
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

    return jax.tree.map(place, tree)


def fetch(tree: Any) -> Any:
    """Return the arrays of `tree`, whole, in the memory of every host."""
    if jax.process_count() == 1:
        return jax.device_get(tree)
    return multihost_utils.process_allgather(tree, tiled=True)


def check_shared(folder: Path) -> None:
    """Check that all processes see the same `folder`, which process 0 has made.

    Raises:
        UserError: in all of them, where one does not.
    """
    if jax.process_count() == 1:
        return
    token = folder / from_main(lambda: f".shared-{uuid.uuid4().hex}")
    if is_main():
        token.touch()
    barrier("shared folder written")
    until = time.monotonic() + 5  # a network's file system may show it late
    while not (seen := token.exists()) and time.monotonic() < until:
        time.sleep(0.1)
    blind = multihost_utils.process_allgather(np.bool_(not seen))
    if is_main():
        token.unlink()
    if blind.any():
        raise UserError(
            f"--workdir: {folder}: found that process {int(blind.argmax())} does not see what "
            "process 0 writes there, expected a folder that all processes share"
        )


def failed(error: Exception) -> None:
    """End this process of several, which has raised `error`; alone, do nothing.

    Whatever JAX raises when another process is gone, that one is to be named: the thread that
    watches the others may end this process first.
    """
    if _roll is None:
        return
    time.sleep(2)
    traceback.print_exception(error)
    leave(1, f"{type(error).__name__}: {error}".splitlines()[0])
    os._exit(1)


def leave(status: int, reason: str = "") -> None:
    """Take leave of the other processes before this one ends with `status`.

    At 0 and `REQUEUE` all of them have come to their end together; at any other they end, too.
    """
    global _roll
    if _roll is None:
        return
    if status in (0, REQUEUE):
        jax.distributed.shutdown()
    _roll.leave(status, reason)
    _roll = None


def _end(reason: str, status: int) -> None:
    """End this process because of another."""
    on = "; launch again to go on from the last checkpoint" if status == REQUEUE else ""
    print(f"launch.py: {reason}{on}", file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(status)
