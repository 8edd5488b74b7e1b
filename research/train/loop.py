"""One run: resume or start, train, evaluate, checkpoint, and record the result."""

import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from research.config import Preempted, plain
from research.data.feed import make_feed, padding_share
from research.data.sources import Dataset
from research.data.split import Split
from research.distributed.cluster import fetch, from_main, is_main, spread
from research.distributed.collectives import sent
from research.distributed.communication import replayed
from research.distributed.mesh import batch_sharding, replicated
from research.distributed.sharding import local_bytes
from research.files import read_rows, write_json
from research.metrics import mean
from research.tasks.additions import model_size
from research.train.checkpoint import Checkpoints, DamagedCheckpoint, abstract, set_aside
from research.train.evaluation import evaluate_model, evaluated
from research.train.history import (
    UNRATED,
    best_checkpointed,
    checkpointed,
    final_metrics,
    out_of_patience,
)
from research.train.optimizer import hyperparams, schedule_shape
from research.train.probes import PROBES, target
from research.train.program import Program, eval_batch_size, evaluation_feed, get_program, swa_start
from research.train.record import Run, provenance, record_attempt
from research.train.start import calibrated, starting_variables
from research.train.state import TrainState, params_digest, start_from
from research.train.tasks import total_steps
from research.train.teacher import taught_feed, teacher_of
from research.train.utilization import Meter, Tracer, summarized
from research.train.writers import Writers
from research.transfer.batch_norm import adapt_batch_norm

TARGET_SEED = 2**31  # added to a run's seed for the order of the target domain's images

Watch = Callable[[int, int, dict[str, float]], None]


