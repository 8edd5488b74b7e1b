"""Arms × seeds → runs: what a study asks, what is done, and what is left."""

import dataclasses
import itertools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from research.config import UserError, flatten, override, plain
from research.models import ALL_MODELS, defaults_of
from research.train.history import score
from research.train.record import Run

# What a finished run is summed up by, and which way is better.
METRICS = {
    **{f"{split}/accuracy": "max" for split in ("test", "validation", "train")},
    **{f"{split}/loss": "min" for split in ("test", "validation", "train")},
    "target/accuracy": "max",  # the test in the domain of transfer.target_domain
    "target/loss": "min",
    **{f"test/{name}": "max" for name in ("top5", "precision", "recall", "f1")},
    **{f"test/{name}": "max" for name in ("balanced_accuracy", "mcc", "auc", "token_accuracy")},
    **{f"test/{name}": "min" for name in ("ece", "mse", "mae", "persistence_mse")},
    **{f"test/{name}": "min" for name in ("perplexity", "bits", "error_rate")},
    "test/frame_accuracy": "max",
    **{f"test/bleu{third}": "max" for third in ("", "_short", "_middle", "_long")},
    "steps_to_accuracy": "min",
    "steps_to_loss": "min",
    "diverged": "min",
    "clipped_fraction": None,
    "dead_units": "min",
    "train_set/accuracy": "max",
    "train_set/loss": "min",
    "gap": "min",
    "shift_consistency": "max",
    # See research/train/history.py.
    **dict.fromkeys(("gradient_first", "gradient_flow", "gradient_reach"), None),
    "gradient_spread": "min",
    # See `footprint` in research/train/probes.py.
    **{f"size/{name}": "min" for name in ("disk_kb", "share", "parameters_kb")},
    "latency_ms": "min",
    "snr_db": "max",
    # See research/train/utilization.py.
    **{f"utilization/{name}": "max" for name in ("gflops", "mfu")},
    **{f"utilization/{name}": "min" for name in ("step_ms", "input_wait", "communication")},
    **{f"utilization/{name}": "min" for name in ("state_mb", "communication_mb", "peak_mb")},
    **{f"utilization/{name}": "min" for name in ("temporary_mb", "padding")},
}


# Fields that can name an arm whose runs come first.
SOURCES = ("init_from", "distill.teacher", "ensemble.of")


