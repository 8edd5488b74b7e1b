"""Checkpoints of a run: the last k and the best, written in the background by Orbax."""

import math
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as managers

from research.config import UserError

# Orbax starts its saves on one event loop per process: two threads that save at the same moment
# wait for each other for ever. The lock covers the start only; the writing runs side by side.
_LOCK = threading.Lock()


def score(metrics: Mapping[str, float]) -> tuple[float, float]:
    """Rank a checkpoint: by validation accuracy, then by validation loss; later wins a tie."""
    loss = metrics["validation/loss"]
    finite = loss is not None and math.isfinite(loss)
    return metrics["validation/accuracy"], -loss if finite else -math.inf


class Checkpoints:
    """The checkpoints under `directory`, one folder per step.

    Each holds the whole train state, the position in the data and the validation metrics. A save
    that was cut off leaves a temporary folder, which is never read and is cleaned up.
    """

    def __init__(self, directory: Path, keep: int):
        """Open `directory`, made on the first save; keep the last `keep` and the best."""
        policy = managers.AnyPreservationPolicy(
            [managers.LatestN(keep), managers.BestN(get_metric_fn=score, n=1)]
        )
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policy,
            best_fn=score,  # makes Orbax store the metrics
            cleanup_tmp_directories=True,
            save_root_metadata=False,
        )
        self.directory = directory
        with _LOCK:
            self._manager = ocp.CheckpointManager(directory.absolute(), options=options)

    def save(self, state: Any, metrics: dict[str, float], position: dict[str, int]) -> None:
        """Start writing `state`; it may be donated as soon as this returns."""
        with _LOCK:
            self._manager.save(
                int(state.step),
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(state), data=ocp.args.JsonSave(position)
                ),
                metrics=metrics,
                force=True,
            )

    def restore_latest(self, abstract: Any, say: Callable[[str], None]) -> tuple[Any, dict] | None:
        """Return `(state, position)` of the newest checkpoint that can be read, None if none can.

        Those that cannot be read are passed over, said through `say`, and moved aside.
        """
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                return self._restore(step, abstract)
            except Exception as error:  # whatever a damaged file makes Orbax or tensorstore raise
                say(
                    f"{self.directory / str(step)}: checkpoint cannot be read "
                    f"({type(error).__name__}); falling back to the one before"
                )
                self._set_aside(step)
        return None

    def restore_best(self, abstract: Any) -> tuple[Any, int]:
        """Return `(state, step)` of the best checkpoint by validation.

        Raises:
            UserError: there is none, or it cannot be read.
        """
        steps = self._manager.all_steps()
        if not steps:
            raise UserError(f"{self.directory}: found no checkpoint, expected at least one")
        best = max(steps, key=lambda step: (score(self._manager.metrics(step)), step))
        try:
            return self._restore(best, abstract)[0], best
        except Exception as error:
            raise UserError(
                f"{self.directory / str(best)}: the best checkpoint cannot be read "
                f"({type(error).__name__}); delete the run's folder to train it again"
            ) from error

    def _restore(self, step: int, abstract: Any) -> tuple[Any, dict]:
        with _LOCK:
            restored = self._manager.restore(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardRestore(abstract), data=ocp.args.JsonRestore()
                ),
            )
        return restored.state, restored.data

    def _set_aside(self, step: int) -> None:
        folder = self.directory / str(step)
        folder.rename(self.directory.parent / f"unreadable_checkpoint_{step}")
        with _LOCK:
            self._manager.reload()

    def wait(self) -> None:
        """Block until everything started is on disk."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Wait, then release Orbax's threads."""
        self._manager.close()


def abstract(state: Any) -> Any:
    """Return the shapes, dtypes and shardings of `state`, to restore into."""
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
    )
