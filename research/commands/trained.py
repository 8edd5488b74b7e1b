"""A trained model: of the run that `--checkpoint` names, or published, as `init_from` names it."""

import contextlib
import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from research.checks import is_calibrated, validate
from research.commands.train import Datasets
from research.compression.calibration import RANGES, observe
from research.config import UserError, get_config, nearest, override
from research.data.sources import Dataset
from research.data.text import Vocabulary
from research.distributed.mesh import lanes
from research.files import read_json
from research.tasks.additions import of_model
from research.tasks.classification import Classification
from research.train.checkpoint import best_step, finished, read_variables
from research.train.record import differing, facts, recorded
from research.train.start import calibrated, starting_variables, variable_shapes
from research.train.tasks import make_task, task_name
from research.transfer.files import quantized_kind
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


def open_model(
    checkpoint: str | None, data_dir: str | None, overrides: Mapping[str, Any]
) -> Trained:
    """Open the model of a run or, without a `checkpoint`, the published one that `init_from` among
    `overrides` names; see `open_trained` and `open_published`.
    """
    if checkpoint:
        return open_trained(checkpoint, data_dir, overrides)
    return open_published(data_dir, overrides)


def open_trained(checkpoint: str, data_dir: str | None, overrides: Mapping[str, Any]) -> Trained:
    """Open the model that `--checkpoint` names, with the config that its run recorded.

    Args:
        checkpoint: the directory of a run, whose best checkpoint is taken, or of one checkpoint; or
            the `network.safetensors` in a run's directory, in the bits that it was saved with.
        data_dir: as `--data_dir`; the run's data are needed for their statistics and class names.
        overrides: fields of the config that are to differ, such as `data.eval_batch_size`.

    Raises:
        UserError: there is no such checkpoint, it cannot be read, or the data are others than those
            that the run was trained on, or the network is quantised otherwise than the config says.
    """
    file = Path(checkpoint).expanduser()
    is_network = file.suffix == ".safetensors" and file.is_file()
    directory, folder = (file.parent, file) if is_network else locate(checkpoint)
    record = read_json(directory / "config.json")
    config = recorded(record, overrides, directory / "config.json")
    _check_quantized(folder, record, config)
    dataset = Datasets(data_dir).of(config)
    if difference := differing(record.get("dataset", {}), facts(dataset)):
        fact, found, here = difference
        raise UserError(
            f"--checkpoint: {directory} was trained on {config.data.name} with {fact} {found}, "
            f"expected that of the data here, {here}; --data_dir names other data"
        )
    with jax.enable_x64(config.train.precision == "float64"):
        variables = _stored(folder, variable_shapes(config, dataset))
        mesh, task = lanes("")[0], make_task(config, dataset)
        variables = _with_ranges(config, dataset, mesh, task, variables)
    origin = folder.name if is_network else f"step {folder.name}"
    return Trained(directory, origin, config, dataset, mesh, task, variables)


def _check_quantized(folder: Path, record: dict[str, Any], config: ConfigDict) -> None:
    """Raise a `UserError` for a quantised network that `config` would have in other bits.

    Args:
        folder: of a checkpoint, or a network in a file.
        record: what its run's config.json holds.
        config: the same, with overrides.
    """
    saved = record.get("quantize", {"kind": "none"})
    if folder.suffix == ".safetensors":
        saved = saved | {"kind": quantized_kind(folder) or saved["kind"]}
    if saved["kind"] in ("none", "float32"):  # it can still be quantised
        return
    for field in ("kind", "calibration"):
        if (found := config.quantize[field]) != (kept := saved.get(field, found)):
            raise UserError(
                f"--config.quantize.{field}: found {found!r}, but the network in {folder} is "
                f"quantised to {saved['kind']}; expected {kept!r}, as it was saved"
            )


def _stored(folder: Path, shapes: dict[str, Any]) -> dict[str, Any]:
    """Return the variables of a checkpoint, or of a network in a file, which fit `shapes`."""
    if folder.suffix == ".safetensors":
        from research.compression.artefact import load  # imports qwix, which takes a second

        stored = load(folder)[1]
    else:
        stored = read_variables(folder)
    ranges = {RANGES: stored[RANGES]} if RANGES in stored else {}
    return transplant(shapes, of_model(stored), f"--checkpoint={folder}") | ranges


def _with_ranges(
    config: ConfigDict, dataset: Dataset, mesh: Mesh, task: Any, variables: dict[str, Any]
) -> dict[str, Any]:
    """Return variables with ranges, where activations are quantised; found now if they are not
    there.
    """
    if RANGES in variables or not is_calibrated(config):
        return variables
    see = jax.jit(functools.partial(observe, task.evaluate))
    return calibrated(config, dataset, mesh, variables, see)


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
        mesh, task = lanes("")[0], make_task(config, dataset)
        variables = _with_ranges(config, dataset, mesh, task, variables)
    directory = Path("runs/published") / f"{config.model.name}-{dataset.name}"
    origin = Path(config.init_from).name
    return Trained(directory, origin, config, dataset, mesh, task, variables)


def locate(checkpoint: str) -> tuple[Path, Path]:
    """Return the run's directory and the checkpoint's folder that `--checkpoint` means.

    Raises:
        UserError: there is none, and why.
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
        hint = "; launch the run again, and it makes some"
        if (directory / "result.json").exists():
            finished(directory, "--checkpoint")
            hint = "; to train it again, move its result.json away and launch the run again"
        raise UserError(
            f"--checkpoint: found no whole checkpoint in {directory / 'checkpoints'}, expected one "
            f"at least{hint}"
        )
    return directory, directory / "checkpoints" / str(step)
