"""The working directory of a study: whose it is, who is in it, and what it says of itself."""

import contextlib
import errno
import fcntl
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from research.config import UserError, flatten, plain
from research.data.sources import Dataset
from research.files import read_json, write_json
from research.study import METRICS, Study, tuning_grid
from research.train.record import LATER, Run, code_digest

# Fields that do not change a run's numbers, and may differ between launches into one workdir.
FREE = (
    "experiment.arms",
    "experiment.baseline",
    "experiment.factors",
    "experiment.within",
    "experiment.seeds",
    "experiment.panels",
    "experiment.tune",
    "data.feed",
    "distill.teacher",  # as init_from; `teacher_sha256` says
    "data.workers",
    "ensemble.members",
    "init_from",  # a file may move; `weights_sha256` says whether it is the same
    "train.keep",
    "train.mesh",  # recorded in result.json
    "train.parallel",
    "train.profile",
    "train.replicate",
    "train.tensorboard",
    "train.wandb",
)


def check(study: Study, runs: list[Run], dataset_of: Callable[[ConfigDict], Dataset]) -> None:
    """Check that the workdir is free or holds this study's runs, writing nothing.

    Raises:
        UserError: it holds another experiment, another scale, or runs of another config or data.
    """
    check_owner(study)
    for run in runs:
        path = run.directory / "config.json"
        if not path.exists():
            continue
        before, now = flatten(read_json(path)), flatten(run.settings(dataset_of(run.config)))
        later = {f"dataset.{fact}" for fact in LATER} - {*before}
        for field in sorted({*before, *now} - later):
            if not field.startswith(FREE) and before.get(field) != now.get(field):
                raise UserError(
                    f"--workdir: {run.directory} holds a run with {field}={before.get(field)}, "
                    f"expected {now.get(field)}; choose another folder, or the same settings"
                )


def other_code(runs: list[Run]) -> str | None:
    """Say how many of `runs` had finished by other code than this, None if none had."""
    done = [result for run in runs if (result := run.result()) is not None]
    others = [r for r in done if r.get("code", {}).get("sha256") != code_digest()]
    if not others:
        return None
    return (
        f"{len(others)} of {len(done)} finished runs were made by other code than this "
        f"({code_digest()}); they stand, and the report says so. To run all by this code, choose "
        "another --workdir."
    )


def check_owner(study: Study) -> None:
    """Check that whatever the workdir holds is of this study's experiment and scale.

    Raises:
        UserError: it is another's.
    """
    record = read(study.workdir)
    for name, here in (("experiment", study.name), ("scale", study.scale)) if record else ():
        if record[name] != here:
            raise UserError(
                f"--workdir: {study.workdir} holds runs of --{name}={record[name]}, expected "
                f"{here}; choose another folder"
            )


@contextlib.contextmanager
def locked(workdir: Path, arms: Iterable[str] = ("",)) -> Iterator[None]:
    """Hold `arms` of the workdir against a second launch, for as long as this process lives.

    Launches on different arms, such as the tasks of a job array, share a workdir.

    Raises:
        UserError: another launch is live on one of them, or it cannot be written.
    """
    with contextlib.ExitStack() as stack:
        for arm in arms:
            stack.enter_context(_locked(workdir / arm))
        yield


@contextlib.contextmanager
def turn(workdir: Path) -> Iterator[None]:
    """Wait for this launch's turn to write what all launches in the workdir share."""
    with (workdir / ".lock").open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _locked(workdir: Path) -> Iterator[None]:
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        file = (workdir / ".lock").open("a+")
    except OSError as error:
        raise UserError(f"--workdir: {workdir} cannot be written: {error.strerror}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise UserError(
                f"--workdir: {workdir} is in use by a live launch (process {file.read().strip()}); "
                "wait for it, or choose another folder"
            ) from None
        with disk_errors(workdir):
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            yield


@contextlib.contextmanager
def disk_errors(workdir: Path) -> Iterator[None]:
    """Turn what a disk raises that fills up or fails, in whatever library, into one sentence."""
    reasons = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        text = f"{error} {error.__cause__}"
        found = [os.strerror(n) for n in reasons if os.strerror(n) in text]
        if "Error writing local file" in text:  # tensorstore on a full disk
            found.append(os.strerror(errno.ENOSPC))
        if not found:
            raise
        raise UserError(
            f"--workdir: {workdir} cannot be written: {found[0]}; launch again once that is "
            "mended: what has finished is kept"
        ) from error


def read(workdir: Path) -> dict[str, Any] | None:
    """Return the workdir's experiment.json, None where there is none."""
    path = workdir / "experiment.json"
    return read_json(path) if path.exists() else None


def describe(study: Study, dataset: Dataset, command: str) -> None:
    """Write experiment.json: the study, joined with what earlier launches ran here."""
    before = {"arms": [], "arms_changes": {}, "factors": {}, "seeds": [], "command": ""}
    before |= {"sources": [], "groups": {}}
    before |= read(study.workdir) or {}
    settings = study.settings
    classes = dataset.num_classes
    chance = dict.fromkeys(("test/accuracy", "validation/accuracy"), 1 / classes) if classes else {}
    judged = "accuracy" if dataset.task in ("classification", "tagging") else "loss"
    tune = {"grid": tuning_grid(settings), "select": f"validation/{judged}"}
    write_json(
        study.workdir / "experiment.json",
        {
            "experiment": study.name,
            "scale": study.scale,
            "title": study.title,
            # Every launch that made something here, one a line.
            "command": "\n".join(dict.fromkeys([*before["command"].splitlines(), command])),
            "baseline": settings.baseline,
            "arms": list(dict.fromkeys([*before["arms"], *study.configs])),
            "sources": list(dict.fromkeys([*before["sources"], *study.sources])),
            "groups": before["groups"]
            | {arm: before["groups"].get(arm, {}) | g for arm, g in study.ensembles().items()},
            "arms_changes": before["arms_changes"] | plain(study.changes),
            "seeds": sorted({*before["seeds"], *study.seeds}),
            "factors": {
                field: before["factors"].get(field, {}) | values
                for field, values in study.factors().items()
            },
            "within": list(settings.within),
            "panels": panels(study),
            "target_accuracy": settings.target_accuracy,
            "num_classes": classes,
            "chance": chance,
            "tune": tune if settings.tune.grid else before.get("tune"),
        },
    )


def reframe(study: Study) -> None:
    """Rewrite how experiment.json says its runs are compared: baseline, panels, factors."""
    record = read(study.workdir)
    frame = {"baseline": study.settings.baseline, "panels": panels(study)}
    frame |= {"factors": study.factors(), "within": list(study.settings.within)}
    write_json(study.workdir / "experiment.json", record | frame)


def panels(study: Study) -> list[dict[str, str]]:
    """Return the metrics that are compared, and which way each is better, if any."""
    return [{"metric": m, "direction": METRICS[m]} for m in study.settings.panels]
