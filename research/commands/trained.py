"""A trained model: of the run that `--checkpoint` names, or published, as `init_from` names it."""

import contextlib
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from research.checks import validate
from research.commands.train import Datasets
from research.config import UserError, flatten, get_config, nearest, override
from research.data.sources import Dataset
from research.data.text import Vocabulary
from research.distributed.mesh import lanes
from research.files import read_json
from research.tasks.classification import Classification
from research.tasks.domain_adversarial import of_model
from research.train.checkpoint import best_step, read_variables
from research.train.program import starting_variables, variable_shapes
from research.train.record import facts
from research.train.tasks import make_task, task_name
from research.transfer.initial import check_source, transplant


@dataclasses.dataclass(frozen=True)
class Trained:
    """A model as its run left it, or as it was published.

    Attributes:
        directory: of the run; of a published model, where its evaluation goes.
        origin: what of the run it is, "step 250"; the name of the published file.
        config: of the run.
        dataset: that it was trained on; of a published model, that it is tried on.
        mesh: one lane of devices.
        task: what it was trained for.
        variables: parameters, averaged where the run averaged them, and collections.
    """

    directory: Path
    origin: str
    config: ConfigDict
    dataset: Dataset
    mesh: Mesh
    task: Classification
    variables: dict[str, Any]

    def precision(self) -> contextlib.AbstractContextManager:
        """Within it JAX computes in the run's precision."""
        return jax.enable_x64(self.config.train.precision == "float64")

    def expect(self, mode: str, *tasks: str) -> str:
        """Return the name of the task, which has to be one of `tasks`, as `--mode` needs it.

        Raises:
            UserError: it is another.
        """
        if (name := task_name(self.config, self.dataset)) not in tasks:
            raise UserError(
                f"--checkpoint: found a run for the task {name!r} of {self.dataset.name!r} with "
                f"--mode={mode}, expected one for {' or '.join(map(repr, tasks))}"
            )
        return name

    def vocabulary(self, name: str = "vocabulary") -> Vocabulary:
        """Read the vocabulary that was saved with the run: this one, or `target_vocabulary`.

        Raises:
            UserError: it is not there, damaged, or another run's.
        """
        digest = self.dataset.vocabularies()[name].digest  # which the run has recorded, too
        return Vocabulary.load(self.directory / f"{name}.json", digest)


def check_text(flag: str, text: str) -> None:
    """Check that what was given on the command line is text.

    Raises:
        UserError: it holds bytes that are not UTF-8.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise UserError(f"--{flag}: found {text!r}, expected text in UTF-8") from None


def open_trained(checkpoint: str, data_dir: str | None, overrides: Mapping[str, Any]) -> Trained:
    """Open the model that `--checkpoint` names, with the config that its run recorded.

    Args:
        checkpoint: the directory of a run, whose best checkpoint is taken, or of one checkpoint.
        data_dir: as `--data_dir`; the run's data are needed for their statistics and class names.
        overrides: fields of the config that are to differ, such as `data.eval_batch_size`.

    Raises:
        UserError: there is no such checkpoint, it cannot be read, or the data are others than those
            that the run was trained on.
    """
    directory, folder = locate(checkpoint)
    record = read_json(directory / "config.json")
    config = _recorded(record, overrides, directory / "config.json")
    dataset = Datasets(data_dir).of(config)
    for fact, here in facts(dataset).items():
        if (found := record.get("dataset", {}).get(fact)) != here:
            raise UserError(
                f"--checkpoint: {directory} was trained on {config.data.name} with {fact} {found}, "
                f"expected that of the data here, {here}; --data_dir names other data"
            )
    with jax.enable_x64(config.train.precision == "float64"):
        variables = transplant(
            variable_shapes(config, dataset),
            of_model(read_variables(folder)),
            f"--checkpoint={folder}",
        )
    mesh = lanes(config.train.devices)[0]
    task = make_task(config, dataset)
    return Trained(directory, f"step {folder.name}", config, dataset, mesh, task, variables)


def open_published(data_dir: str | None, overrides: Mapping[str, Any]) -> Trained:
    """Open the model whose weights `init_from` names, with the default config but for `overrides`.

    Args:
        data_dir: as `--data_dir`.
        overrides: fields of the config: `init_from`, `model.name`, `data.name`, `data.normalize`….

    Raises:
        UserError: there are no such weights, or they fit the model or the dataset's classes not.
    """
    config = override(override(get_config(), {"train.steps": 1}, "default"), overrides, "--config")
    validate(config)
    if config.transfer.replace_head:
        raise UserError(
            "transfer.replace_head: found True, but a last layer drawn afresh tells nothing of the "
            "published weights; expected --mode=train, or False"
        )
    check_source(config.init_from)
    dataset = Datasets(data_dir).of(config)
    with jax.enable_x64(config.train.precision == "float64"):
        variables = starting_variables(config, dataset)
    mesh, task = lanes(config.train.devices)[0], make_task(config, dataset)
    directory = Path("runs/published") / f"{config.model.name}-{dataset.name}"
    origin = Path(config.init_from).name
    return Trained(directory, origin, config, dataset, mesh, task, variables)


def locate(checkpoint: str) -> tuple[Path, Path]:
    """Return the run's directory and the checkpoint's folder that `--checkpoint` means.

    Raises:
        UserError: there is none.
    """
    path = Path(checkpoint).expanduser()
    for directory in (path, path.parent, path.parent.parent):
        if path.is_dir() and (directory / "config.json").is_file():
            break
    else:
        problem = "a folder without config.json" if path.is_dir() else "no such folder"
        around = path.glob("**/config.json") if path.is_dir() else path.parent.glob("*/*")
        hint = nearest(path, sorted(p.parent for p in around))
        raise UserError(
            f"--checkpoint: found {problem}: {checkpoint}, expected the directory of a run "
            f"(<workdir>/<arm>/seed_<n>) or one of its checkpoints{hint}"
        )
    if path.name.isdigit() and path.parent == directory / "checkpoints":
        return directory, path
    step = best_step(directory / "checkpoints")
    if step is None:
        raise UserError(
            f"--checkpoint: found no whole checkpoint in {directory / 'checkpoints'}, expected one "
            "at least; launch the run again, and it makes some"
        )
    return directory, directory / "checkpoints" / str(step)


def _recorded(record: dict[str, Any], overrides: Mapping[str, Any], path: Path) -> ConfigDict:
    """Return the config that config.json holds; fields that came later have their defaults."""
    beside = ("dataset", "weights_sha256", "experiment")  # which changes no number
    fields = {k: v for k, v in record.items() if k not in beside}
    config = override(get_config(), {k: _tuples(v) for k, v in flatten(fields).items()}, str(path))
    config = override(config, overrides, "--config")
    validate(config)
    return config


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value
