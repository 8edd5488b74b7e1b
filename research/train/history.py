"""What the rows of a run's metrics.jsonl say of it; nothing is kept elsewhere."""

import math
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

NOTHING = 1e-30  # a gradient's norm below which float32 has none

Rows = list[dict[str, Any]]

UNRATED = {"validation/loss": None}  # of a checkpoint that no evaluation goes with


def score(metrics: Mapping[str, float]) -> tuple[float, float]:
    """Rank an evaluation: by validation accuracy, where there is one, then by validation loss."""
    loss = metrics["validation/loss"]
    finite = loss is not None and math.isfinite(loss)
    return metrics.get("validation/accuracy", 0.0), -loss if finite else -math.inf


def evaluations(rows: Rows) -> Rows:
    """Return the rows that hold an evaluation on validation."""
    return [row for row in rows if "validation/loss" in row]


def out_of_patience(rows: Rows, patience: int) -> bool:
    """Whether the last `patience` evaluations all failed to beat the best before them."""
    scores = [score(row) for row in evaluations(rows)]
    return 0 < patience < len(scores) and max(scores[-patience:]) <= max(scores[:-patience])


def checkpointed(step: int, settings: ConfigDict) -> bool:
    """Whether an evaluation at `step` leaves a checkpoint even if it is not the last one."""
    return step % (settings.checkpoint_every or settings.eval_every) == 0


def best_checkpointed(rows: Rows, settings: ConfigDict) -> dict[str, Any] | None:
    """Return the best evaluation among those that left a checkpoint; None where none has."""
    rows = evaluations(rows)
    kept = [row for row in rows[:-1] if checkpointed(row["step"], settings)] + rows[-1:]
    return max(kept, key=lambda row: (score(row), row["step"]), default=None)


def _mean(rows: Rows, name: str, since: int) -> float:
    """Return the mean over the steps after `since`; NaN where a row of theirs is not finite.

    A row stands for all steps since the row before it.
    """
    total, before = 0.0, since
    for row in rows:
        if row["step"] > since:
            if row[name] is None:
                return math.nan
            total += (row["step"] - before) * row[name]
            before = row["step"]
    return total / (before - since)


def final_metrics(rows: Rows, config: ConfigDict) -> dict[str, float]:
    """Return what a run is summed up by, but for the test.

    The validation metrics and `best_step` of the best checkpoint; the training metrics over the
    last `train.eval_every` steps; `dead_units`: their share at the last diagnostics, a mean over
    activations; `steps_to_accuracy` and `steps_to_loss`: the first evaluation that reaches
    `experiment.target_accuracy` and `target_loss`, else NaN; `clipped_fraction`: the share of all
    steps whose gradient the clipping changed; and what `gradients` tells.
    """
    metrics = {}
    if best := best_checkpointed(rows, config.train):
        metrics = {k: v for k, v in best.items() if k.startswith("validation/")}
        metrics["best_step"] = best["step"]
    logged = [row for row in rows if "train/loss" in row]
    if logged:  # unless no step was taken
        since = max(0, logged[-1]["step"] - config.train.eval_every)
        metrics |= {k: _mean(logged, k, since) for k in logged[-1] if k.startswith("train/")}
        metrics["clipped_fraction"] = _mean(logged, "clipped_fraction", 0)
    dead = [{k: v for k, v in row.items() if "/dead_units/" in k} for row in rows]
    if dead := [found for found in dead if found]:
        metrics["dead_units"] = sum(dead[-1].values()) / len(dead[-1])
    metrics |= gradients(rows)
    for name, reached in (
        ("accuracy", lambda found: found >= config.experiment.target_accuracy),
        ("loss", lambda found: found <= config.experiment.target_loss),
    ):
        found = ((row["step"], row.get(f"validation/{name}")) for row in evaluations(rows))
        steps = (step for step, value in found if value is not None and reached(value))
        metrics[f"steps_to_{name}"] = next(steps, None)
    return {k: math.nan if v is None else v for k, v in metrics.items()}


def gradients(rows: Rows) -> dict[str, float]:
    """Return how even the gradient is before training, at the first diagnostics, in powers of ten.

    - `gradient_first`: the norm at the first layer's kernel.
    - `gradient_flow`: that over the norm at the last's; below 0 the gradient vanishes on its way
      back, above it explodes.
    - `gradient_spread`: the largest norm of a layer over the smallest.
    - `gradient_reach`, of a recurrent network: the norm with respect to the state of the first
      layer at the first step over that at the last.

    A norm below `NOTHING` counts as `NOTHING`; one that is not finite makes these NaN.

    References:
        Glorot & Bengio, "Understanding the difficulty of training deep feedforward neural
        networks" (2010), §4.2; Pascanu et al., "On the difficulty of training recurrent neural
        networks" (2013), §2.1.
    """
    layers = _first(rows, "diagnostics/gradient_norm/")
    steps = _first(rows, "diagnostics/state_gradient/layer1_forward/t=")
    found = {}
    if layers:  # in their order
        sizes = list(layers.values())
        spread = max(sizes) - min(sizes) if all(map(math.isfinite, sizes)) else math.nan
        found = {"gradient_first": sizes[0], "gradient_flow": sizes[0] - sizes[-1]}
        found["gradient_spread"] = spread
    if steps:
        at = {int(t): size for t, size in steps.items()}
        found["gradient_reach"] = at[min(at)] - at[max(at)]
    return found


def _first(rows: Rows, prefix: str) -> dict[str, float]:
    """Return the decimal logarithms of the first row that has any, by what follows `prefix`."""
    row = next((row for row in rows if any(name.startswith(prefix) for name in row)), {})
    norms = {name[len(prefix) :]: v for name, v in row.items() if name.startswith(prefix)}
    return {
        name: math.nan if norm is None else math.log10(max(norm, NOTHING))
        for name, norm in norms.items()
    }