def train(
    run: Run,
    dataset: Dataset,
    mesh: Mesh,
    *,
    watch: Watch = lambda step, steps, row: None,
    say: Callable[[str], None] = print,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Train `run` to its end from wherever it stands, and return its result.

    The numbers depend on the config, the seed and the hardware only: not on how often the run was
    killed and resumed, nor on what trains beside it. Of several processes each calls this; the
    first writes.

    Args:
        run: what to train.
        dataset: as `run.config.data` names it.
        mesh: the devices to train on.
        watch: called with `(step, steps, row)` at every log row.
        say: called with a sentence worth a person's while.
        stop: whether to checkpoint and leave, asked before every step.

    Raises:
        Preempted: `stop` said so; the run goes on from this very step when it is trained again.
    """
    with jax.enable_x64(run.config.train.precision == "float64"):
        while True:
            try:
                return _train(run, dataset, mesh, watch, say, stop)
            except DamagedCheckpoint as damage:
                say(f"{damage}; training again from the one before it")
                from_main(lambda: _set_best_aside(run))


def _set_best_aside(run: Run) -> None:
    rows = read_rows(run.directory / "metrics.jsonl")
    best = best_checkpointed(rows, run.config.train)["step"]
    set_aside(run.directory / "checkpoints", best)


def _train(run: Run, dataset: Dataset, mesh: Mesh, watch: Watch, say, stop) -> dict[str, Any]:
    config, directory = run.config, run.directory
    steps = total_steps(config, dataset)
    program = get_program(config, dataset, mesh)
    if is_main():
        write_json(directory / "config.json", run.settings(dataset))
        for name, vocabulary in dataset.vocabularies().items():
            vocabulary.save(directory / f"{name}.json")

    checkpoints = Checkpoints(directory / "checkpoints", config.train.keep, say)
    state = program.init(
        *spread((jax.random.key(run.seed), hyperparams(config.optimizer)), replicated(mesh))
    )
    restored = checkpoints.restore_latest(abstract(state))
    position = {"position": 0}
    if restored:
        state, position = restored
    elif config.init_from:
        state = start_from(state, starting_variables(config, dataset, state.variables))
        if program.observe is not None:
            variables = calibrated(config, dataset, mesh, state.variables, program.observe)
            state = start_from(state, variables)
    start = position["position"]
    attempts = from_main(lambda: record_attempt(directory, start))
    writers = Writers(
        directory,
        start,
        tensorboard=config.train.tensorboard,
        wandb=_wandb_arguments(run) if config.train.wandb else None,
    )
    status = "finished"
    try:
        if not steps:
            _rate(program, state, run, dataset, mesh, checkpoints, writers, fresh=not restored)
        elif not out_of_patience(writers.rows, config.train.patience):
            state, status = _fit(
                *(program, state, position, steps, run, dataset, mesh, checkpoints, writers, watch),
                *(say, stop),
            )
        if status == "finished" and int(state.step) < steps:
            status = "stopped_early"
        checkpoints.wait()
        metrics = final_metrics(writers.rows, config)
        if run.test and status != "diverged":
            best, _ = checkpoints.restore(metrics["best_step"], abstract(state))
            size = eval_batch_size(config, dataset)
            options = {"batch_size": size, "feed": config.data.feed}
            tested = evaluate_model(
                program.task,
                best.variables,
                dataset.test,
                mesh=mesh,
                compiled=program.evaluate,
                **options,
            ).metrics
            metrics |= {f"test/{name}": value for name, value in tested.items()}
            for probe in config.train.probes:
                metrics |= PROBES[probe](
                    program, best.variables, dataset, tested, run, mesh=mesh, **options
                )
            if dataset.target is not None:
                adapt = config.transfer.adapt == "adabn"
                options |= {"adapt": adapt, "mesh": mesh}
                metrics |= target(program, best.variables, dataset, **options)
    finally:
        checkpoints.close()
        writers.close()
    result = {
        "experiment": run.experiment,
        "scale": run.scale,
        "arm": run.arm,
        "seed": run.seed,
        "status": status,
        "steps": int(state.step),
        "resumed_from": [a["from"] for a in attempts if a["from"] > 0],
        "metrics": {k: v if math.isfinite(v) else None for k, v in metrics.items()},
        "params_digest": params_digest(fetch(state.params)),
        "wall_seconds": writers.rows[-1]["wall_seconds"],
        "compile_seconds": program.compile_seconds,
        "parameters": model_size(state.params),
        "macs": program.macs,
        "utilization": {
            **summarized(writers.rows),
            "state_mb": local_bytes((state.params, state.opt_state)) / 1e6,  # of each device
            "padding": _padding(run, dataset),
            "communication_mb": sent(program.collectives) / 1e6,  # of a step
            "temporary_mb": program.temporary_bytes / 1e6,
        },
        "layout": {
            "mesh": dict(mesh.shape),
            "parallel": config.train.parallel,
            "parameter_bytes": local_bytes(state.params),  # on each device
            "optimizer_bytes": local_bytes(state.opt_state),
        },
        "config": run.settings(dataset),
        **provenance(attempts),
    }
    from_main(lambda: str(write_json(directory / "result.json", result)))
    return result


def _rate(
    program: Program,
    state: TrainState,
    run: Run,
    dataset: Dataset,
    mesh: Mesh,
    checkpoints: Checkpoints,
    writers: Writers,
    *,
    fresh: bool,
) -> None:
    """Evaluate and checkpoint a network that is not trained."""
    began = time.perf_counter()
    validation = evaluate(program, state, dataset, "validation", run.config, mesh)
    if fresh:
        checkpoints.save(state, validation, {"position": 0})
        checkpoints.wait()
    if not writers.rows:
        writers.write(0, validation | {"wall_seconds": time.perf_counter() - began})


def _fit(
    program: Program,
    state: TrainState,
    position: dict[str, Any],
    steps: int,
    run: Run,
    dataset: Dataset,
    mesh: Mesh,
    checkpoints: Checkpoints,
    writers: Writers,
    watch: Watch,
    say: Callable[[str], None],
    stop: Callable[[], bool],
) -> tuple[TrainState, str]:
    """Take the steps after `position`; return the last state and `finished` or `diverged`."""
    settings = run.config.train
    saved = start = position["position"]
    feed = _training_feed(run, dataset, mesh, start, program, state.key)
    shape = schedule_shape(run.config.optimizer.schedule, steps)
    spent = writers.rows[-1]["wall_seconds"] if writers.rows else 0.0
    spent = position.get("wall_seconds", spent)
    began = time.perf_counter()
    meter = Meter(
        mesh,
        step_flops=6 * program.macs * run.config.data.batch_size,
        precision=settings.precision,
        communication=replayed(program.collectives, mesh),
    )
    tracer = Tracer(settings.profile, run.directory, say)
    # Metrics still on the device: reading them would wait for the step.
    unread = position.get("unread", [])
    try:
        for step in range(start + 1, steps + 1):
            if stop():
                if saved < step - 1:
                    read = [(at, jax.tree.map(float, m)) for at, m in jax.device_get(unread)]
                    seconds = spent + time.perf_counter() - began
                    here = {"position": step - 1, "unread": read, "wall_seconds": seconds}
                    checkpoints.save(state, UNRATED, here)
                raise Preempted(f"{run.arm} seed {run.seed} at step {step - 1}")
            with meter.waiting():
                batch = next(feed)
            tracer.before(step)
            state, metrics = program.step(state, batch)
            tracer.after(step, metrics)
            if step != 1 and settings.diagnostics_every and step % settings.diagnostics_every:
                del metrics["diagnostics"]  # zeros, between the steps that take them
            unread.append((step, metrics))
            evaluating = step % settings.eval_every == 0 or step == steps
            if not (evaluating or step % settings.log_every == 0):
                continue
            *between, row = _rows(jax.device_get(unread), program.layers)
            row |= meter.row(min(len(unread), step - start))
            unread = []
            for earlier in between:
                writers.write(earlier.pop("step"), earlier)
            del row["step"]
            row["learning_rate"] = run.config.optimizer.learning_rate * float(shape(step - 1))
            # The loss alone would not do: XLA:CPU's max(NaN, 0) is 0, so a ReLU network whose
            # weights are NaN goes on with a finite loss. What clipping makes finite is so.
            watched = (row["train/loss"], row["gradient_norm_clipped"])
            diverged = not all(map(math.isfinite, watched))
            if evaluating and not diverged:
                if settings.swa and program.moments and step > swa_start(run.config, steps):
                    state = _with_own_statistics(program, state, dataset, run.config, mesh)
                row |= evaluate(program, state, dataset, "validation", run.config, mesh)
                diverged = not math.isfinite(row["validation/loss"])
            row["wall_seconds"] = spent + time.perf_counter() - began
            writers.write(step, row)
            watch(step, steps, row)
            if diverged:
                return state, "diverged"
            if evaluating:
                stopping = step == steps or out_of_patience(writers.rows, settings.patience)
                if stopping or checkpointed(step, settings):
                    validation = {k: v for k, v in row.items() if k.startswith("validation/")}
                    checkpoints.save(state, validation, {"position": step})
                    saved = step
                if stopping:
                    break
            meter.begin()
    finally:
        tracer.close()
        feed.close()
    return state, "finished"


def _training_feed(
    run: Run, dataset: Dataset, mesh: Mesh, start: int, program: Program, key: jax.Array
) -> Iterator[Any]:
    """Yield batches from step `start` on, for DANN with the target domain's images beside them, for
    a student with what its teacher says of theirs; its augmentation is drawn from the run's `key`.
    """
    data = run.config.data

    def feed(split: Split, seed: int) -> Iterator[Any]:
        return make_feed(
            split,
            kind=data.feed,
            batch_size=data.batch_size,
            seed=seed,
            sharding=batch_sharding(mesh),
            buckets=data.buckets,
            workers=data.workers,
            start=start,
        )

    if teacher := teacher_of(run.config, dataset):
        yield from taught_feed(
            *(teacher, program.task, dataset.train, partial(feed, seed=run.seed)),
            mesh=mesh,
            batch_size=data.eval_batch_size,
            key=jnp.copy(key),  # the state's own is donated to its first step
            start=start,
        )
        return
    if run.config.transfer.adapt != "dann":
        yield from feed(dataset.train, run.seed)
        return
    # In another order, so that an image and its twin do not come together.
    feeds = feed(dataset.train, run.seed), feed(dataset.target.train, run.seed + TARGET_SEED)
    try:
        for batch, other in zip(*feeds, strict=True):
            yield batch | {"target": other["image"]}
    finally:
        for each in feeds:
            each.close()


def _padding(run: Run, dataset: Dataset) -> float:
    data = run.config.data
    options = {"batch_size": data.batch_size, "seed": run.seed, "buckets": data.buckets}
    return padding_share(dataset.train, **options)


def _with_own_statistics(
    program: Program, state: TrainState, dataset: Dataset, config: ConfigDict, mesh: Mesh
) -> TrainState:
    """Return `state` with those statistics in batch norm that the averaged weights have on the
    training images; those of the weights as they are, which training does not look at, are gone.
    """
    batches = evaluation_feed(config, dataset, "train", mesh)
    found = adapt_batch_norm(program.moments, state.variables, batches)["batch_stats"]
    old = state.collections["batch_stats"]
    placed = jax.tree.map(lambda new, old: spread(new, old.sharding), found, old)
    return state.replace(collections={**state.collections, "batch_stats": placed})


def evaluate(
    program: Program,
    state: TrainState,
    dataset: Dataset,
    split: str,
    config: ConfigDict,
    mesh: Mesh,
) -> dict[str, float]:
    """Return `{"<split>/loss": …, "<split>/accuracy": …}` over every example of a split."""
    batches = evaluation_feed(config, dataset, split, mesh)
    sums = [sums for sums, _ in evaluated(program.evaluate, state.variables, batches)]
    return mean(jax.device_get(sums), f"{split}/")


def _rows(window: list[tuple[int, dict]], layers: tuple[str, ...]) -> Iterator[dict[str, float]]:
    """Yield a row for each step with diagnostics, and one of means for the whole, the last.

    The diagnostics of layers stand in the order of `layers`.
    """
    position = {layer: i for i, layer in enumerate(layers)}
    for step, metrics in window:
        row = {"step": step}
        if "diagnostics" in metrics:
            values = mean([metrics["diagnostics"]], "diagnostics/").items()
            # A stable sort: quantity by quantity, each from the first layer to the last.
            row |= sorted(values, key=lambda kv: position.get(kv[0].split("/", 2)[2], 0))
        if step == window[-1][0]:
            row |= mean([m["examples"] for _, m in window], "train/")
            row |= mean([m["updates"] for _, m in window])
            yield row
        elif len(row) > 1:
            yield row


def _wandb_arguments(run: Run) -> dict[str, Any]:
    return {
        "project": f"ablate-{run.experiment}",
        "group": run.arm,
        "name": f"{run.arm}-{run.seed}",
        "id": f"{run.experiment}-{run.scale}-{run.arm}-{run.seed}".replace("/", "-"),
        "config": plain(run.config),
    }
