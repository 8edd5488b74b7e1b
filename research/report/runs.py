"""What a workdir holds: the experiment as it was declared, its runs and its tuning."""

import dataclasses
import functools
import math
from pathlib import Path
from typing import Any

from research.config import UserError
from research.files import read_json, read_rows
from research.report.design import Design


@dataclasses.dataclass(frozen=True)
class Run:
    """One arm with one seed; `result` is None until the run has ended."""

    arm: str
    seed: int
    directory: Path
    result: dict[str, Any] | None

    @property
    def ended(self) -> bool:
        return self.result is not None

    @property
    def diverged(self) -> bool:
        return self.ended and self.result.get("status") == "diverged"

    @property
    def metrics(self) -> dict[str, Any]:
        """Final metrics by name, with its utilization; empty for a run that has not ended."""
        result = self.result or {}
        used = {f"utilization/{k}": v for k, v in (result.get("utilization") or {}).items()}
        return (result.get("metrics") or {}) | used

    @functools.cached_property
    def rows(self) -> list[dict[str, Any]]:
        """Everything logged on the way, one dict per step."""
        return read_rows(self.directory / "metrics.jsonl")

    def curve(self, metric: str) -> dict[int, float | None]:
        """Step → value of one logged metric; None where it was not a finite number."""
        return {row["step"]: finite(row[metric]) for row in self.rows if metric in row}


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A workdir: `settings` as in `experiment.json`, runs in order of arm and seed."""

    workdir: Path
    settings: dict[str, Any]
    runs: list[Run]
    tuning: dict[str, dict[str, Any]]  # arm → its tune.json
    undeclared: list[str]  # run directories of arms that `experiment.json` does not name

    @functools.cached_property
    def design(self) -> Design:
        """What the arms cross."""
        return Design.of(self.settings)

    def members(self, arm: str) -> dict[str, list[int]]:
        """The seeds of an ensemble's members, by that of its run; {} for an arm of single runs."""
        return self.settings.get("groups", {}).get(arm, {})

    @property
    def arms(self) -> list[str]:
        return self.settings["arms"]

    def of(self, arm: str) -> list[Run]:
        """The runs of one arm, ended or not, in order of seed."""
        return [run for run in self.runs if run.arm == arm]


def finite(value: Any) -> float | None:
    """The value as a float; None if it is null, not a number, or not finite."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None


def read_experiment(workdir: str | Path) -> Experiment:
    """Read a workdir.

    Raises:
        UserError: there is no readable `experiment.json`, or no run has ended yet.
    """
    workdir = Path(workdir)
    path = workdir / "experiment.json"
    if not path.exists():
        raise UserError(
            f"--workdir: found no {path.name} in {str(workdir)!r}, expected a directory that "
            "--mode=train has written"
        )
    settings = read_json(path)
    missing = [
        key for key in ("experiment", "scale", "arms", "seeds", "panels") if key not in settings
    ]
    if missing:
        raise UserError(
            f"{path}: expected the fields {', '.join(missing)}, found none of that name"
        )
    groups = settings.get("groups", {})
    runs = [
        _read_run(workdir, arm, int(seed))
        for arm in settings["arms"]
        for seed in groups.get(arm, settings["seeds"])
    ]
    if not any(run.ended for run in runs):
        raise UserError(
            f"--workdir: found no ended run among the {len(runs)} of {str(workdir)!r}, expected at "
            "least one; --mode=train goes on where they were left"
        )
    tuning = {
        arm: read_json(workdir / arm / "tune.json")
        for arm in settings["arms"]
        if (workdir / arm / "tune.json").exists()
    }
    for arm, choice in tuning.items():
        if not all("point" in row for row in choice.get("grid", [{}])):
            raise UserError(
                f"{workdir / arm / 'tune.json'}: expected a grid of points, found the form of "
                "another version; launch again with this arm to write it anew"
            )
    declared = {run.directory for run in runs}
    found = [path.parent for path in workdir.glob("*/seed_*/result.json")]
    undeclared = sorted(
        str(path.relative_to(workdir))
        for path in found
        if path not in declared and path.parent.name not in settings.get("sources", ())
    )
    return Experiment(workdir, settings, runs, tuning, undeclared)


def _read_run(workdir: Path, arm: str, seed: int) -> Run:
    directory = workdir / arm / f"seed_{seed}"
    path = directory / "result.json"
    return Run(arm, seed, directory, read_json(path) if path.exists() else None)