@dataclasses.dataclass(frozen=True)
class Study:
    """An experiment at one scale, with everything resolved.

    Attributes:
        name: of the experiment.
        scale: laptop, gpu, cluster.
        title: the first line of its docstring.
        configs: arm → config, all overrides applied.
        changes: arm → what it changes.
        seeds: in order.
        workdir: where its runs are recorded.
        sources: arm → config of those from which others start, or which teach them, and which are
            not reported.
    """

    name: str
    scale: str
    title: str
    configs: dict[str, ConfigDict]
    changes: dict[str, dict[str, Any]]
    seeds: tuple[int, ...]
    workdir: Path
    sources: dict[str, ConfigDict] = dataclasses.field(default_factory=dict)

    @property
    def settings(self) -> ConfigDict:
        """The experiment's own settings, the same for every arm."""
        return next(iter(self.configs.values())).experiment

    def runs(self, configs: Mapping[str, ConfigDict] | None = None) -> list[Run]:
        """Return the reported runs, seed by seed, of `configs` (default: the study's own)."""
        configs = self.configs if configs is None else configs
        return [
            Run(self.name, self.scale, arm, seed, self._from(config, seed), self._place(arm, seed))
            for seed in self.seeds
            for arm, config in configs.items()
            if seed in self.groups(config)
        ]

    def groups(self, config: ConfigDict) -> dict[int, tuple[int, ...]]:
        """Return the seeds of an arm's runs, and those of the study that each stands for: itself,
        or, of an ensemble, those of its members.

        Example:
            >>> study.groups(ensemble_of_two)  # doctest: +SKIP
            {0: (0, 1), 2: (2, 3), 4: (4, 5)}
        """
        size = config.ensemble.size if config.ensemble.of else 1
        starts = range(0, len(self.seeds) - size + 1, size)
        return {self.seeds[i]: self.seeds[i : i + size] for i in starts}

    def ensembles(self) -> dict[str, dict[str, list[int]]]:
        """Return, of the arms that are ensembles, the seeds of each run's members by its own."""
        return {
            arm: {str(seed): list(members) for seed, members in self.groups(config).items()}
            for arm, config in self.configs.items()
            if config.ensemble.of
        }

    def _place(self, arm: str, seed: int) -> Path:
        return self.workdir / arm / f"seed_{seed}"

    def _from(self, config: ConfigDict, seed: int) -> ConfigDict:
        """Return `config` with the source arms' runs of that seed for the source arms."""
        sources = sources_of(config)
        members = sources.pop("ensemble.of", None)
        runs = {field: str(self._place(arm, seed)) for field, arm in sources.items()}
        if members:
            seeds = self.groups(config)[seed]
            runs["ensemble.members"] = tuple(str(self._place(members, each)) for each in seeds)
            runs["ensemble.of"] = ""
        return override(config, runs, "arm")

    def generations(self) -> list["Study"]:
        """Return the study in the order in which it can be trained: each part's arms start from
        none but those of the parts before, sources included.

        Raises:
            UserError: arms that start from one another in a circle.
        """
        left, parts = self.sources | self.configs, []
        while left:
            ready = {
                a: c for a, c in left.items() if left.keys().isdisjoint(sources_of(c).values())
            }
            if not ready:
                raise UserError(
                    f"{' or '.join(SOURCES)}: arms {', '.join(left)} start from one another, "
                    "expected one that starts by itself"
                )
            parts.append(dataclasses.replace(self, configs=ready, sources={}))
            left = {arm: config for arm, config in left.items() if arm not in ready}
        return parts

    def points(self, arm: str) -> list[dict[str, Any]]:
        """Return the points of the grid that `arm` is tuned over, but for fields that it sets; an
        ensemble has nothing to tune.
        """
        if {"ensemble.of", "ensemble.members"} & self.changes[arm].keys():
            return []
        points = [
            {field: value for field, value in point.items() if field not in self.changes[arm]}
            for point in tuning_grid(self.settings)
        ]
        return [point for i, point in enumerate(points) if point and point not in points[:i]]

    def tuned(self, arm: str) -> bool:
        """Whether `arm` is trained at the best point of a grid."""
        return bool(self.points(arm))

    def tuning_runs(self) -> list[Run]:
        """Return the runs that choose each arm's point, point by point; they never see test.

        An arm that starts from another starts, whichever point it tries, from that one's run with
        the first of the study's seeds.
        """
        tune = self.settings.tune
        by_arm = (
            [
                Run(
                    self.name,
                    self.scale,
                    arm,
                    seed,
                    self._from(override(config, point, "experiment.tune.grid"), self.seeds[0]),
                    self.workdir / arm / "tune" / spell(point) / f"seed_{seed}",
                    test=False,
                )
                for point in self.points(arm)
                for seed in range(tune.seed, tune.seed + tune.seeds)
            ]
            for arm, config in self.configs.items()
        )
        return [run for runs in itertools.zip_longest(*by_arm) for run in runs if run]

    def choose(self) -> dict[str, dict[str, Any]]:
        """Return, for each tuned arm, the grid with its metrics and the point that won.

        The best mean validation accuracy wins, then the lower validation loss; a point at which a
        run diverged loses to any where none did.
        """
        results: dict[str, dict[str, list]] = {}
        for run in self.tuning_runs():
            point = run.directory.parent.name
            results.setdefault(run.arm, {}).setdefault(point, []).append(run.result())
        chosen = {}
        for arm, by_point in results.items():
            grid = [{"point": p} | _sum_up(by_point[spell(p)]) for p in self.points(arm)]
            chosen[arm] = {"grid": grid, "chosen": max(grid, key=_merit)["point"]}
        return chosen

    def tuned_configs(self) -> dict[str, ConfigDict]:
        """Return the configs with each tuned arm's chosen point."""
        choices = self.choose()
        return {
            arm: override(config, choices[arm]["chosen"], "tune") if arm in choices else config
            for arm, config in self.configs.items()
        }

    def factors(self) -> dict[str, dict[str, Any]]:
        """Return what the arms cross: field → arm → its value."""
        flat = {arm: flatten(plain(resolved(config))) for arm, config in self.configs.items()}
        return {
            field: {arm: config[field] for arm, config in flat.items()}
            for field in self.settings.factors
        }


def sources_of(config: ConfigDict) -> dict[str, str]:
    """Return the arms that fields of `config` name as "arm:…", which are trained first."""
    flat = flatten(config)
    named = {field: flat[field] for field in SOURCES if flat[field].startswith("arm:")}
    return {field: value.removeprefix("arm:") for field, value in named.items()}


def resolved(config: ConfigDict) -> ConfigDict:
    """Return a copy in which the model's own defaults stand for switches that are not set."""
    config = config.copy_and_resolve_references()
    defaults = defaults_of(config.model.name) if config.model.name in ALL_MODELS else {}
    for switch, value in config.model.items():
        if value is None:
            config.model[switch] = defaults.get(switch)
    return config


def tuning_grid(settings: ConfigDict) -> list[dict[str, Any]]:
    """Return the points of `experiment.tune.grid`, field → value each."""
    fields = settings.tune.fields
    points = (point if isinstance(point, tuple) else (point,) for point in settings.tune.grid)
    return [dict(zip(fields, point, strict=True)) for point in points]


def spell(point: Mapping[str, Any]) -> str:
    """Name a point: "optimizer.learning_rate=0.1,optimizer.schedule.warmup=0.0"."""
    return ",".join(f"{field}={value}" for field, value in point.items())


def _sum_up(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Return whether a tuning run diverged, the code of all, and the means of what all measured."""
    diverged = any(result["status"] == "diverged" for result in results)
    shared = set.intersection(*(set(result["metrics"]) for result in results))
    means = {
        name: None if None in values else math.fsum(values) / len(values)
        for name in sorted(shared)
        if name.startswith("validation/")
        for values in [[result["metrics"][name] for result in results]]
    }
    code = sorted({result.get("code", {}).get("sha256", "unknown") for result in results})
    status = "diverged" if diverged else results[0]["status"]
    return {"status": status, "runs": len(results), "code": code, "metrics": means}


def _merit(row: dict[str, Any]) -> tuple[bool, tuple[float, float]]:
    # One that diverged before its first evaluation has no metrics.
    ranked = score(row["metrics"]) if row["metrics"] else (-math.inf, -math.inf)
    return row["status"] != "diverged", ranked
