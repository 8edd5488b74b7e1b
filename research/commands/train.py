"""`--mode=train`: run what is missing, then report."""

import queue
import threading
from collections.abc import Iterable
from typing import Any

from ml_collections import ConfigDict

from research import workdir
from research.commands.report import show_report
from research.config import UserError
from research.data.buckets import Buckets
from research.data.feed import is_resident
from research.data.sources import Dataset, load_dataset
from research.data.stream import Stream
from research.distributed.mesh import lanes
from research.files import write_json
from research.progress import Watcher
from research.study import Study, source_of
from research.train.loop import train
from research.train.probes import check_probes
from research.train.program import check_transfer, starting_variables, variable_shapes
from research.train.record import Run
from research.train.tasks import make_task
from research.transfer.initial import check_source, transplant


def run_study(study: Study, data_dir: str | None, command: str) -> None:
    """Tune each arm on validation, train every arm with every seed, and report.

    Whatever has finished in the workdir stands; whatever was cut off resumes.

    Raises:
        UserError: for anything that cannot be, before anything is written.
    """
    datasets = Datasets(data_dir)
    prepare(study, datasets)
    parts = study.generations()
    for part in parts:
        datasets.read(part.configs.values())
        untuned = {arm: config for arm, config in part.configs.items() if not part.tuned(arm)}
        workdir.check(part, [*part.tuning_runs(), *part.runs(untuned)], datasets.of)
    every = [run for part in parts for run in (*part.tuning_runs(), *part.runs())]
    if warning := workdir.other_code(every):
        print(warning)
    with workdir.locked(study.workdir):
        workdir.describe(study, datasets.of(next(iter(study.configs.values()))), command)
        for part in parts:
            run_all("tuning", part.tuning_runs(), datasets)
            for arm, choice in part.choose().items():
                write_json(part.workdir / arm / "tune.json", choice)
            runs = part.runs(part.tuned_configs())
            workdir.check(part, runs, datasets.of)
            run_all(study.name, runs, datasets)
        show_report(study.workdir)


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
            devices = lanes(config.train.devices)[0].size
            if isinstance(dataset.train, Stream) and config.train.accumulate > 1:
                raise UserError(
                    f"train.accumulate: found {config.train.accumulate} with data.name="
                    f"{dataset.name!r}, whose rows carry a state from batch to batch; expected 1"
                )
            for name in ("batch_size", "eval_batch_size"):
                if config.data[name] % devices:
                    raise UserError(
                        f"data.{name}: found {config.data[name]}, expected a multiple of the "
                        f"{devices} devices of train.devices={config.train.devices}"
                    )
            make_task(config, dataset)
            check_probes(config, dataset)
            shapes = shapes_of(config, dataset)  # its layers may shrink the images away
            check_transfer(config, shapes)
            if source := source_of(config):
                transplant(
                    shapes,
                    shapes_of(configs[source], datasets.of(configs[source])),
                    f"init_from={config.init_from}",
                    replace_head=config.transfer.replace_head,
                )
            elif config.init_from:
                starting_variables(config, dataset, shapes)
        except UserError as error:
            raise UserError(f"arm {arm}: {error}") from None


def run_all(title: str, runs: Iterable[Run], datasets: Datasets) -> None:
    """Train the runs that have no result, side by side: a thread for each lane of devices.

    An error in one ends the others at once; what they checkpointed stands.
    """
    runs = list(runs)
    left = [run for run in runs if run.result() is None]
    if not left:
        return
    waiting: queue.SimpleQueue[Run] = queue.SimpleQueue()
    for run in left:
        waiting.put(run)
    errors: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
    meshes = lanes(left[0].config.train.devices)[: len(left)]
    with Watcher(title, len(runs), done=len(runs) - len(left)) as watcher:

        def work(mesh) -> None:
            try:
                while True:
                    run = waiting.get_nowait()
                    name = _name(run)
                    result = train(
                        run,
                        datasets.of(run.config),
                        mesh,
                        watch=watcher.run(name),
                        say=watcher.say,
                    )
                    watcher.finished(name, result)
            except queue.Empty:
                errors.put(None)
            except BaseException as error:
                errors.put(error)

        for mesh in meshes:
            threading.Thread(target=work, args=(mesh,), daemon=True).start()
        for _ in meshes:
            if error := errors.get():
                raise error


def _name(run: Run) -> str:
    point = "" if run.test else run.directory.parent.name + " "
    return f"{run.arm} {point}seed {run.seed}"
