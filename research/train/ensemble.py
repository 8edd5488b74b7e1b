"""A deep ensemble: finished runs that answer together, by the mean of their probabilities.

It is a run of an arm that trains nothing: `ensemble.of` names the arm whose seeds are its members,
`ensemble.size` at a time, so that the ensembles of a study share no member and their metrics have
an interval.

References:
    B. Lakshminarayanan et al., Simple and Scalable Predictive Uncertainty Estimation using Deep
    Ensembles, NeurIPS 2017, §2.4.
"""

import hashlib
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from research.config import UserError
from research.data.sources import Dataset
from research.distributed.cluster import from_main, is_main, spread
from research.distributed.mesh import replicated
from research.files import read_json, write_json
from research.tasks.evaluation import Evaluation
from research.train.checkpoint import finished
from research.train.evaluation import evaluate_model
from research.train.optimizer import hyperparams
from research.train.program import eval_batch_size, get_program
from research.train.record import Run, differing, facts, provenance, record_attempt, recorded
from research.train.start import starting_variables
from research.train.state import start_from

SPLITS = ("validation", "test")


def judge(run: Run, dataset: Dataset, mesh: Mesh) -> dict[str, Any]:
    """Evaluate the ensemble of the runs that `ensemble.members` names, and return its result.

    Its metrics are those of a single model with the mean probabilities for its own, on validation
    and on test; its parameters and its arithmetic are those of all members.

    Raises:
        UserError: a member that has not finished, that diverged, of other data or another head.
    """
    began = time.perf_counter()
    config = run.config
    if is_main():
        write_json(run.directory / "config.json", run.settings(dataset))
    attempts = from_main(lambda: record_attempt(run.directory, 0))
    directories = [Path(each) for each in config.ensemble.members]
    results = [_member(directory, dataset) for directory in directories]
    tasks, said = zip(*(_asked(each, run, dataset, mesh) for each in directories), strict=True)
    if any(each["test"].probabilities is None for each in said):
        raise UserError(
            f"ensemble.members: found a task without probabilities ({dataset.name}), expected "
            "classification"
        )
    metrics = {
        f"{split}/{name}": value
        for split in SPLITS
        for name, value in together(tasks[0], [each[split] for each in said]).metrics.items()
    }
    digests = " ".join(result["params_digest"] for result in results)
    result = {
        "experiment": run.experiment,
        "scale": run.scale,
        "arm": run.arm,
        "seed": run.seed,
        "status": "finished",
        "steps": 0,
        "resumed_from": [],
        "metrics": metrics,
        "members": [str(each) for each in config.ensemble.members],
        "params_digest": hashlib.sha256(digests.encode()).hexdigest(),
        "wall_seconds": time.perf_counter() - began,
        "compile_seconds": 0.0,
        "parameters": sum(each["parameters"] for each in results),
        "macs": sum(each["macs"] for each in results),
        "config": run.settings(dataset),
        **provenance(attempts),
    }
    from_main(lambda: str(write_json(run.directory / "result.json", result)))
    return result


def _asked(
    directory: Path, run: Run, dataset: Dataset, mesh: Mesh
) -> tuple[Any, dict[str, Evaluation]]:
    """Return a member's task, and what it says of each of `SPLITS`."""
    path = directory / "config.json"
    config = recorded(read_json(path), {"init_from": str(directory)}, path)
    with jax.enable_x64(config.train.precision == "float64"):
        program = get_program(config, dataset, mesh)
        key = jax.random.key(run.seed)
        state = program.init(*spread((key, hyperparams(config.optimizer)), replicated(mesh)))
        state = start_from(state, starting_variables(config, dataset, state.variables))
        return program.task, {
            split: evaluate_model(
                program.task,
                state.variables,
                getattr(dataset, split),
                mesh=mesh,
                batch_size=eval_batch_size(config, dataset),
                feed=run.config.data.feed,
                compiled=program.evaluate,
            )
            for split in SPLITS
        }


def together(task: Any, members: list[Evaluation]) -> Evaluation:
    """Return the evaluation of the members' mean probabilities, on the examples of theirs.

    Args:
        task: with a softmax head.
        members: of one split, each with its probabilities.
    """
    mean = np.mean([each.probabilities for each in members], axis=0)
    labels = members[0].labels
    with jax.enable_x64(True):  # the logits whose softmax is the mean
        outputs = np.log(np.maximum(mean, np.finfo(np.float64).tiny))
        loss = float(jnp.mean(task.head.loss(outputs, labels)))
    means = {"loss": loss, "accuracy": float(np.mean(outputs.argmax(-1) == labels))}
    return task.summarize(means, {"outputs": outputs, "label": labels})


def _member(directory: Path, dataset: Dataset) -> dict[str, Any]:
    """Return the result of a member, of which there has to be one, on the ensemble's data."""
    result = finished(directory, "ensemble.members")
    if (head := result["config"]["train"].get("head", "softmax")) != "softmax":
        raise UserError(
            f"ensemble.members: {directory} has train.head={head!r}, expected 'softmax', whose "
            "probabilities are averaged"
        )
    if difference := differing(result["config"]["dataset"], facts(dataset)):
        fact, found, here = difference
        raise UserError(
            f"ensemble.members: {directory} is of data with {fact} {found}, expected that of the "
            f"ensemble's, {here}"
        )
    return result
