"""How names, numbers and circumstances are put to a reader."""

import math
from collections.abc import Iterable
from typing import Any

# Names that are more than the words of the metric: `test/f1` → "test F1".
_NAMES = {
    "top5": "top-5 accuracy",
    "f1": "F1",
    "auc": "AUC",
    "mcc": "MCC",
    "ece": "calibration error",
    "mse": "MSE",
    "mae": "MAE",
    "persistence_mse": "MSE of persistence",
    "bits": "bits per token",
    "bleu": "BLEU",
    **{f"bleu_{third}": f"BLEU, {third} sources" for third in ("short", "middle", "long")},
}
_NAMES |= {
    "step_ms": "time a step (ms)",
    "gflops": "GFLOP/s",
    "mfu": "MFU",
    "state_mb": "state on a device (MB)",
    "communication_mb": "communication a step (MB)",
    "temporary_mb": "working memory of a step (MB)",
    "peak_mb": "peak memory (MB)",
    "disk_kb": "on disk (kB)",
    "parameters_kb": "of parameters (kB)",
    "latency_ms": "latency of a batch (ms)",
    "snr_db": "lowest SNR of a kernel (dB)",
}
_SHARES = (
    *("accuracy", "error", "top5", "precision", "recall", "f1", "balanced_accuracy", "ece"),
    *("frame_accuracy", "token_accuracy", "error_rate"),
    *("mfu", "input_wait", "communication", "padding"),
    *("diverged", "clipped_fraction", "dead_units", "gap", "shift_consistency"),
    "share",
)
_PROVENANCE = {"code": "code", "git": "git commit", "versions": "versions", "hardware": "hardware"}


def label(metric: str, settings: dict[str, Any]) -> str:
    """Name a metric for a reader: `test/accuracy` → "test accuracy"."""
    target = settings.get("target_accuracy")
    if metric == "steps_to_accuracy" and target is not None:
        return f"steps to {100 * target:g} % accuracy"
    named = {"diverged": "diverged runs", "clipped_fraction": "clipped steps"}
    named["gap"] = "train–test gap"
    named["size/share"] = "size, of float32's"
    split, _, name = metric.rpartition("/")
    split = split.removeprefix("utilization")
    if name in _NAMES:
        return f"{split} {_NAMES[name]}".strip()
    return named.get(metric, f"{split} {name}".strip().replace("/", " ").replace("_", " "))


def short(field: str) -> str:
    """Name a field for a reader: `optimizer.learning_rate` → "learning rate"."""
    *parents, last = field.split(".")
    return (parents[-1] if last in ("kind", "name") and parents else last).replace("_", " ")


def level(value: Any) -> str:
    """Spell the value of a field: 0.1, 8, "cosine"."""
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def with_unit(metric: str, settings: dict[str, Any]) -> str:
    """The label with its unit: "test accuracy (%)"."""
    return label(metric, settings) + (" (%)" if is_share(metric) else "")


def is_share(metric: str) -> bool:
    """Whether a metric is a share of one, shown in percent."""
    return metric.rpartition("/")[2] in _SHARES


def number(value: float, digits: int = 3) -> str:
    """Format with so many significant digits, never in powers of ten below a million."""
    if value == 0 or not 1e-4 <= abs(value) < 1e6:
        return f"{value:.{digits}g}"
    return f"{value:.{decimals(value, digits)}f}"


def describe(value: dict[str, Any]) -> str:
    """A flat dict as text, a git state as its short commit."""
    if "commit" in value:
        commit = str(value["commit"] or "unknown")[:10]
        return commit + (" with uncommitted changes" if value.get("dirty") else "")
    return ", ".join(f"{name} {text}" for name, text in value.items()) or "not recorded"


def decimals(value: float, digits: int) -> int:
    """Decimals that show `value` with so many significant digits, none for large numbers."""
    if value == 0:
        return digits - 1
    return max(0, min(6, digits - 1 - math.floor(math.log10(abs(value)))))


