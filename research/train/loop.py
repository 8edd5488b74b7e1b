"""One run: resume or start, train, evaluate, checkpoint, and record the result."""

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from research.config import plain
from research.data.feed import evaluation_batches, make_feed
from research.data.sources import Dataset
from research.data.split import Split
from research.distributed.mesh import batch_sharding, replicated
from research.files import read_rows, write_json
from research.metrics import mean
from research.train.checkpoint import Checkpoints, DamagedCheckpoint, abstract, set_aside
from research.train.evaluation import evaluate_model, evaluated
from research.train.history import best_checkpointed, checkpointed, final_metrics, out_of_patience
from research.train.optimizer import hyperparams, schedule_shape
from research.train.probes import PROBES, target
from research.train.program import Program, eval_batch_size, get_program, starting_variables
from research.train.record import Run, provenance, record_attempt
from research.train.state import TrainState, params_digest, start_from
from research.train.tasks import total_steps
from research.train.writers import Writers

TARGET_SEED = 2**31  # added to a run's seed for the order of the target domain's images

Watch = Callable[[int, int, dict[str, float]], None]


def train(
    run: Run,
    dataset: Dataset,
    mesh: Mesh,
    *,
    watch: Watch = lambda step, steps, row: None,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Train `run` to its end from wherever it stands, and return its result.

    The numbers depend on the config, the seed and the hardware only: not on how often the run was
    killed and resumed, nor on what trains beside it.

    Args:
        run: what to train.
        dataset: as `run.config.data` names it.
        mesh: the devices to train on.
        watch: called with `(step, steps, row)` at every log row.
        say: called with a sentence worth a person's while.
    """
    with jax.enable_x64(run.config.train.precision == "float64"):
        while True:
            try:
                return _train(run, dataset, mesh, watch, say)
            except DamagedCheckpoint as damage:
                say(f"{damage}; training again from the one before it")
                rows = read_rows(run.directory / "metrics.jsonl")
                best = best_checkpointed(rows, run.config.train)["step"]
                set_aside(run.directory / "checkpoints", best)


def _train(run: Run, dataset: Dataset, mesh: Mesh, watch: Watch, say) -> dict[str, Any]:
    config, directory = run.config, run.directory
    steps = total_steps(config, dataset)
    program = get_program(config, dataset, mesh)
    write_json(directory / "config.json", run.settings(dataset))
    for name, vocabulary in dataset.vocabularies().items():
        vocabulary.save(directory / f"{name}.json")

    checkpoints = Checkpoints(directory / "checkpoints", config.train.keep, say)
    state = program.init(
        *jax.device_put((jax.random.key(run.seed), hyperparams(config.optimizer)), replicated(mesh))
    )
    restored = checkpoints.restore_latest(abstract(state))
    start = 0
    if restored:
        state, start = restored[0], restored[1]["position"]
    elif config.init_from:
        state = start_from(state, starting_variables(config, dataset, state.variables))
    attempts = record_attempt(directory, start)
    writers = Writers(
        directory,
        start,
        tensorboard=config.train.tensorboard,
        wandb=_wandb_arguments(run) if config.train.wandb else None,
    )
    status = "finished"
    try:
        if not out_of_patience(writers.rows, config.train.patience):
            state, status = _fit(
                program, state, start, steps, run, dataset, mesh, checkpoints, writers, watch
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
                    program, best.variables, dataset, tested, config.train, mesh=mesh, **options
                )
            if dataset.target is not None:
                metrics |= target(program, best.variables, dataset, mesh=mesh, **options)
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
        "params_digest": params_digest(jax.device_get(state.params)),
        "wall_seconds": writers.rows[-1]["wall_seconds"],
        "compile_seconds": program.compile_seconds,
        "parameters": sum(p.size for p in jax.tree.leaves(state.params)),
        "macs": program.macs,
        "config": run.settings(dataset),
        **provenance(attempts),
    }
    write_json(directory / "result.json", result)
    return result


def _fit(
    program: Program,
    state: TrainState,
    start: int,
    steps: int,
    run: Run,
    dataset: Dataset,
    mesh: Mesh,
    checkpoints: Checkpoints,
    writers: Writers,
    watch: Watch,
) -> tuple[TrainState, str]:
    """Take the steps after `start`; return the last state and `finished` or `diverged`."""
    settings = run.config.train
    feed = _training_feed(run, dataset, mesh, start)
    shape = schedule_shape(run.config.optimizer.schedule, steps)
    spent = writers.rows[-1]["wall_seconds"] if writers.rows else 0.0
    began = time.perf_counter()
    unread = []  # metrics still on the device: reading them would wait for the step
    try:
        for step in range(start + 1, steps + 1):
            state, metrics = program.step(state, next(feed))
            if step != 1 and settings.diagnostics_every and step % settings.diagnostics_every:
                del metrics["diagnostics"]  # zeros, between the steps that take them
            unread.append((step, metrics))
            evaluating = step % settings.eval_every == 0 or step == steps
            if not (evaluating or step % settings.log_every == 0):
                continue
            *between, row = _rows(jax.device_get(unread), program.layers)
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
                if stopping:
                    break
    finally:
        feed.close()
    return state, "finished"


def _training_feed(run: Run, dataset: Dataset, mesh: Mesh, start: int) -> Iterator[Any]:
    """Yield batches from step `start` on, for DANN with the target domain's images beside them."""
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


def evaluate(
    program: Program,
    state: TrainState,
    dataset: Dataset,
    split: str,
    config: ConfigDict,
    mesh: Mesh,
) -> dict[str, float]:
    """Return `{"<split>/loss": …, "<split>/accuracy": …}` over every example of a split."""
    batches = evaluation_batches(
        getattr(dataset, split),
        batch_size=eval_batch_size(config, dataset),
        sharding=batch_sharding(mesh),
        kind=config.data.feed,
    )
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
