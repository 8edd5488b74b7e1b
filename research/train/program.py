"""A config's compiled functions, shared by all runs that differ in runtime values only."""

import dataclasses
import functools
import json
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax.sharding import Mesh
from ml_collections import ConfigDict

from research.checks import is_calibrated, is_post_training
from research.compression.calibration import observe
from research.config import flatten, plain
from research.data.buckets import Buckets, cut
from research.data.feed import Batch, evaluation_batches
from research.data.preprocess import channel_statistics, normalization
from research.data.sources import Dataset
from research.data.stream import Stream
from research.distributed.collectives import Collective, collectives
from research.distributed.hlo import parse
from research.distributed.mesh import batch_sharding, batch_shards, replicated
from research.distributed.parallel import compile_for, compile_step
from research.distributed.sharding import check_split, rules_of, shardings
from research.inspection.structure import BATCH, structure
from research.train.loss_scaling import dynamic_loss_scaling
from research.train.optimizer import hyperparams, make_optimizer
from research.train.state import TrainState, create_state
from research.train.step import make_train_step
from research.train.tasks import PRECISIONS, class_weights, make_task, total_steps
from research.train.teacher import distilled, taught_shapes, teacher_of


@dataclasses.dataclass(frozen=True)
class Program:
    """What a run calls.

    Attributes:
        task: whose functions these are.
        init: `(key, hyperparams) → state`.
        step: `(state, batch) → (state, metrics)`; donates the state. None where none is taken.
        evaluate: `(variables, batch) → (metric sums, examples)`.
        moments: `(variables, batch) → batch_stats` of the batch, for batch norm's adaptation and
            for averaged weights; None where neither is asked for.
        layers: paths of the parameters, `stem`, `stage1_block1/conv1`, …, in the network's order.
        macs: multiply–adds of the model for one image; see `research.inspection.structure`.
        collectives: of a training step; of sequences in buckets, of the longest.
        temporary_bytes: what a step needs beside the state and the batch, on each device: for the
            greatest part activations that the backward pass reads.
        compile_seconds: what the three functions cost.
        observe: `(variables, batch) → what enters each layer`, to calibrate by; None where no
            activations are quantised.
    """

    task: Any
    init: Callable[[jax.Array, dict], TrainState]
    step: Callable[[TrainState, Any], tuple[TrainState, Any]] | None
    evaluate: Callable[[Any, Any], Any]
    layers: tuple[str, ...]
    macs: int
    collectives: tuple[Collective, ...]
    temporary_bytes: int
    compile_seconds: float
    moments: Callable[[Any, Any], Any] | None = None
    observe: Callable[[Any, Any], Any] | None = None


def pure_functions(
    config: ConfigDict, dataset: Dataset, *, parts: int = 1, axis: str | None = None
) -> tuple[Callable, Callable, Callable]:
    """Return `init(key, hyperparams)`, `step(state, batch)`, `evaluate(variables, batch)`.

    Args:
        config: of a run.
        dataset: as `config.data` names it.
        parts: as `make_train_step` takes it.
        axis: as well.
    """
    task = make_task(config, dataset)
    judged = task.evaluate
    if teacher := teacher_of(config, dataset):
        task = distilled(task, config, dataset, teacher)
    layers = layer_order(task, batch_shapes(dataset, 1)) if config.transfer.unfreeze_every else ()
    steps = total_steps(config, dataset)
    optimizer = make_optimizer(config.optimizer, steps, config.transfer, layers)
    if config.quantize.kind == "binary":
        from research.compression.quantization import within_bounds

        optimizer = optax.chain(optimizer, within_bounds())
    if config.train.precision == "float16":
        optimizer = dynamic_loss_scaling(optimizer)
    step = make_train_step(
        task,
        optimizer,
        accumulate=config.train.accumulate,
        ema=config.train.ema,
        swa_start=swa_start(config, steps),
        diagnostics_every=config.train.diagnostics_every,
        parts=parts,
        axis=axis,
    )
    _, dtype = PRECISIONS[config.train.precision]

    averages = config.train.ema > 0 or config.train.swa > 0

    def init(key, values):
        values = {name: jnp.asarray(value, dtype) for name, value in values.items()}
        # Of its size only a state that is carried from batch to batch, row by row, depends.
        shapes = batch_shapes(dataset, config.data.batch_size)
        example = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
        return create_state(task, optimizer, key, example, values, ema=averages)

    return init, step, judged


def swa_start(config: ConfigDict, steps: int) -> int | None:
    """Return the steps after which `train.swa` averages the weights; None where it does not."""
    return round((1 - config.train.swa) * steps) if config.train.swa else None


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


def evaluation_feed(
    config: ConfigDict, dataset: Dataset, split: str, mesh: Mesh
) -> Iterator[Batch]:
    """Yield a split's examples once, in order, in batches for `Program.evaluate`."""
    return evaluation_batches(
        getattr(dataset, split),
        batch_size=eval_batch_size(config, dataset),
        sharding=batch_sharding(mesh),
        kind=config.data.feed,
    )


def module_of(task: Any) -> nn.Module:
    """Return the task's model, or that which it quantises."""
    return task.model if isinstance(task.model, nn.Module) else task.model.model


