"""Checkpoints of a run: the last k and the best, written in the background by Orbax."""

import json
import shutil
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as managers

from research.config import UserError, flatten
from research.distributed.cluster import everywhere, from_main
from research.files import read_json
from research.train.history import score

# Orbax starts its saves on one event loop per process: two threads that save at the same moment
# wait for each other for ever. The lock covers the start only; the writing runs side by side.
_LOCK = threading.Lock()


class DamagedCheckpoint(UserError):
    """A checkpoint that is needed and cannot be had; the run can be trained again up to it."""


class _Manager(ocp.CheckpointManager):
    """Orbax's, without its own question to JAX whether the machine is to be taken away.

    JAX lets the processes agree on the next count that all of them will ask about, see
    `research.distributed.preemption`. Orbax asks at each save, about the step: where a notice came
    between that and the loop's next question, they agreed on a count that had gone by, and it was
    lost.
    """

    def reached_preemption(self, step: int) -> bool:
        """Return False: the loop asks."""
        return False


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
        from_main(self._clean)
        with _LOCK:
            self._manager = _Manager(directory.absolute(), options=options)

    def _clean(self) -> None:
        directory = self.directory
        whole = [step for step in _steps(directory) if _metrics(directory / str(step))]
        for step in _steps(directory):  # Orbax reads all metrics at once, and damage is fatal
            if step not in whole:
                if step < max(whole, default=0):
                    shutil.rmtree(directory / str(step))  # one beyond k: a kill cut its deletion
                else:
                    self._say(
                        f"{directory / str(step)}: cannot be read; falling back to the one before"
                    )
                    set_aside(directory, step)

    def save(self, state: Any, metrics: dict[str, float], position: dict[str, Any]) -> None:
        """Start writing `state`; it may be donated as soon as this returns.

        All processes of a run save, each what its devices hold.

        Args:
            state: of the run.
            metrics: of its evaluation on validation; `history.UNRATED` where there was none.
            position: what else to go on from, as JSON can say it.

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
        """Return `(state, position)` of the newest that can be read, None if none can.

        The state is placed as `abstract` says, whichever devices it was saved from.

        Raises:
            UserError: it is of another model.
        """
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                return self._restore(step, abstract)
            except DamagedCheckpoint as damage:
                self._say(f"{damage}; falling back to the one before")
                from_main(lambda step=step: set_aside(self.directory, step))
                with _LOCK:
                    self._manager.reload()
        return None

    def restore(self, step: int, abstract: Any) -> tuple[Any, dict]:
        """Return `(state, position)` of the checkpoint at `step`.

        Raises:
            DamagedCheckpoint: it is not there, or cannot be read.
        """
        try:
            return self._restore(step, abstract)
        except DamagedCheckpoint as damage:
            what = str(damage).replace(": ", ": the best checkpoint ", 1)
            raise DamagedCheckpoint(what) from damage

    def _restore(self, step: int, abstract: Any) -> tuple[Any, dict]:
        folder, problem = self.directory / str(step), ""
        try:
            with _LOCK:
                _check_model(folder, abstract.params)
                restored = self._manager.restore(
                    step,
                    args=ocp.args.Composite(
                        state=ocp.args.StandardRestore(abstract), data=ocp.args.JsonRestore()
                    ),
                )
        except UserError:
            raise
        except Exception as error:  # whatever a damaged file makes Orbax or tensorstore raise
            problem = f"cannot be read ({type(error).__name__})" if folder.exists() else "is gone"
        if not everywhere(not problem):
            raise DamagedCheckpoint(f"{folder}: {problem or 'cannot be read by another process'}")
        return restored.state, restored.data

    def wait(self) -> None:
        """Block until everything started is on disk."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Wait, then release Orbax's threads."""
        self._manager.close()


def best_variables(run: Path) -> dict[str, Any]:
    """Return the variables of a finished run's best checkpoint: what it was tested with.

    Args:
        run: its directory.

    Raises:
        UserError: it has not finished, it diverged, it is an ensemble, or its checkpoint cannot be
            read.
    """
    result = finished(run, "init_from")
    return read_variables(run / "checkpoints" / str(int(result["metrics"]["best_step"])))


