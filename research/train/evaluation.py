"""A model judged on a split."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from research import metrics
from research.data.feed import evaluation_batches
from research.data.split import Split
from research.distributed.mesh import batch_sharding, replicated
from research.tasks.additions import CARRY
from research.tasks.evaluation import Evaluation

Task = Any  # see `research.tasks`


def evaluate_model(
    task: Task,
    variables: Any,
    split: Split,
    *,
    mesh: Mesh,
    batch_size: int = 256,
    feed: str = "auto",
    compiled: Callable | None = None,
) -> Evaluation:
    """Evaluate `variables` over every example of `split`.

    Args:
        task: has `evaluate(variables, batch) → (metric sums, examples)`, and
            `summarize(means, examples)`.
        variables: `params` and the model's collections, as `task.init` returns.
        split: the examples.
        mesh: the devices to use.
        batch_size: a multiple of their number.
        feed: as `data.feed`.
        compiled: `task.evaluate`, compiled for such batches; compiled here by default.
    """
    if compiled is None:
        compiled = jax.jit(
            task.evaluate,
            in_shardings=(replicated(mesh), batch_sharding(mesh)),
            out_shardings=replicated(mesh),
        )
    batches = evaluation_batches(
        split, batch_size=batch_size, sharding=batch_sharding(mesh), kind=feed
    )
    found = jax.device_get(list(evaluated(compiled, variables, batches)))
    sums, examples = zip(*found, strict=True)
    arrays = {name: np.concatenate([e[name] for e in examples]) for name in examples[0]}
    if "mask" in arrays:
        real = arrays.pop("mask") > 0
        arrays = {name: array[real] for name, array in arrays.items()}
    return task.summarize(metrics.mean(sums), arrays)


def evaluated(
    evaluate: Callable, variables: Any, batches: Iterable[Any]
) -> Iterator[tuple[dict, dict]]:
    """Yield the metric sums and the examples of each batch.

    The state in which a batch of streams leaves the model is that in which the next one begins.
    """
    for batch in batches:
        sums, examples = evaluate(variables, batch)
        if CARRY in examples:
            variables = variables | {CARRY: examples.pop(CARRY)}
        yield sums, examples
