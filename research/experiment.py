"""From an experiment's file and the flags to the study that they describe, with every check.

An experiment is a Python file with

    scales                 a tuple of names
    get_config(scale)      → ConfigDict, from `research.config.get_config`
    arms(scale)            → {name: {"model.norm": "group", …}}

and a docstring that opens with its question, command, cost and expected result.
"""

import fnmatch
import importlib.util
import itertools
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from ml_collections import ConfigDict

from research.checks import validate
from research.config import LENGTHS, UserError, flatten, override, plain, unknown
from research.models import ALL_MODELS, create_model, switches_of
from research.study import METRICS, Study, resolved, sources_of
from research.train.tasks import model_switches

HERE = Path(__file__).resolve().parent.parent / "experiments"


def experiments() -> dict[str, Path]:
    """Return the experiments of this repository, name → file."""
    return {path.parent.name: path for path in sorted(HERE.glob("*/config.py"))}


def load(name_or_path: str) -> tuple[str, ModuleType]:
    """Return the name and the module of an experiment of this repository, or of any Python file.

    Raises:
        UserError: there is none, it cannot be run, or it lacks `get_config`, `arms` or `scales`.
    """
    if name_or_path.endswith(".py"):
        path = Path(name_or_path)
        name = path.parent.resolve().name if path.stem == "config" else path.stem
        if not path.is_file():
            raise UserError(f"--experiment: found {name_or_path!r}, expected a file that exists")
    else:
        name, path = name_or_path, experiments().get(name_or_path)
        if path is None:
            raise unknown("--experiment", name_or_path, [*experiments(), "path/to/file.py"])
    module_name = "experiment_" + re.sub(r"\W", "_", name)
    spec = importlib.util.spec_from_file_location(module_name, path)
    module = sys.modules[module_name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{path}: cannot be loaded: {type(error).__name__}: {error}") from error
    for needed in ("get_config", "arms", "scales"):
        if not hasattr(module, needed):
            raise UserError(f"{path}: found no `{needed}`, expected get_config, arms and scales")
    if isinstance(module.scales, str):
        raise UserError(f"{path}: scales: found {module.scales!r}, expected a tuple of names")
    return name, module


Levels = Mapping[str, Mapping[str, Any]]


def levels(field: str, *values: Any, prefix: str = "") -> dict[str, dict[str, Any]]:
    """Return the levels of a factor that is one field: name → what it changes.

    Example:
        >>> levels("model.depth", 8, 20, prefix="d")
        {'d8': {'model.depth': 8}, 'd20': {'model.depth': 20}}
    """
    return {f"{prefix}{value}": {field: value} for value in values}


def cross(*factors: Levels) -> dict[str, dict[str, Any]]:
    """Return the arms of a full factorial design: every combination of one level of each factor.

    Name the fields in `config.experiment.factors`, and the report compares along them.

    Example:
        >>> list(cross(levels("model.norm", "none", "batch"), levels("model.depth", 8, prefix="d")))
        ['none-d8', 'batch-d8']
    """
    arms: dict[str, dict[str, Any]] = {}
    for chosen in itertools.product(*(factor.items() for factor in factors)):
        name = "-".join(level for level, _ in chosen)
        if name in arms:
            raise UserError(
                f"cross: found two arms {name!r}, expected names that differ when joined"
            )
        arms[name] = {}
        for _, change in chosen:
            if twice := arms[name].keys() & change.keys():
                raise UserError(f"cross: found {twice.pop()} in two factors, expected it in one")
            arms[name] |= change
    return arms


def resolve(
    experiment: str,
    scale: str,
    *,
    overrides: Mapping[str, Any] | None = None,
    arms: Iterable[str] = (),
    seeds: Iterable[int] | None = None,
    workdir: str | None = None,
) -> Study:
    """Return the study that the flags describe: defaults < scale < overrides < arm.

    Args:
        experiment: a name or a path.
        scale: one of the experiment's.
        overrides: fields of the config. One that a selected arm sets is an error; one that the
            study would tune is not tuned.
        arms: names or patterns (`*_b2`); the experiment's own choice by default.
        seeds: the experiment's own number by default.
        workdir: `runs/<experiment>-<scale>` by default.

    Raises:
        UserError: for anything in these that cannot be.
    """
    name, module = load(experiment)
    overrides = dict(overrides or {})
    if scale not in module.scales:
        raise unknown("--scale", scale, module.scales)
    config, all_arms = _ask(module, scale)
    config = _change(config, overrides, "--config")
    validate(config)
    if any(field.startswith("model.") for field in overrides):
        create_model(config.model.name, **model_switches(config))
    names = _select(arms or config.experiment.arms or all_arms, all_arms)
    for field in overrides:
        same = set(LENGTHS) if field in LENGTHS else {field}
        setting = [arm for arm in names if same & all_arms[arm].keys()]
        if setting:
            raise UserError(
                f"--config.{field}: found {overrides[field]!r}, but the arms {', '.join(setting)} "
                f"set {field} themselves; leave it out, or choose other arms with --arms"
            )
    _check_settings(config, all_arms)
    _leave_untuned(config.experiment.tune, overrides)
    configs = {arm: _change(config, all_arms[arm], f"arm {arm}") for arm in names}
    for arm, arm_config in configs.items():
        validate(arm_config, f"arm {arm}")
    sources = _sources(config, configs, all_arms)
    study = Study(
        name=name,
        scale=scale,
        title=(module.__doc__ or name).strip().splitlines()[0],
        configs=configs,
        changes={arm: dict(all_arms[arm]) for arm in [*sources, *names]},
        seeds=tuple(range(config.experiment.seeds) if seeds is None else seeds),
        workdir=Path(workdir or f"runs/{name}-{scale}"),
        sources=sources,
    )
    study.generations()
    _check_ensembles(study)
    _check_distinct(study)
    _check_factors(study)
    for run in study.tuning_runs():
        validate(run.config, "experiment.tune.grid")
        if any(field.startswith("model.") for field in config.experiment.tune.fields):
            create_model(run.config.model.name, **model_switches(run.config))
        if run.seed in study.seeds:
            raise UserError(
                f"experiment.tune.seed: found {run.seed}, a seed that is reported too, expected "
                "seeds of its own for tuning"
            )
    return study


def _change(config: ConfigDict, changes: Mapping[str, Any], source: str) -> ConfigDict:
    """Override; a change of model also unsets the switches that the new model does not take."""
    config = override(config, changes, source)
    if "model.name" in changes and config.model.name in ALL_MODELS:
        takes = switches_of(config.model.name)
        for switch in config.model:
            if switch not in ("name", *takes) and f"model.{switch}" not in changes:
                config.model[switch] = None
    return config


def _ask(module: ModuleType, scale: str) -> tuple[ConfigDict, dict[str, dict[str, Any]]]:
    try:
        config, arms = module.get_config(scale), module.arms(scale)
    except UserError:
        raise
    except Exception as error:
        problem = f"{type(error).__name__}: {error}"
        raise UserError(f"{module.__file__}: fails at --scale={scale}: {problem}") from error
    if not isinstance(config, ConfigDict):
        raise UserError(f"{module.__file__}: get_config: found {config!r}, expected a ConfigDict")
    if not (
        isinstance(arms, Mapping) and arms and all(isinstance(a, Mapping) for a in arms.values())
    ):
        raise UserError(
            f"{module.__file__}: arms: found {arms!r}, expected a dict of dicts, by name"
        )
    for arm, changes in arms.items():
        named = isinstance(arm, str) and re.fullmatch(r"\w[\w.+=-]*", arm)
        if not named or arm == "report":  # they name folders
            raise UserError(
                f"{module.__file__}: arms: found {arm!r}, expected a name of letters, digits and "
                "_ . + = -, other than 'report'"
            )
        for field in changes:
            if field.startswith("experiment."):
                raise UserError(
                    f"{module.__file__}: arm {arm}: found {field}, which is one for all arms; "
                    "set it in get_config"
                )
    return config, arms


def _select(patterns: Iterable[str], arms: Mapping[str, Any]) -> list[str]:
    selected = {}
    for pattern in patterns:
        matched = fnmatch.filter(arms, pattern)
        if not matched:
            raise unknown("--arms", pattern, arms)
        selected |= dict.fromkeys(matched)
    return [arm for arm in arms if arm in selected]


def _sources(
    config: ConfigDict, configs: Mapping[str, ConfigDict], arms: Mapping[str, Any]
) -> dict[str, ConfigDict]:
    """Return the configs of the arms that others start from or are taught by, and that were not
    asked for."""
    sources: dict[str, ConfigDict] = {}
    waiting = list(configs.items())
    while waiting:
        arm, arm_config = waiting.pop()
        for field, source in sources_of(arm_config).items():
            if source in configs or source in sources:
                continue
            if source not in arms:
                raise unknown(f"arm {arm}: {field}: arm", source, arms)
            sources[source] = _change(config, arms[source], f"arm {source}")
            validate(sources[source], f"arm {source}")
            waiting.append((source, sources[source]))
    return sources


def _check_settings(config: ConfigDict, arms: Mapping[str, Any]) -> None:
    baseline = config.experiment.baseline
    if baseline not in arms:
        raise unknown("experiment.baseline", baseline, arms)
    for name, fields in (
        ("experiment.tune.fields", config.experiment.tune.fields),
        ("experiment.factors", config.experiment.factors),
    ):
        for field in fields:
            if field not in flatten(config):
                raise unknown(name, field, flatten(config))
            if field.startswith("experiment."):
                raise UserError(f"{name}: found {field}, which is one for all arms")
        if len({*fields}) < len(fields):
            raise UserError(f"{name}: found {', '.join(fields)}, expected each field once")
    factors, within = config.experiment.factors, config.experiment.within
    if within and not {*within} < {*factors}:
        raise UserError(
            f"experiment.within: found {', '.join(within)}, expected some, but not all, of the "
            f"experiment.factors: {', '.join(factors)}"
        )
    tune = config.experiment.tune
    for point in tune.grid:
        if (len(point) if isinstance(point, tuple) else 1) != len(tune.fields):
            raise UserError(
                f"experiment.tune.grid: found {point!r}, expected a tuple of values for "
                f"({', '.join(tune.fields)}), the experiment.tune.fields"
            )
    panels = config.experiment.panels
    if not panels:
        raise UserError(f"experiment.panels: found none, expected some of {', '.join(METRICS)}")
    for metric in panels:
        if metric not in METRICS:
            raise unknown("experiment.panels", metric, METRICS)
    if config.experiment.seeds < 1:
        raise UserError(f"experiment.seeds: found {config.experiment.seeds}, expected at least 1")


def _leave_untuned(tune: ConfigDict, fixed: Iterable[str]) -> None:
    """Take the fields that are `fixed` out of the grid."""
    fixed = {*fixed, *LENGTHS} if {*fixed} & {*LENGTHS} else fixed
    kept = [i for i, field in enumerate(tune.fields) if field not in fixed]
    if len(kept) < len(tune.fields):
        points = (point if isinstance(point, tuple) else (point,) for point in tune.grid)
        tune.grid = tuple(dict.fromkeys(tuple(p[i] for i in kept) for p in points)) if kept else ()
        tune.fields = tuple(tune.fields[i] for i in kept)


def _check_ensembles(study: Study) -> None:
    """Check that there are seeds for an ensemble, and that no ensemble is what it is compared with
    or made of."""
    configs = study.sources | study.configs
    for arm, config in study.configs.items():
        if not config.ensemble.of:
            continue
        if len(study.seeds) < config.ensemble.size:
            raise UserError(
                f"arm {arm}: ensemble.size: found {config.ensemble.size} with {len(study.seeds)} "
                "seeds, expected at most as many; more --seeds, or other --arms"
            )
        for role, other in (
            ("experiment.baseline", study.settings.baseline),
            ("ensemble.of: arm", sources_of(config)["ensemble.of"]),
        ):
            if other in configs and configs[other].ensemble.of:
                raise UserError(f"{role}: found {other}, an ensemble, expected an arm that trains")


def _check_distinct(study: Study) -> None:
    seen: dict[tuple[str, str], str] = {}
    for arm, config in study.configs.items():
        twin = seen.setdefault((repr(plain(resolved(config))), repr(study.points(arm))), arm)
        if twin != arm:
            raise UserError(
                f"arms {twin} and {arm}: both resolve to the same config, expected a difference"
            )


def _check_factors(study: Study) -> None:
    """Check that the factors tell the arms apart, where any are declared."""
    factors, seen = study.factors(), {}
    for arm in study.configs if factors else ():
        for field in factors:
            if any(field in point for point in study.points(arm)):
                raise UserError(
                    f"experiment.factors: found {field}, over which arm {arm} is tuned, expected "
                    "fields that the arms set"
                )
        at = ", ".join(f"{field}={levels[arm]}" for field, levels in factors.items())
        twin = seen.setdefault(at, arm)
        if twin != arm:
            raise UserError(
                f"experiment.factors: found arms {twin} and {arm} both at {at}, expected the "
                "fields in which they differ to be among the factors"
            )


def parse_seeds(text: str) -> tuple[int, ...]:
    """Return the seeds that `--seeds` means: a number is a count, a comma makes a list.

    Example:
        >>> parse_seeds("3"), parse_seeds("3,"), parse_seeds("1,4")
        ((0, 1, 2), (3,), (1, 4))
    """
    try:
        numbers = [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 0 or ("," not in text and numbers[0] < 1):
        raise UserError(
            f"--seeds: found {text!r}, expected a count such as 3, or seeds such as 1,4 or 3,"
        )
    return tuple(dict.fromkeys(numbers)) if "," in text else tuple(range(numbers[0]))
