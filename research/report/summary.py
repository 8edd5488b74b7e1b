"""From runs to numbers: one panel per metric, one entry per arm, and how all of it was run."""

import difflib
from statistics import fmean, median, stdev
from typing import Any

from research.config import UserError
from research.report.effects import effects
from research.report.runs import Experiment, Run, finite
from research.report.statistics import (
    holm,
    mean_interval,
    paired_p_value,
    share_difference,
    share_interval,
    smallest_detectable,
)

_COPIED = (
    *("title", "question", "command", "seeds", "target_accuracy", "arms_changes", "tune"),
    *("baseline", "factors", "within"),
)


def summarise(experiment: Experiment) -> dict[str, Any]:
    """Summarise a workdir as `summary.json` holds it.

    In each panel an arm has `n` values and their `mean`, `ci95` (Student t over seeds; None for one
    seed) and `sd`; `difference` is to its `reference`, the baseline (or what stands for it at the
    same place: see `Design.reference`), paired by seed over the seeds that both have, an ensemble
    with the mean of its reference over the seeds of its `members`, and None for the baseline itself
    or when there is nothing to pair with; `p_holm` is corrected over the arms of the panel;
    `detectable` is the smallest difference that the test would have found, 4 times
    in 5. `effects`: see `research.report.effects`. A diverged run enters an accuracy at
    chance and is left out of any other metric, but for `clipped_fraction`, up to there, and for
    `diverged` itself, the share of such runs, with Wilson's and Newcombe's intervals. In a
    `steps_to_…` metric null means never reached: it is
    left out of the mean, and `reached` of the `ended` runs says how many are in it. A panel of what
    no run has logged, as where arms differ in what they are for, is left out.

    Raises:
        UserError: no panel names a metric that a run has logged.
    """
    settings = experiment.settings
    arms = {arm: _arm(experiment, arm) for arm in experiment.arms}
    return {
        "experiment": settings["experiment"],
        "scale": settings["scale"],
        **{key: settings[key] for key in _COPIED if key in settings},
        "panels": [_panel(experiment, panel) for panel in _logged(experiment)],
        "arms": arms,
        "provenance": provenance(experiment),
        "undeclared": experiment.undeclared,
    }


def final_value(run: Run, metric: str, settings: dict[str, Any]) -> float | None:
    """The value with which a run enters a panel; None if it does not."""
    if metric == "diverged":
        return float(run.diverged)
    if run.diverged and metric != "clipped_fraction":  # which it has, up to there
        return chance(metric, settings)
    return finite(run.metrics.get(metric))


def chance(metric: str, settings: dict[str, Any]) -> float | None:
    """What guessing would score; None where that has no meaning, as for a loss."""
    stated = (settings.get("chance") or {}).get(metric)
    if stated is None and metric.endswith("/accuracy") and settings.get("num_classes"):
        return 1 / settings["num_classes"]
    return finite(stated)


def provenance(experiment: Experiment) -> dict[str, list[dict[str, Any]]]:
    """The distinct `code`, `git`, `versions`, `hardware` of the ended runs, and how many ran so."""
    ended = [run.result for run in experiment.runs if run.ended]
    distinct = {}
    for key in ("code", "git", "versions", "hardware"):
        found: list[dict[str, Any]] = []
        for value in (result.get(key) or {} for result in ended):
            same = next((entry for entry in found if entry["value"] == value), None)
            if same:
                same["runs"] += 1
            else:
                found.append({"value": value, "runs": 1})
        distinct[key] = found
    return distinct


def _arm(experiment: Experiment, arm: str) -> dict[str, Any]:
    runs = experiment.of(arm)
    seconds = [finite(run.result.get("wall_seconds")) for run in runs if run.ended]
    seconds = [value for value in seconds if value is not None]
    return {
        "ended": sum(run.ended for run in runs),
        "diverged": [run.seed for run in runs if run.diverged],
        "missing": [run.seed for run in runs if not run.ended],
        "resumed": [run.seed for run in runs if run.ended and run.result.get("resumed_from")],
        "wall_seconds": median(seconds) if seconds else None,
        "parameters": next((run.result.get("parameters") for run in runs if run.ended), None),
        "macs": next((run.result.get("macs") for run in runs if run.ended), None),
        "utilization": _utilization(runs),
        "augmentation": next((_augmentation(run) for run in runs if run.ended), []),
        "tuning": experiment.tuning.get(arm),
    }


