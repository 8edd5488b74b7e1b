"""What must be set before JAX first looks for devices."""

import os
from pathlib import Path

import jax

# Kernels that add in a fixed order, and no choice of kernels by racing them against each other.
DETERMINISTIC = ("--xla_gpu_deterministic_ops=true", "--xla_gpu_autotune_level=0")


def start(*, deterministic: bool) -> None:
    """Set XLA's flags and where compiled programs are kept between launches.

    Args:
        deterministic: whether a GPU must give the same bits every time. A CPU always does.
    """
    if deterministic:
        flags = os.environ.get("XLA_FLAGS", "").split()
        os.environ["XLA_FLAGS"] = " ".join([*flags, *DETERMINISTIC])
    if not jax.config.jax_compilation_cache_dir:
        cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "ablate" / "xla"
        jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