def notes(summary: dict[str, Any]) -> list[str]:
    """Say what a reader must know before trusting the numbers, one sentence each."""
    lines = []
    alone = [arm for arm, facts in summary["arms"].items() if facts["ended"] == 1]
    if alone:
        lines.append(f"A single seed, so no interval and no test: {', '.join(alone)}.")
    edges: dict[tuple[str, Any], list[str]] = {}
    for arm, facts in summary["arms"].items():
        ended = facts["ended"]
        if facts["missing"]:
            lines.append(
                f"{arm}: {ended} of {ended + len(facts['missing'])} runs have ended; "
                f"no result yet of {_seeds(facts['missing'])}."
            )
        if facts["diverged"]:
            lines.append(
                f"{arm}: {_seeds(facts['diverged'])} diverged; counted at chance in accuracy, left "
                "out of every other metric."
            )
        for field, value in ((facts["tuning"] or {}).get("chosen") or {}).items():
            tried = {row["point"][field] for row in facts["tuning"]["grid"]}
            numbers = all(isinstance(v, int | float) for v in tried)
            # Of two values both are at an edge.
            if numbers and len(tried) > 2 and value in (min(tried), max(tried)):
                edges.setdefault((field, value), []).append(arm)
    lines += [
        f"{field} = {level(value)} lies at the edge of its grid, a better value may lie outside: "
        f"{', '.join(arms)}."
        for (field, value), arms in edges.items()
    ]
    for panel in summary["panels"]:
        reached: dict[tuple[int, int], list[str]] = {}
        for arm, entry in panel["arms"].items():
            if "reached" in entry and entry["reached"] < entry["ended"]:
                reached.setdefault((entry["reached"], entry["ended"]), []).append(arm)
        for (count, ended), arms in reached.items():
            over = "; the mean is over those" if count else ""
            lines.append(
                f"{label(panel['metric'], summary)}: reached by {count} of {ended} runs{over}: "
                f"{', '.join(arms)}."
            )
    lines += [*_unseen(summary), *_unanswered(summary)]
    code = {f["value"].get("sha256", "unknown") for f in summary["provenance"]["code"]}
    for arm, facts in summary["arms"].items():
        tuned = {
            c for row in (facts["tuning"] or {"grid": []})["grid"] for c in row.get("code", ())
        }
        if tuned - code:
            lines.append(f"{arm}: tuned by other code than it ran by: {', '.join(sorted(tuned))}.")
    for key, found in summary["provenance"].items():
        if len(found) > 1:
            kinds = "; ".join(f"{describe(f['value'])} ({f['runs']} runs)" for f in found)
            lines.append(f"These runs differ in {_PROVENANCE[key]}: {kinds}.")
    if any(f["value"].get("dirty") for f in summary["provenance"]["git"]):
        lines.append("The code had uncommitted changes.")
    if summary["undeclared"]:
        lines.append(f"Left out, not named in experiment.json: {', '.join(summary['undeclared'])}.")
    return lines


def _unseen(summary: dict[str, Any]) -> list[str]:
    """Say how small an effect would have gone unseen where none was, in the first panel."""
    panel, by_reference = summary["panels"][0], {}
    scale, unit = (100, " pp") if is_share(panel["metric"]) else (1, "")
    for arm, entry in panel["arms"].items():
        difference = entry["difference"] or {}
        # Pages of before this was measured do not have it.
        if difference.get("detectable") and difference["ci95"] and difference["p_holm"] >= 0.05:
            seen = number(difference["detectable"] * scale, 2)
            by_reference.setdefault(entry["reference"], []).append(f"{arm} {seen}{unit}")
    return [
        f"Not distinguished from {reference} in {label(panel['metric'], summary)}, with the "
        f"smallest difference that so many seeds show 4 times in 5: {', '.join(arms)}."
        for reference, arms in by_reference.items()
    ]


def _unanswered(summary: dict[str, Any]) -> list[str]:
    """Say which comparisons that the factors promise could not be made, and why."""
    factors, arms = summary.get("factors") or {}, list(summary["arms"])
    if any(set(arms) - set(levels) for levels in factors.values()):
        return ["Of some arms the factors are not known, so none is compared by them."]
    axes = [f for f, v in factors.items() if all(isinstance(x, int | float) for x in v.values())]
    lines = []
    for panel in summary["panels"] if len(factors) > 1 and not axes else ():
        if panel["effects"] is None and panel["metric"] != "diverged":
            short_of = [arm for arm, entry in panel["arms"].items() if entry["n"] < 2]
            why = f"fewer than two values in {', '.join(short_of)}" if short_of else "missing arms"
            lines.append(
                f"{label(panel['metric'], summary)}: no effects of the factors, for {why}."
            )
    return lines


def how_it_was_run(summary: dict[str, Any]) -> dict[str, str]:
    """Seeds, augmentation, hardware, versions and commit by name, as text."""
    facts = {"seeds": ", ".join(map(str, summary.get("seeds", [])))}
    facts["augmentation"] = _augmentation(summary["arms"])
    for key, found in summary["provenance"].items():
        facts[_PROVENANCE[key]] = "; ".join(describe(f["value"]) for f in found)
    return {name: text for name, text in facts.items() if text}


def _augmentation(arms: dict[str, Any]) -> str:
    """Name the augmentations, arm by arm where they differ; nothing where there are none."""
    arms_by: dict[str, list[str]] = {}
    for arm, facts in arms.items():
        arms_by.setdefault(", ".join(facts.get("augmentation") or ["none"]), []).append(arm)
    if len(arms_by) == 1:
        declared = next(iter(arms_by))
        return "" if declared == "none" else declared
    return "; ".join(f"{', '.join(names)}: {declared}" for declared, names in arms_by.items())


def _seeds(seeds: Iterable[int]) -> str:
    seeds = list(seeds)
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
