"""What a run starts from: its model's shapes, and the variables of `init_from`."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from research.compression.calibration import RANGES, calibrate
from research.config import UserError, flatten
from research.data.sources import Dataset
from research.files import read_json
from research.models import SEQUENCE_MODELS
from research.tasks.additions import of_model
from research.train.checkpoint import best_variables
from research.train.program import batch_shapes, evaluation_feed, module_of
from research.train.tasks import make_task
from research.transfer import patterns
from research.transfer.initial import initial_variables, transplant
from research.transfer.torch_layout import overlay


def starting_variables(config: ConfigDict, dataset: Dataset, fresh: Any = None) -> dict[str, Any]:
    """Return the variables of `config.init_from`, what it does not hold as in `fresh`.

    Args:
        config: names them and the model.
        dataset: of its images the model is made.
        fresh: the model's own variables; their shapes where not given.

    Raises:
        UserError: there are no such weights, or they do not fit.
    """
    if fresh is None:
        fresh = variable_shapes(config, dataset)
    source, replace_head = config.init_from, config.transfer.replace_head
    if Path(source).is_dir():
        variables, what = of_model(best_variables(Path(source))), f"init_from={source}"
        _check_float(Path(source), config.quantize.kind)
        found = transplant(of_model(fresh), variables, what, replace_head=replace_head)
    else:
        model, name = module_of(make_task(config, dataset)), config.model.name
        found = initial_variables(name, model, of_model(fresh), source, replace_head=replace_head)
    return overlay(fresh, found)


def _check_float(run: Path, kind: str) -> None:
    """Raise a `UserError` for a run whose network is quantised, unless that is asked for again."""
    found = read_json(run / "config.json").get("quantize", {"kind": "none"})["kind"]
    if found not in ("none", kind):
        raise UserError(
            f"init_from={run}: found a network that is quantised to {found}, expected one of "
            f"floats; or, to go on with it, quantize.kind={found}"
        )


def calibrated(
    config: ConfigDict, dataset: Dataset, mesh: Mesh, variables: dict[str, Any], observe: Callable
) -> dict[str, Any]:
    """Return `variables` with the ranges of activations that the first training batches ask for.

    Args:
        config: of a run; `quantize.calibration` and `quantize.batches` say how.
        dataset: whose training split they are of.
        mesh: the devices to use.
        variables: without ranges, or with those of 0.
        observe: `research.compression.calibration.observe` of the task, compiled.
    """
    batches = evaluation_feed(config, dataset, "train", mesh)
    seen = (observe(variables, b) for b in itertools.islice(batches, config.quantize.batches))
    return variables | {RANGES: calibrate(seen, config.quantize.calibration)}


def variable_shapes(config: ConfigDict, dataset: Dataset) -> dict[str, Any]:
    """Return the shapes and dtypes of the model's parameters and collections."""
    task = make_task(config, dataset)
    return of_model(jax.eval_shape(task.init, jax.random.key(0), batch_shapes(dataset, 1)))


def check_transfer(config: ConfigDict, shapes: dict[str, Any]) -> None:
    """Check what `config.transfer` says of the model, whose variables have these `shapes`.

    Raises:
        UserError: a pattern that means no parameter, nothing left to train, no batch norm to adapt,
            or a head to replace of nothing.
    """
    if config.transfer.replace_head and not config.init_from:
        raise UserError(
            "transfer.replace_head: found True without init_from, expected weights whose last "
            "layer is to be replaced"
        )
    if config.transfer.adapt == "adabn" and "batch_stats" not in shapes:
        raise UserError(
            f"transfer.adapt: found 'adabn' with a model ({config.model.name}) without batch norm, "
            "expected one with it: model.norm='batch'"
        )
    if config.train.swa and "batch_stats" in shapes and config.model.name in SEQUENCE_MODELS:
        raise UserError(
            f"train.swa: found {config.train.swa} with batch norm in a network of sequences, whose "
            "statistics cannot be taken anew; expected 0, or train.ema"
        )
    if config.transfer.freeze or config.transfer.rates:
        paths = [path.replace(".", "/") for path in flatten(shapes["params"])]
        patterns.check(config.transfer.freeze, config.transfer.rates, paths)