def macs(task: Any, dataset: Dataset) -> int:
    """Return the multiply–adds of the task's model for one example; see `structure`."""
    spec, model = dataset.train.spec, module_of(task)
    if "image" in spec:
        return structure(model, *spec["image"]).macs
    others = jax.eval_shape(task.others, batch_shapes(dataset, BATCH))
    return structure(model, *spec["inputs"], **others).macs


def training_shapes(config: ConfigDict, dataset: Dataset) -> dict[str, jax.ShapeDtypeStruct]:
    """Return the shapes of a training batch, which for DANN holds images of the target domain, and
    for a student what its teacher says.

    Of sequences in buckets they are those of the longest.
    """
    shapes = batch_shapes(dataset, config.data.batch_size)
    if teacher := teacher_of(config, dataset):
        return taught_shapes(teacher, make_task(config, dataset), shapes)
    return shapes | ({"target": shapes["image"]} if config.transfer.adapt == "dann" else {})


def for_each_length(compile: Callable, batch: dict, buckets: Buckets) -> tuple[Callable, Any]:
    """Return a step that passes a batch to what `compile(shapes)` made for batches of its length,
    and what it made for the longest.

    Args:
        compile: makes a step for the shapes of a batch.
        batch: those of the longest.
        buckets: the others' lengths.
    """
    if not buckets.steps:
        longest = compile(batch)
        return longest, longest

    def shapes(batch):
        return tuple(batch[name].shape for name in buckets.names)

    each = [jax.eval_shape(lambda x, cuts=cuts: cut(x, cuts), batch) for cuts in buckets.cuts]
    compiled = {shapes(batch): compile(batch) for batch in each}

    def step(state, batch):
        return compiled[shapes(batch)](state, batch)

    return step, compiled[shapes(batch)]


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
    devices = [d.id for d in mesh.devices.flat]
    key = program_key(config, dataset) + f"{mesh.shape_tuple}{devices}"
    with _locks[key]:
        if key not in _programs:
            _programs[key] = _compile(config, dataset, mesh)
        return _programs[key]


# Settings of the loop around the compiled functions.
HOST_ONLY = (
    *("epochs", "log_every", "eval_every", "checkpoint_every"),
    *("keep", "patience", "probes", "beams", "alpha", "tensorboard", "wandb", "mesh", "profile"),
)


def program_key(config: ConfigDict, dataset: Dataset) -> str:
    """Everything but the runtime values, and but for what no compiled function sees."""
    settings = plain(config)
    del settings["experiment"], settings["init_from"]
    if teacher_of(config, dataset):  # of which the step sees what it says
        del settings["distill"]["teacher"], settings["distill"]["model"]
        settings["distill"]["shapes"] = str(sorted(training_shapes(config, dataset).items()))
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


def step_maker(config: ConfigDict, dataset: Dataset, mesh: Mesh) -> Callable:
    """Return `make_step(axis=None)`, as `compile_step` takes it."""
    parts = batch_shards(mesh) if config.train.batch_statistics == "device" else 1
    return lambda axis=None: pure_functions(config, dataset, parts=parts, axis=axis)[1]


def _compile(config: ConfigDict, dataset: Dataset, mesh: Mesh) -> Program:
    start = time.perf_counter()
    task = make_task(config, dataset)
    init, _, evaluate = pure_functions(config, dataset)
    make_step, rules = step_maker(config, dataset, mesh), rules_of(config.model.name)
    state = state_shapes(config, init)
    check_split(state.params, mesh, rules, config.train.replicate)
    evaluated = batch_shapes(dataset, eval_batch_size(config, dataset))
    step = longest = None
    if not is_post_training(config):
        step, longest = for_each_length(
            lambda shapes: compile_step(
                config.train.parallel, mesh, make_step, state, shapes, rules=rules
            ),
            training_shapes(config, dataset),
            Buckets.of(dataset.train, config.data.buckets),
        )
    return Program(
        task=task,
        init=jax.jit(
            init, in_shardings=replicated(mesh), out_shardings=shardings(state, mesh, rules)
        )
        .lower(jax.random.key(0), hyperparams(config.optimizer))
        .compile(_QUICK if mesh.devices.flat[0].platform == "cpu" else None),
        step=step,
        evaluate=compile_for(mesh, evaluate, state.variables, evaluated, rules=rules),
        layers=layer_order(task, batch_shapes(dataset, 1)),
        macs=macs(task, dataset),
        collectives=tuple(collectives(parse(longest.as_text()), mesh.shape))
        if longest and mesh.size > 1
        else (),
        temporary_bytes=longest.memory_analysis().temp_size_in_bytes if longest else 0,
        moments=compile_for(mesh, task.moments, state.variables, evaluated, rules=rules)
        if config.transfer.adapt == "adabn"
        or (config.train.swa and "batch_stats" in state.variables)
        else None,
        observe=compile_for(
            mesh, functools.partial(observe, task.evaluate), state.variables, evaluated, rules=rules
        )
        if is_calibrated(config)
        else None,
        compile_seconds=time.perf_counter() - start,
    )
