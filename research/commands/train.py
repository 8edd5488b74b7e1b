"""`--mode=train`: run what is missing, then report."""

import contextlib
import queue
import threading
from collections.abc import Callable, Iterable
from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict
from rich.console import Console

from research import workdir
from research.commands.report import show_report
from research.config import Preempted, UserError, plain
from research.data.buckets import Buckets
from research.data.feed import is_resident
from research.data.sources import Dataset, load_dataset
from research.data.stream import Stream
from research.distributed.cluster import barrier, check_shared, from_main, is_main
from research.distributed.mesh import check_batch, lanes
from research.distributed.parallel import check_parallel
from research.distributed.preemption import notice
from research.distributed.sharding import check_split, rules_of
from research.files import write_json
from research.progress import Watcher
from research.study import Study, sources_of
from research.train.ensemble import judge
from research.train.loop import train
from research.train.probes import check_probes
from research.train.record import Run, facts
from research.train.start import check_transfer, starting_variables, variable_shapes
from research.train.tasks import make_task
from research.train.teacher import distilled, teacher_of
from research.transfer.initial import check_source, transplant


def run_study(study: Study, data_dir: str | None, command: str) -> None:
    """Tune each arm on validation, train every arm with every seed, and report.

    Whatever has finished in the workdir stands; whatever was cut off resumes. Of several processes
    each calls this, and the first writes and speaks.

    Raises:
        UserError: for anything that cannot be, before anything is written.
        Preempted: SIGTERM has come; what was training is checkpointed.
    """
    datasets = Datasets(data_dir)
    prepare(study, datasets)
    parts = study.generations()
    for part in parts:
        datasets.read(part.configs.values())
        untuned = {arm: config for arm, config in part.configs.items() if not part.tuned(arm)}
        workdir.check(part, [*part.tuning_runs(), *part.runs(untuned)], datasets.of)
    every = [run for part in parts for run in (*part.tuning_runs(), *part.runs())]
    if is_main() and (warning := workdir.other_code(every)):
        print(warning)
    arms = [*study.sources, *study.configs]
    alone = workdir.locked(study.workdir, arms) if is_main() else contextlib.nullcontext()
    with alone, notice() as stop:
        check_shared(study.workdir)
        if is_main():
            with workdir.turn(study.workdir):
                workdir.describe(study, datasets.of(next(iter(study.configs.values()))), command)
        for part in parts:
            run_all("tuning", part.tuning_runs(), datasets, stop)
            for arm, choice in part.choose().items() if is_main() else ():
                write_json(part.workdir / arm / "tune.json", choice)
            runs = part.runs(part.tuned_configs())
            workdir.check(part, runs, datasets.of)
            run_all(study.name, runs, datasets, stop)
        if is_main():
            with workdir.turn(study.workdir):
                show_report(study.workdir)
        barrier("reported")


class Datasets:
    """The datasets that configs name, each opened once."""

    def __init__(self, data_dir: str | None):
        """Look for them in `data_dir`."""
        self._data_dir = data_dir
        self._open: dict[tuple, Dataset] = {}

    def of(self, config: ConfigDict) -> Dataset:
        """Return the dataset of `config.data`."""
        options = data_options(config)
        key = (config.data.name, *options.values())
        if key not in self._open:
            self._open[key] = load_dataset(config.data.name, self._data_dir, **options)
        return self._open[key]

    def read(self, configs: Iterable[ConfigDict]) -> None:
        """Decode what will be kept on the devices, so that damage shows before any training.

        Raises:
            UserError: an image that cannot be read, or a label out of range.
        """
        for config in configs:
            dataset = self.of(config)
            for split in (dataset.train, dataset.validation, dataset.test):
                if is_resident(split, config.data.feed):
                    split.arrays()


def data_options(config: ConfigDict) -> dict[str, Any]:
    """Return what `load_dataset` takes beside the name and the folder."""
    names = ("image_size", "validation", "test", "classes", "imbalance", "train_size", "domain")
    names += ("length", "horizon", "tokens", "vocabulary_size")
    options = {name: config.data[name] for name in names}
    target = config.transfer.target_domain
    if config.transfer.adapt == "oracle":
        options["domain"] = target
    return options | {"target_domain": target}


