"""A config's compiled functions, shared by all runs that differ in runtime values only."""

import dataclasses
import json
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from research.config import UserError, flatten, plain
from research.data.buckets import Buckets, cut
from research.data.preprocess import channel_statistics, normalization
from research.data.sources import Dataset
from research.data.stream import Stream
from research.distributed.mesh import compile_for, replicated
from research.inspection.structure import BATCH, structure
from research.tasks.domain_adversarial import of_model
from research.train.checkpoint import best_variables
from research.train.optimizer import hyperparams, make_optimizer
from research.train.state import TrainState, create_state
from research.train.step import make_train_step
from research.train.tasks import PRECISIONS, class_weights, make_task, total_steps
from research.transfer import patterns
from research.transfer.initial import initial_variables, transplant
from research.transfer.torch_layout import overlay


@dataclasses.dataclass(frozen=True)
class Program:
    """What a run calls.

    Attributes:
        task: whose functions these are.
        init: `(key, hyperparams) → state`.
        step: `(state, batch) → (state, metrics)`; donates the state.
        evaluate: `(variables, batch) → (metric sums, examples)`.
        moments: `(variables, batch) → batch_stats` of the batch, for batch norm's adaptation; None
            where it is not asked for.
        layers: paths of the parameters, `stem`, `stage1_block1/conv1`, …, in the network's order.
        macs: multiply–adds of the model for one image; see `research.inspection.structure`.
        compile_seconds: what the three functions cost.
    """

    task: Any
    init: Callable[[jax.Array, dict], TrainState]
    step: Callable[[TrainState, Any], tuple[TrainState, Any]]
    evaluate: Callable[[Any, Any], Any]
    layers: tuple[str, ...]
    macs: int
    compile_seconds: float
    moments: Callable[[Any, Any], Any] | None = None


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
        found = transplant(of_model(fresh), variables, what, replace_head=replace_head)
    else:
        model, name = make_task(config, dataset).model, config.model.name
        found = initial_variables(name, model, of_model(fresh), source, replace_head=replace_head)
    return overlay(fresh, found)


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
    if config.transfer.freeze or config.transfer.rates:
        paths = [path.replace(".", "/") for path in flatten(shapes["params"])]
        patterns.check(config.transfer.freeze, config.transfer.rates, paths)


def pure_functions(config: ConfigDict, dataset: Dataset) -> tuple[Callable, Callable, Callable]:
    """Return `init(key, hyperparams)`, `step(state, batch)`, `evaluate(variables, batch)`."""
    task = make_task(config, dataset)
    layers = layer_order(task, batch_shapes(dataset, 1)) if config.transfer.unfreeze_every else ()
    steps = total_steps(config, dataset)
    optimizer = make_optimizer(config.optimizer, steps, config.transfer, layers)
    step = make_train_step(
        task,
        optimizer,
        accumulate=config.train.accumulate,
        ema=config.train.ema,
        diagnostics_every=config.train.diagnostics_every,
    )
    _, dtype = PRECISIONS[config.train.precision]

    def init(key, values):
        values = {name: jnp.asarray(value, dtype) for name, value in values.items()}
        # Of its size only a state that is carried from batch to batch, row by row, depends.
        shapes = batch_shapes(dataset, config.data.batch_size)
        example = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
        return create_state(task, optimizer, key, example, values, ema=config.train.ema > 0)

    return init, step, task.evaluate


