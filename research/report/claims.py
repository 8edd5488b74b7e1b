"""Holds claims to account: what is claimed, as declared, against what experiments measured.

`experiments/claims.toml` declares rows of claims; a claim has one case or several, and a case names
an experiment, a metric, an arm and what it is compared with. Effects are recomputed from the
values of single seeds in `results/<scale>/summary.json`, paired by seed.
"""

import fnmatch
import json
import math
import tomllib
from pathlib import Path
from typing import Any

from research.config import UserError, unknown
from research.report.statistics import (
    mean_interval,
    runs_for,
    seeds_for,
    share_difference,
    share_interval,
    smallest_detectable,
)
from research.report.summary import of_members
from research.report.wording import is_share

KINDS = ("higher", "lower", "no lower", "no higher", "equal")
SUPPORTED, NOT_SUPPORTED, UNDECIDED = "supported", "not supported", "undecided"
NOT_YET = "not yet measured"
EXACT = ("parameters", "macs", "utilization/temporary_mb", "size/disk_kb")  # the same in every run
REACHED = "reached/"  # the share of runs that got to what a steps_to_… waits for
Entry = dict[str, Any]


def judge(interval: list[float], kind: str, matters: float) -> str:
    """Return the verdict on a claim from the 95 % interval of its effect.

    Args:
        interval: [low, high].
        kind: what is claimed of the effect, one of `KINDS`; "no lower" is: not lower by as much as
            matters, and "equal": different by less than that, either way.
        matters: the smallest effect that matters, above 0.

    Returns:
        `undecided`, where the interval holds both 0 and an effect that matters, and is no narrower
        than what matters. Else, of "higher": `supported` above 0, unless all of it is less than
        what matters; of "no lower" and "equal": `supported` within what does not matter; and `not
        supported` otherwise. "lower" and "no higher" are their mirror images.
    """
    low, high = interval
    if kind in ("lower", "no higher"):
        low, high, kind = -high, -low, {"lower": "higher", "no higher": "no lower"}[kind]
    if kind == "higher":
        return NOT_SUPPORTED if high < matters else SUPPORTED if low > 0 else UNDECIDED
    within = low > -matters and (kind == "no lower" or high < matters)
    return SUPPORTED if within else UNDECIDED if low <= 0 <= high else NOT_SUPPORTED


def together(verdicts: list[str], on: str) -> str:
    """Return the verdict on a claim from those on its cases.

    Cases that are decided and disagree: it depends; on what, `on` says. Where they agree, that is
    the verdict if they are at least half of all.
    """
    decided = [v for v in verdicts if v in (SUPPORTED, NOT_SUPPORTED)]
    if len(set(decided)) == 2:
        return f"depends on {on}"
    if decided and 2 * len(decided) >= len(verdicts):
        return decided[0]
    return UNDECIDED if UNDECIDED in verdicts else NOT_YET


def read_claims(folder: Path) -> list[Entry]:
    """Return the rows of `claims.toml`, each `{row, questions, claims}` with what was measured.

    A claim has its `verdict`, and `cases`, each with `id`, `experiment`, `scale`, `command`,
    `metric`, `effect`, `ci95`, `seeds`, `detectable` (the smallest effect that so many seeds find 4
    times in 5), `verdict`, and where it is undecided `needs`, the seeds that would decide it: with
    them, at the scatter seen, an interval is narrower than the smallest effect that matters.

    Raises:
        UserError: a case names what its experiment has not, or cannot be judged.
    """
    with (folder / "claims.toml").open("rb") as file:
        rows = tomllib.load(file)["row"]
    for row in rows:
        for claim in row["claims"]:
            shared = {k: v for k, v in claim.items() if k not in ("cases", "says", "depends")}
            cases = claim.get("cases", [{}])
            claim["cases"] = [_measured(shared | case, folder) for case in cases]
            verdicts = [case["verdict"] for case in claim["cases"]]
            claim["verdict"] = together(verdicts, claim.get("depends", "the case"))
    return rows


def _measured(case: Entry, folder: Path) -> Entry:
    """Return a case with what was measured of it."""
    case = {
        "when": "",
        "experiment": "",
        "scale": "laptop",
        "baseline": None,
        "ratio": False,
    } | case
    if "shown" in case:  # by a test, with no experiment needed
        return case | {"verdict": case["shown"]}
    if case["kind"] not in KINDS:
        raise unknown(f"{case['id']}: kind", case["kind"], KINDS)
    if "missing" in case:
        return case | {"verdict": UNDECIDED, "needs": _seeds_like(case, folder)}
    summary = _summary(case, folder)
    if summary is None:
        return case | {"verdict": NOT_YET}
    case["command"] = summary["command"]
    return case | _effect(case, summary)