def prepare(study: Study, datasets: Datasets) -> None:
    """Open the data and build every arm's model without running it.

    Raises:
        UserError: a dataset, model, batch size or number of devices that cannot be.
    """
    configs, known = study.sources | study.configs, {}

    def shapes_of(config: ConfigDict, dataset: Dataset) -> dict[str, Any]:
        """Of the model's variables, traced once for all arms that share them."""
        seen = (dataset.train.spec, dataset.num_classes, config.train.head)
        key = str((config.model, config.train.precision, *seen))
        if key not in known:
            with jax.enable_x64(config.train.precision == "float64"):
                known[key] = variable_shapes(config, dataset)
        return known[key]

    for arm, config in configs.items():
        try:
            check_source(config.init_from)
            dataset = datasets.of(config)
            size, train_size = config.data.batch_size, len(dataset.train)
            if size > train_size:
                raise UserError(
                    f"data.batch_size: found {size}, expected at most the {train_size} training "
                    f"examples of {dataset.name}"
                )
            Buckets.of(dataset.train, config.data.buckets)
            mesh = lanes(config.train.mesh)[0]
            check_parallel(config.train.parallel, mesh)
            if isinstance(dataset.train, Stream) and config.train.accumulate > 1:
                raise UserError(
                    f"train.accumulate: found {config.train.accumulate} with data.name="
                    f"{dataset.name!r}, whose rows carry a state from batch to batch; expected 1"
                )
            text, micro = config.train.mesh, config.train.accumulate
            check_batch("data.batch_size", config.data.batch_size, mesh, text, micro)
            check_batch("data.eval_batch_size", config.data.eval_batch_size, mesh, text)
            make_task(config, dataset)
            check_probes(config, dataset)
            shapes = shapes_of(config, dataset)  # its layers may shrink the images away
            if config.train.batch_statistics == "device" and (
                "batch_stats" not in shapes or isinstance(dataset.train, Stream)
            ):
                raise UserError(
                    "train.batch_statistics: found 'device' with a model without batch norm, or "
                    "one whose rows carry a state; expected 'global'"
                )
            check_split(shapes["params"], mesh, rules_of(config.model.name), config.train.replicate)
            check_transfer(config, shapes)
            sources = sources_of(config)
            if source := sources.get("init_from"):
                transplant(
                    shapes,
                    shapes_of(configs[source], datasets.of(configs[source])),
                    f"init_from={config.init_from}",
                    replace_head=config.transfer.replace_head,
                )
            elif config.init_from:
                starting_variables(config, dataset, shapes)
            if config.distill.teacher:
                taught = configs.get(sources.get("distill.teacher"))
                _check_teacher(config, dataset, taught, taught and datasets.of(taught))
        except UserError as error:
            raise UserError(f"arm {arm}: {error}") from None


def _check_teacher(
    config: ConfigDict, dataset: Dataset, taught: ConfigDict | None, its: Dataset | None
) -> None:
    """Check that what is to teach can: an arm of which only the config is there, or weights."""
    record = None if taught is None else plain(taught) | {"dataset": facts(its)}
    teacher = teacher_of(config, dataset, record)
    distilled(make_task(config, dataset), config, dataset, teacher)
    if record is None:
        teacher.load(dataset.image_shape)


def run_all(
    title: str,
    runs: Iterable[Run],
    datasets: Datasets,
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Train the runs that have no result, those of one mesh after those of another.

    An error in one ends the others at once; what they checkpointed stands.

    Raises:
        Preempted: `stop()` became true, and every run that was training has a checkpoint of it.
    """
    runs = list(runs)
    done = from_main(lambda: [run.result() is not None for run in runs])
    left = [run for run, finished in zip(runs, done, strict=True) if not finished]
    if not left:
        return
    console = None if is_main() else Console(quiet=True)
    with Watcher(title, len(runs), done=len(runs) - len(left), console=console) as watcher:
        for mesh in dict.fromkeys(run.config.train.mesh for run in left):
            _side_by_side(
                [run for run in left if run.config.train.mesh == mesh],
                lanes(mesh),
                datasets,
                watcher,
                stop,
            )


def _side_by_side(
    runs: list[Run],
    meshes: list[Mesh],
    datasets: Datasets,
    watcher: Watcher,
    stop: Callable[[], bool],
) -> None:
    """Train `runs`, as many at a time as there are meshes, each from a thread of its own."""
    waiting: queue.SimpleQueue[Run] = queue.SimpleQueue()
    for run in runs:
        waiting.put(run)
    errors: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
    meshes = meshes[: len(runs)]
    stopped = []

    def work(mesh: Mesh) -> None:
        try:
            while True:
                run = waiting.get_nowait()
                name = _name(run)
                if stop():
                    raise Preempted(f"{name} before its first step")
                watch, say = watcher.run(name), watcher.say
                dataset = datasets.of(run.config)
                if run.config.ensemble.members:
                    result = judge(run, dataset, mesh)
                else:
                    result = train(run, dataset, mesh, watch=watch, say=say, stop=stop)
                watcher.finished(name, result)
        except queue.Empty:
            errors.put(None)
        except BaseException as error:
            errors.put(error)

    for mesh in meshes:
        threading.Thread(target=work, args=(mesh,), daemon=True).start()
    for _ in meshes:
        error = errors.get()
        if isinstance(error, Preempted):
            stopped.append(str(error))
        elif error:
            raise error
    if stopped:
        raise Preempted(f"SIGTERM: stopped {', '.join(stopped)}; launch again to go on from there")


def _name(run: Run) -> str:
    point = "" if run.test else run.directory.parent.name + " "
    return f"{run.arm} {point}seed {run.seed}"