def batch_shapes(dataset: Dataset, size: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Return the shapes of a batch of `size` examples: the splits' arrays, and the mask."""
    shapes = {
        name: jax.ShapeDtypeStruct((size, *shape), dtype)
        for name, (shape, dtype) in dataset.train.spec.items()
    }
    return shapes | {"mask": jax.ShapeDtypeStruct((size,), jnp.float32)}


def eval_batch_size(config: ConfigDict, dataset: Dataset) -> int:
    """Return the size of the batches of evaluation: of streams, that of training.

    What a model carries from batch to batch has a row for each of theirs.
    """
    carried = isinstance(dataset.train, Stream)
    return config.data.batch_size if carried else config.data.eval_batch_size


def macs(task: Any, dataset: Dataset) -> int:
    """Return the multiply–adds of the task's model for one example; see `structure`."""
    spec = dataset.train.spec
    if "image" in spec:
        return structure(task.model, *spec["image"]).macs
    others = jax.eval_shape(task.others, batch_shapes(dataset, BATCH))
    return structure(task.model, *spec["inputs"], **others).macs


def training_shapes(config: ConfigDict, dataset: Dataset) -> dict[str, jax.ShapeDtypeStruct]:
    """Return the shapes of a training batch, which for DANN holds images of the target domain.

    Of sequences in buckets they are those of the longest.
    """
    shapes = batch_shapes(dataset, config.data.batch_size)
    return shapes | ({"target": shapes["image"]} if config.transfer.adapt == "dann" else {})


def for_each_length(compile: Callable, batch: dict, buckets: Buckets) -> Callable:
    """Return a step that passes a batch to what `compile(shapes)` made for batches of its length.

    Args:
        compile: makes a step for the shapes of a batch.
        batch: those of the longest.
        buckets: the others' lengths.
    """
    if not buckets.steps:
        return compile(batch)

    def shapes(batch):
        return tuple(batch[name].shape for name in buckets.names)

    each = [jax.eval_shape(lambda x, cuts=cuts: cut(x, cuts), batch) for cuts in buckets.cuts]
    compiled = {shapes(batch): compile(batch) for batch in each}
    return lambda state, batch: compiled[shapes(batch)](state, batch)


def layer_order(task: Any, batch: dict) -> tuple[str, ...]:
    """Return the paths of the modules with parameters, in the order in which the model makes them.

    JAX sorts dicts wherever they cross a `jit`; only inside the trace is the order still there.
    """
    order = {}

    def trace(key, batch):
        params = task.init(key, batch)["params"]
        order.update(dict.fromkeys(p.rpartition(".")[0].replace(".", "/") for p in flatten(params)))
        return ()

    jax.eval_shape(trace, jax.random.key(0), batch)
    return tuple(order)


def state_shapes(config: ConfigDict, init: Callable) -> TrainState:
    """Return the shapes and dtypes of the train state."""
    return jax.eval_shape(init, jax.random.key(0), hyperparams(config.optimizer))


# Initialisation runs once, and is mostly random bits: on XLA:CPU optimising them took 12 s of
# compilation for a ResNet-8, and 3 s without.
_QUICK = {"xla_backend_optimization_level": 0}

_programs: dict[str, Program] = {}
_locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)


def get_program(config: ConfigDict, dataset: Dataset, mesh: Mesh) -> Program:
    """Compile `config`'s functions for `mesh`, or return those of a config that shares them.

    Two threads that ask for one program at the same time wait for one compilation.
    """
    key = program_key(config, dataset) + str([d.id for d in mesh.devices.flat])
    with _locks[key]:
        if key not in _programs:
            _programs[key] = _compile(config, dataset, mesh)
        return _programs[key]


# Settings of the loop around the compiled functions.
HOST_ONLY = (
    *("epochs", "log_every", "eval_every", "checkpoint_every"),
    *("keep", "patience", "probes", "beams", "alpha", "tensorboard", "wandb"),
)


def program_key(config: ConfigDict, dataset: Dataset) -> str:
    """Everything but the runtime values, and but for what no compiled function sees."""
    settings = plain(config)
    del settings["experiment"], settings["init_from"]
    del settings["transfer"]["replace_head"], settings["transfer"]["target_domain"]
    for name in ("classes", "imbalance", "train_size", "domain"):  # seen by the images alone
        settings["data"].pop(name)
    for name in ("learning_rate", "clip"):
        settings["optimizer"].pop(name)
    settings["optimizer"]["clip"] = config.optimizer.clip.kind
    if config.transfer.adapt == "oracle":
        settings["transfer"]["adapt"] = "none"
    settings["steps"] = total_steps(config, dataset)
    for name in HOST_ONLY:
        settings["train"].pop(name)
    statistics = ()
    if "image" in dataset.train.spec:
        statistics = normalization(config.data.normalize, dataset.train)
    if config.data.augment:  # which fills with the mean colour
        statistics += (channel_statistics(dataset.train)[0].tolist(),)
    shapes = str((dataset.train.spec, dataset.num_classes))
    return json.dumps([settings, shapes, statistics, class_weights(config, dataset)])


def _compile(config: ConfigDict, dataset: Dataset, mesh: Mesh) -> Program:
    start = time.perf_counter()
    task = make_task(config, dataset)
    init, step, evaluate = pure_functions(config, dataset)
    state = state_shapes(config, init)
    evaluated = batch_shapes(dataset, eval_batch_size(config, dataset))
    return Program(
        task=task,
        init=jax.jit(init, in_shardings=replicated(mesh), out_shardings=replicated(mesh))
        .lower(jax.random.key(0), hyperparams(config.optimizer))
        .compile(_QUICK if mesh.devices.flat[0].platform == "cpu" else None),
        step=for_each_length(
            lambda shapes: compile_for(mesh, step, state, shapes, donate=True),
            training_shapes(config, dataset),
            Buckets.of(dataset.train, config.data.buckets),
        ),
        evaluate=compile_for(mesh, evaluate, state.variables, evaluated, donate=False),
        layers=layer_order(task, batch_shapes(dataset, 1)),
        macs=macs(task, dataset),
        moments=compile_for(mesh, task.moments, state.variables, evaluated, donate=False)
        if config.transfer.adapt == "adabn"
        else None,
        compile_seconds=time.perf_counter() - start,
    )
