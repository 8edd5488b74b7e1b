"""`--mode=predict`: name what is on image files."""

import dataclasses
import glob
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from research.commands.trained import open_model
from research.config import UserError
from research.data.folder import Files, find_images
from research.tasks.evaluation import Evaluation
from research.train.evaluation import evaluate_model

TOP = 3


def predict(
    checkpoint: str | None, images: str, data_dir: str | None, overrides: Mapping[str, Any]
) -> Evaluation:
    """Print the most probable classes of image files, which are decoded and resized as in training.

    Args:
        checkpoint: as `--checkpoint`; without one, `init_from` among `overrides` names weights.
        images: as `--images`.
        data_dir: as `--data_dir`.
        overrides: fields of the config that are to differ from the run's.

    Raises:
        UserError: no images, one that cannot be read, no such checkpoint.
    """
    paths = matching(images)
    trained = open_model(checkpoint, data_dir, overrides)
    dataset = trained.dataset
    files = Files(tuple(paths), (0,) * len(paths))  # of classes that nobody knows
    split = dataclasses.replace(dataset.test, source=files, indices=np.arange(len(paths)))
    devices = trained.mesh.size
    batch_size = min(trained.config.data.eval_batch_size, -(-len(paths) // devices) * devices)
    with trained.precision():
        found = evaluate_model(
            trained.task, trained.variables, split, mesh=trained.mesh, batch_size=batch_size
        )
    Console(highlight=False).print(_table(paths, found, dataset.class_names))
    return found


def matching(images: str) -> list[Path]:
    """Return the files that `--images` means: one, those of a pattern, or those of a folder.

    Raises:
        UserError: there are none.
    """
    path = Path(images).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        paths, problem = find_images(path), "a folder without images"
    else:
        found = map(Path, sorted(glob.glob(str(path), recursive=True)))
        paths, problem = [p for p in found if p.is_file()], "no such file, and none of that pattern"
    if not paths:
        raise UserError(
            f"--images: found {problem}: {images}, expected an image, a folder of some, or a "
            "pattern such as 'photos/*.jpg'"
        )
    return paths


def _table(paths: list[Path], found: Evaluation, names: tuple[str, ...]) -> Table:
    """A row for each file: its most probable classes, or the number that is predicted."""
    table = Table("image")
    table.columns[0].overflow = "fold"
    if found.probabilities is None:
        table.add_column("number", justify="right")
        table.add_column("nearest class")
        for path, (output,) in zip(paths, found.outputs, strict=True):
            nearest = names[int(np.clip(np.round(output), 0, len(names) - 1))]
            table.add_row(str(path), f"{output:.3f}", nearest)
        return table
    for place in range(min(TOP, len(names))):
        table.add_column("class" if place == 0 else f"{place + 1}.")
        table.add_column("%", justify="right")
    for path, probabilities in zip(paths, found.probabilities, strict=True):
        best = np.argsort(-probabilities, kind="stable")[:TOP]
        cells = [(names[k], f"{100 * probabilities[k]:.1f}") for k in best]
        table.add_row(str(path), *(text for cell in cells for text in cell))
    return table
