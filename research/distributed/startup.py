"""What must be set before JAX first looks for devices."""

import os
import re
from pathlib import Path

import jax

from research.distributed.mesh import cores

# Kernels that add in a fixed order, and no choice of kernels by racing them against each other.
DETERMINISTIC = ("--xla_gpu_deterministic_ops=true", "--xla_gpu_autotune_level=0")

THREADS = 4  # of XLA:CPU, for each of several devices

# Without chips libtpu looks for the machine that it is on, complains that it is on none, and lets
# one process alone use it.
_NO_CHIPS = {
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
    "TPU_STDERR_LOG_LEVEL": "3",
    "TPU_MIN_LOG_LEVEL": "3",
}


def settle_libtpu() -> None:
    """Let libtpu, where it is installed, compile in peace on a machine without TPUs."""
    if os.environ.get("TPU_SKIP_MDS_QUERY") == "1":  # as JAX says where it found no chips
        for name, value in _NO_CHIPS.items():
            os.environ.setdefault(name, value)


def start(*, deterministic: bool, devices: int = 1, processes: int = 1) -> None:
    """Set XLA's flags, the host's devices, and where compiled programs are kept between launches.

    Args:
        deterministic: whether a GPU must give the same bits every time. A CPU always does.
        devices: into how many a CPU is divided, unless XLA_FLAGS or JAX_NUM_CPU_DEVICES say it.
        processes: how many share a run.
    """
    settle_libtpu()
    said = re.search(r"xla_force_host_platform_device_count=(\d+)", os.environ.get("XLA_FLAGS", ""))
    if said or "JAX_NUM_CPU_DEVICES" in os.environ:
        devices = int(said[1] if said else os.environ["JAX_NUM_CPU_DEVICES"])
    elif devices > 1:  # JAX's option would override XLA's without a word
        jax.config.update("jax_num_cpu_devices", devices)
    if devices * processes > 1:
        # A thread of XLA:CPU that is in a collective waits there for those of other devices, and
        # a device may be in several: with fewer threads than that, all wait for ever.
        os.environ.setdefault("PJRT_NPROC", str(max(cores(), THREADS * devices)))
    if deterministic:
        flags = os.environ.get("XLA_FLAGS", "").split()
        os.environ["XLA_FLAGS"] = " ".join([*flags, *DETERMINISTIC])
    if not jax.config.jax_compilation_cache_dir:
        cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "ablate" / "xla"
        jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