def finished(run: Path, flag: str) -> dict[str, Any]:
    """Return the result of a run that left a network of its own.

    Args:
        run: its directory.
        flag: that names the run.

    Raises:
        UserError: it has not ended, it diverged, or it is an ensemble.
    """
    path = run / "result.json"
    if not path.exists():
        raise UserError(
            f"{flag}: found no result in {run}, which has no result.json, expected a run that has "
            "finished; launched again, it goes on"
        )
    result = read_json(path)
    if result["status"] == "diverged":
        raise UserError(
            f"{flag}: {run} diverged at step {result['steps']}, expected a run that did not, "
            "perhaps with a smaller --config.optimizer.learning_rate"
        )
    if members := result.get("members"):
        raise UserError(
            f"{flag}: {run} is an ensemble, which has no network of its own; expected one of its "
            f"members: {', '.join(members)}"
        )
    return result


def read_variables(checkpoint: Path) -> dict[str, Any]:
    """Return the variables that a checkpoint's folder holds, averaged ones where there are some.

    Nothing is written, moved or deleted, as `Checkpoints` would.

    Raises:
        UserError: it cannot be read.
    """
    saved = (checkpoint / "state").absolute()
    handler = ocp.PyTreeCheckpointHandler()
    try:
        with _LOCK:
            stored = handler.metadata(saved).tree
            averaged = "ema" if stored.get("ema") else "params"
            wanted = {name: stored[name] for name in (averaged, "collections") if name in stored}
            # As arrays of the host: the run that saved them may have had other devices.
            as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), wanted)
            found = handler.restore(
                saved,
                args=ocp.args.PyTreeRestore(wanted, restore_args=as_numpy, partial_restore=True),
            )
    except Exception as error:  # whatever a damaged file makes Orbax or tensorstore raise
        raise UserError(f"{checkpoint}: cannot be read ({type(error).__name__})") from error
    finally:
        handler.close()
    return {"params": found[averaged], **found.get("collections", {})}


def best_step(directory: Path) -> int | None:
    """Return the step of the best whole checkpoint under `directory`; None where there is none."""
    whole = {step: _metrics(directory / str(step)) for step in _steps(directory)}
    ranked = [(score(metrics), step) for step, metrics in whole.items() if metrics]
    return max(ranked)[1] if ranked else None


def _check_model(checkpoint: Path, params: Any) -> None:
    """Check that a checkpoint's parameters have the names and the shapes of `params`."""
    handler = ocp.PyTreeCheckpointHandler()
    try:
        stored = handler.metadata((checkpoint / "state").absolute()).tree["params"]
    finally:
        handler.close()
    found, expected = (
        {path.replace(".", "/"): tuple(x.shape) for path, x in flatten(tree).items()}
        for tree in (stored, params)
    )
    for path in sorted({*found, *expected}):
        if found.get(path) != expected.get(path):
            raise UserError(
                f"--workdir: {checkpoint} holds another model: found {path} of shape "
                f"{found.get(path, 'none')}, expected {expected.get(path, 'none')}; choose another "
                "folder, or the model that it was trained with"
            )


def set_aside(directory: Path, first: int) -> None:
    """Move the checkpoints from step `first` on out of `directory`, deleting nothing."""
    for step in _steps(directory):
        if step >= first:
            name = f"unreadable_checkpoint_{step}_"
            (directory / str(step)).rename(tempfile.mkdtemp(prefix=name, dir=directory.parent))


def _steps(directory: Path) -> list[int]:
    return sorted(int(path.name) for path in directory.glob("*") if path.name.isdigit())


def _metrics(checkpoint: Path) -> dict[str, float]:
    """Return the validation metrics beside a checkpoint; {} where they cannot be read."""
    try:
        return json.loads((checkpoint / "metrics" / "metrics").read_text()) or {}
    except (OSError, ValueError):
        return {}


def abstract(state: Any) -> Any:
    """Return the shapes, dtypes and shardings of `state`, to restore into."""
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
    )
