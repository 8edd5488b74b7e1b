"""Checkpoints of a run: the last k and the best, written in the background by Orbax."""

import json
import math
import shutil
import tempfile
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

    def __init__(self, directory: Path, keep: int, say: Callable[[str], None] = print):
        """Open `directory`, made if missing; keep the last `keep` and the best.

        Checkpoints that cannot be read are passed over, said through `say`, and moved aside.
        """
        policy = managers.AnyPreservationPolicy(
            [managers.LatestN(keep), managers.BestN(get_metric_fn=score, n=1)]
        )
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policy,
            best_fn=score,  # makes Orbax store the metrics
            cleanup_tmp_directories=True,
            save_root_metadata=False,
        )
        self.directory, self._say = directory, say
        for folder in directory.glob("*"):  # Orbax reads all metrics at once, and damage is fatal
            if folder.name.isdigit():
                try:
                    json.loads((folder / "metrics" / "metrics").read_text())
                except (OSError, ValueError) as error:
                    self._set_aside(int(folder.name), error)
        with _LOCK:
            self._manager = ocp.CheckpointManager(directory.absolute(), options=options)

    def save(self, state: Any, metrics: dict[str, float], position: dict[str, int]) -> None:
        """Start writing `state`; it may be donated as soon as this returns.

        Raises:
            UserError: the disk is too full for it. Nothing has been written then.
        """
        self._check_space(state)
        with _LOCK:
            self._manager.save(
                int(state.step),
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(state), data=ocp.args.JsonSave(position)
                ),
                metrics=metrics,
                force=True,
            )

    def _check_space(self, state: Any) -> None:
        # Ahead of Orbax, which on a full disk fails in its threads, at length.
        needed = 2 * sum(leaf.nbytes for leaf in jax.tree.leaves(state)) + 2**20
        free = shutil.disk_usage(self.directory.parent).free
        if free < needed:
            raise UserError(
                f"--workdir: {self.directory}: found {free / 1e6:.1f} MB free, expected at least "
                f"{needed / 1e6:.1f} MB for a checkpoint; launch again with more space, and the "
                "runs go on from their last checkpoints"
            )

    def restore_latest(self, abstract: Any) -> tuple[Any, dict] | None:
        """Return `(state, position)` of the newest that can be read, None if none can."""
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                return self._restore(step, abstract)
            except Exception as error:  # whatever a damaged file makes Orbax or tensorstore raise
                self._set_aside(step, error)
                with _LOCK:
                    self._manager.reload()
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

    def _set_aside(self, step: int, error: Exception) -> None:
        folder = self.directory / str(step)
        self._say(
            f"{folder}: checkpoint cannot be read ({type(error).__name__}); falling back to the "
            "one before"
        )
        run = self.directory.parent
        folder.rename(tempfile.mkdtemp(prefix=f"unreadable_checkpoint_{step}_", dir=run))

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