def _utilization(runs: list[Run]) -> dict[str, float]:
    """The median over runs of what each made of its devices."""
    found: dict[str, list[float]] = {}
    for run in runs:
        for name, value in run.metrics.items():
            if name.startswith("utilization/") and finite(value) is not None:
                found.setdefault(name, []).append(value)
    return {name: median(values) for name, values in found.items()}


def _augmentation(run: Run) -> list[str]:
    """What its training images went through, as declared."""
    return (run.result.get("config") or {}).get("data", {}).get("augment") or []


def _panel(experiment: Experiment, panel: dict[str, Any]) -> dict[str, Any]:
    metric, baseline = panel["metric"], experiment.settings.get("baseline")
    values = {
        arm: {
            str(run.seed): final_value(run, metric, experiment.settings)
            for run in experiment.of(arm)
            if run.ended
        }
        for arm in experiment.arms
    }
    entries = {arm: _entry(experiment.of(arm), metric, values[arm]) for arm in experiment.arms}
    compare = _share_difference if metric == "diverged" else _difference
    for arm, entry in entries.items():
        entry["reference"] = experiment.design.reference(arm)
        if entry["reference"]:
            reference = values[entry["reference"]]
            if members := experiment.members(arm):
                entry["members"] = members
                reference = of_members(reference, members)
            entry["difference"] = compare(values[arm], reference)
    tested = [
        e["difference"] for e in entries.values() if (e["difference"] or {}).get("p") is not None
    ]
    for difference, p_holm in zip(tested, holm([d["p"] for d in tested]), strict=True):
        difference["p_holm"] = p_holm
    return {
        "metric": metric,
        "direction": panel["direction"],
        "baseline": baseline,
        "arms": entries,
        "effects": None if metric == "diverged" else effects(values, experiment.design),
    }


def _entry(runs: list[Run], metric: str, values: dict[str, float | None]) -> dict[str, Any]:
    known = [value for value in values.values() if value is not None]
    mean, interval = mean_interval(known)
    if metric == "diverged" and known:
        interval = share_interval(int(sum(known)), len(known))
    entry = {
        "n": len(known),
        "diverged": sum(run.diverged for run in runs),
        "mean": mean,
        "ci95": interval,
        "difference": None,
        "sd": stdev(known) if len(known) > 1 else None,
        "seeds": values,
    }
    if metric.startswith("steps_to_"):
        entry |= {"reached": len(known), "ended": len(values)}
    return entry


def of_members(
    values: dict[str, float | None], members: dict[str, list[int]]
) -> dict[str, float | None]:
    """Return the means over the members of each ensemble: what it is held against.

    Args:
        values: seed → the metric of single runs.
        members: seed of an ensemble → those of its members.

    Returns:
        Seed of an ensemble → the mean; None where one is missing.
    """
    found = {}
    for seed, group in members.items():
        theirs = [values.get(str(each)) for each in group]
        found[seed] = None if None in theirs else fmean(theirs)
    return found


def _difference(
    values: dict[str, float | None], baseline: dict[str, float | None]
) -> dict[str, Any] | None:
    """Compare seed by seed, so that what a seed shares (initial values, order) cancels."""
    pairs = [
        value - baseline[seed]
        for seed, value in values.items()
        if value is not None and baseline.get(seed) is not None
    ]
    if not pairs:
        return None
    mean, interval = mean_interval(pairs)
    p = paired_p_value(pairs)
    if p is None:
        interval = None
    detectable = smallest_detectable(pairs)
    return {
        **{"mean": mean, "ci95": interval, "p_holm": None, "p": p, "n": len(pairs)},
        "detectable": detectable,
    }


def _share_difference(
    values: dict[str, float], reference: dict[str, float]
) -> dict[str, Any] | None:
    if not values or not reference:
        return None
    counts = (int(sum(values.values())), len(values))
    mean, interval, p = share_difference(*counts, int(sum(reference.values())), len(reference))
    return {"mean": mean, "ci95": interval, "p_holm": None, "p": p, "n": len(values)}


def _logged(experiment: Experiment) -> list[dict[str, Any]]:
    """The panels of what a run has logged, or of all where none is complete."""
    panels = experiment.settings["panels"]
    completed = [run for run in experiment.runs if run.ended and not run.diverged]
    names = sorted({"diverged"}.union(*(run.metrics for run in completed)))
    found = [panel for panel in panels if panel["metric"] in names]
    if completed and not found:
        metric = panels[0]["metric"]
        near = difflib.get_close_matches(metric, names, n=1, cutoff=0.0)
        raise UserError(
            f"panels: found metric {metric!r}, which no run has logged; the nearest that is logged "
            f"is {near[0]!r}"
        )
    return found if completed else panels
