"""How well a run uses its devices: arithmetic, memory, waiting for data, talking to one another."""

import contextlib
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from research.distributed.chips import peak_flops

PREFIX = "utilization/"


class Meter:
    """Times the steps between two rows of the log.

    A row says, of the steps since the one before it:

    - step_ms: milliseconds a step, evaluation and checkpoints left out.
    - gflops: 10⁹ floating-point operations per second, of all devices: two for each multiply–add of
      the model, and the backward pass taken for twice the forward (Chowdhery et al. 2022, app. B).
      Padding counts, recomputation does not.
    - mfu: these as a share of the devices' peak, where `research/distributed/chips.json` has it.
    - input_wait: the share of the time in which the loop waited for a batch; of several devices of
      one CPU it holds arithmetic, too, which the batch queues behind.
    - communication: the share that the step's collectives take when replayed alone, see
      `research.distributed.communication`; of a mesh of several devices.
    - peak_mb: the most memory that was in use so far on the fullest device, 10⁶ bytes; of a CPU,
      by the process.
    """

    def __init__(self, mesh: Mesh, *, step_flops: float, precision: str, communication: float):
        """Start the clock.

        Args:
            mesh: the run's devices.
            step_flops: floating-point operations of a step, of all devices.
            precision: `train.precision`.
            communication: seconds of a step's collectives, 0 for none.
        """
        self._mesh, self._flops, self._communication = mesh, step_flops, communication
        peak = peak_flops(mesh.devices.flat[0].device_kind, precision)
        self._peak = peak and peak * mesh.size
        self.begin()

    def begin(self) -> None:
        """Start anew: what came since the last row is not counted."""
        self._began, self._waited = time.perf_counter(), 0.0

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Count what happens within as waiting for data."""
        began = time.perf_counter()
        yield
        self._waited += time.perf_counter() - began

    def row(self, steps: int) -> dict[str, float]:
        """Return what so many steps, all of which have ended, come to."""
        spent = max(time.perf_counter() - self._began, 1e-9)
        speed = self._flops * steps / spent
        found = {
            "step_ms": 1e3 * spent / steps,
            "gflops": speed / 1e9,
            "input_wait": self._waited / spent,
            "peak_mb": _peak_bytes(self._mesh) / 1e6,
        }
        if self._peak:
            found["mfu"] = speed / self._peak
        if self._mesh.size > 1:
            found["communication"] = min(1.0, self._communication * steps / spent)
        return {PREFIX + name: value for name, value in found.items()}


def summarized(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return the median over a run's rows of each figure, but the largest `peak_mb`.

    The first row is left out where there are others: it has the device warm up.
    """
    found: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row.items():
            if name.startswith(PREFIX) and value is not None:
                found.setdefault(name.removeprefix(PREFIX), []).append(value)
    return {
        name: max(values) if name == "peak_mb" else statistics.median(values[1:] or values)
        for name, values in found.items()
    }


def _peak_bytes(mesh: Mesh) -> int:
    known = [device.memory_stats() or {} for device in mesh.local_devices]
    if peaks := [stats["peak_bytes_in_use"] for stats in known if "peak_bytes_in_use" in stats]:
        return max(peaks)
    kilo = 1 if sys.platform == "darwin" else 1024  # in bytes there, in kilobytes elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * kilo


class Tracer:
    """Writes a trace of the steps `first` to `last` (`--profile=first:last`), for one run.

    A process can write one trace at a time: of several runs side by side, the first to get there.
    """

    _taken = False

    def __init__(self, steps: str, directory: Path, say: Callable[[str], None]):
        """`steps` is `first:last`, or '' for no trace; `directory` is the run's."""
        self._first, self._last = map(int, (steps or "0:0").split(":"))
        self._directory, self._say, self._on = directory / "profile", say, False

    def before(self, step: int) -> None:
        """Begin, if `step` is the first."""
        if step == self._first and not Tracer._taken:
            Tracer._taken = self._on = True
            jax.profiler.start_trace(str(self._directory))

    def after(self, step: int, results: Any) -> None:
        """End, if `step` is the last, once its `results` are there."""
        if self._on and step >= self._last:
            jax.block_until_ready(results)
            self.close()

    def close(self) -> None:
        """End a trace that is still being written."""
        if self._on:
            self._on = False
            jax.profiler.stop_trace()
            self._say(f"profile of steps {self._first} to {self._last}: {self._directory}")