def _summary(case: Entry, folder: Path) -> Entry | None:
    path = folder / case["experiment"] / "results" / case["scale"] / "summary.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _effect(case: Entry, summary: Entry) -> Entry:
    """Return the effect of a case, its interval, and the verdict."""
    metric, matters = case["metric"], case["matters"]
    if metric in EXACT:
        ratio = _exact(case, "arm", summary) / _exact(case, "baseline", summary)
        verdict = judge([math.log(ratio)] * 2, case["kind"], math.log(matters))
        return {"effect": ratio, "verdict": verdict}
    if metric == "diverged" or metric.startswith(REACHED):
        return _share_effect(case, summary)
    differences = _differences(case, summary)
    mean, interval = mean_interval(differences)
    if interval is None or interval[0] == interval[1] != 0.0:
        why = "one seed" if len(differences) < 2 else "the same difference in every seed"
        raise UserError(f"{case['id']}: found {why}, expected seeds that scatter, for an interval")
    size = math.log(matters) if case["ratio"] else matters
    found: Entry = {"seeds": len(differences), "verdict": judge(interval, case["kind"], size)}
    if found["verdict"] == UNDECIDED:
        found["needs"] = seeds_for(differences, size)
    shown = math.exp if case["ratio"] else float
    detectable = smallest_detectable(differences)
    return found | {
        "effect": shown(mean),
        "ci95": [shown(bound) for bound in interval],
        "detectable": None if detectable is None else shown(detectable),
    }


def _share_effect(case: Entry, summary: Entry) -> Entry:
    own = _outcomes(case, "arm", summary)
    shares = [sum(own) / len(own)]
    if case["baseline"] is None:
        effect, interval = shares[0], share_interval(sum(own), len(own))
    else:
        other = _outcomes(case, "baseline", summary)
        shares.append(sum(other) / len(other))
        effect, interval, _ = share_difference(sum(own), len(own), sum(other), len(other))
    verdict = judge(interval, case["kind"], case["matters"])
    found: Entry = {"effect": effect, "ci95": interval, "seeds": len(own), "verdict": verdict}
    if verdict == UNDECIDED:
        found["needs"] = runs_for(case["matters"], *shares)
    return found


def _outcomes(case: Entry, side: str, summary: Entry) -> list[int]:
    """Return 1 for each run of which `diverged` or `reached/…` is true, else 0."""
    metric = case["metric"].removeprefix(REACHED)
    reached = metric != case["metric"]
    seeds = _panel(case, metric, summary)["arms"][_one(case, side, summary)]["seeds"]
    return [int(v is not None) if reached else int(v) for v in seeds.values()]


def _differences(case: Entry, summary: Entry) -> list[float]:
    """Return arm minus baseline, or the arm alone, seed by seed; of logarithms for a ratio."""
    own = _values(case, "arm", summary)
    if case["baseline"] is None:
        return list(own.values())
    other = _values(case, "baseline", summary)
    entry = _panel(case, case["metric"], summary)["arms"][_arms(case, "arm", summary)[0]]
    if "members" in entry:  # an ensemble is held against the mean of its own
        other = {k: v for k, v in of_members(other, entry["members"]).items() if v is not None}
    return [value - other[seed] for seed, value in own.items() if seed in other]


def _values(case: Entry, side: str, summary: Entry) -> dict[str, float]:
    """Return seed → value, a mean over all arms that a pattern matches."""
    metric = case["metric"]
    entries = _panel(case, metric, summary)["arms"]
    arms = _arms(case, side, summary)
    if metric.startswith("steps_to_") and any(None in entries[a]["seeds"].values() for a in arms):
        raise UserError(f"{case['id']}: found runs that never reached {metric}; compare {REACHED}…")
    found = {}
    for seed in entries[arms[0]]["seeds"]:
        values = [entries[arm]["seeds"].get(seed) for arm in arms]
        if None not in values:
            found[seed] = sum(map(math.log, values) if case["ratio"] else values) / len(values)
    return found


def _panel(case: Entry, metric: str, summary: Entry) -> Entry:
    panels = {panel["metric"]: panel for panel in summary["panels"]}
    if metric not in panels:
        raise unknown(f"{case['id']}: metric of {case['experiment']}", metric, panels)
    return panels[metric]


def _arms(case: Entry, side: str, summary: Entry) -> list[str]:
    matched = fnmatch.filter(summary["arms"], case[side])
    if not matched:
        raise unknown(f"{case['id']}: {side} of {case['experiment']}", case[side], summary["arms"])
    return matched


def _one(case: Entry, side: str, summary: Entry) -> str:
    arms = _arms(case, side, summary)
    if len(arms) > 1:
        raise UserError(f"{case['id']}: {side}: found {len(arms)} arms, expected one")
    return arms[0]


def _exact(case: Entry, side: str, summary: Entry) -> float:
    arm = _one(case, side, summary)
    if case["metric"] in ("parameters", "macs"):
        value = summary["arms"][arm].get(case["metric"])
    else:
        value = _panel(case, case["metric"], summary)["arms"][arm]["mean"]
    if not value:
        raise UserError(f"{case['id']}: found no {case['metric']} of {arm}")
    return value


def _seeds_like(case: Entry, folder: Path) -> int:
    """Return the seeds that a ratio of two unpaired means would take, from the scatter of one arm
    that was measured: what would decide a claim for which a machine is missing.
    """
    like = {"id": case["id"], "scale": "laptop", "ratio": True, **case["like"]}
    logs = list(_values(like, "arm", _summary(like, folder)).values())
    spread = [math.sqrt(2) * x for x in logs]
    return seeds_for(spread, math.log(case["matters"]))


def unit(case: Entry) -> str:
    """Name the unit of a case's effect: a factor, percentage points, or "", the metric's own."""
    metric = case.get("metric", "")
    if case.get("ratio") or metric in EXACT:
        return "×"
    return "pp" if is_share(metric) or metric.startswith(REACHED) else ""
