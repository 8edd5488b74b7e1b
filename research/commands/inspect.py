"""`--mode=inspect`: look into one trained model; pictures and their numbers."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from research.commands.trained import Trained, open_model
from research.commands.views import VIEWS, check_names, chosen
from research.commands.views.subject import Options, Subject
from research.config import UserError
from research.data.feed import evaluation_batches
from research.distributed.mesh import batch_sharding, replicated
from research.files import write
from research.report.plots.inspection import PLOTS
from research.report.plots.style import STYLE, png

EXAMPLES = 128


def inspect(
    checkpoint: str | None,
    data_dir: str | None,
    overrides: Mapping[str, Any],
    *,
    what: str = "",
    examples: int = EXAMPLES,
    **flags: Any,
) -> list[Path]:
    """Write `inspection/<what>.png` and `.json` into the run's directory; return the pictures.

    Args:
        checkpoint: as `--checkpoint`; without one, `init_from` among `overrides` names weights.
        data_dir: as `--data_dir`.
        overrides: fields of the config that are to differ from the run's.
        what: names of `VIEWS`, with commas between; or `all`, which is those that fit.
        examples: of the test split, that are looked at; the first of them.
        flags: fields of `Options`.

    Raises:
        UserError: what is no view, or does not fit the model; no such checkpoint or endpoint; a
            patch that is larger than the image; no examples.
    """
    import matplotlib

    names = [name.strip() for name in what.split(",") if name.strip()]
    check_names(names)
    if examples < 1:
        raise UserError(f"--examples: found {examples}, expected at least 1")
    trained = open_model(checkpoint, data_dir, overrides)
    title = f"{trained.config.model.name} on {trained.dataset.name}, {trained.origin}"
    folder, pictures = trained.directory / "inspection", []
    with trained.precision():
        subject = Subject(trained, _examples(trained, examples), Options(**flags))
        for name in chosen(names, subject):
            found = _plain(VIEWS[name].look(subject))
            numbers = json.dumps({"title": title, "what": name} | found, allow_nan=False)
            write(folder / f"{name}.json", numbers + "\n")
            with matplotlib.rc_context(STYLE):
                pictures.append(write(folder / f"{name}.png", png(PLOTS[name](found, title))))
            print(f"Written: {pictures[-1]}")
    return pictures


def _examples(trained: Trained, count: int) -> dict[str, jax.Array]:
    """The first examples of the test split, on one device; fewer where there are not as many."""
    split, mesh = trained.dataset.test, trained.mesh
    batches = evaluation_batches(
        split,
        batch_size=min(count, len(split)),
        sharding=replicated(mesh) if mesh.size > 1 else batch_sharding(mesh),
        kind=trained.config.data.feed,
    )
    batch = next(batches)
    batches.close()
    return jax.device_put(jax.device_get(batch), mesh.devices.flat[0])


def _plain(value: Any) -> Any:
    """Return a tree as JSON has it: arrays as lists, to five digits; what is not finite is null."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple | range):
        return [_plain(each) for each in value]
    if isinstance(value, np.ndarray | jax.Array):
        return _plain(np.asarray(value).tolist())
    if isinstance(value, float | np.floating):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value
