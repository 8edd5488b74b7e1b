"""The tables: for the terminal, the page and a README."""

from pathlib import Path
from typing import Any

from research.report.design import Design
from research.report.runs import Experiment, finite, read_experiment
from research.report.summary import summarise
from research.report.wording import decimals, is_share, level, notes, number, short, with_unit

Rows = list[dict[str, str]]
NOTHING = "–"


def table(source: str | Path | dict[str, Any]) -> Rows:
    """Tabulate the arms of a workdir, or of a summary of one: a dict of column → text per arm.

    The first panel also shows the difference from the baseline; accuracies are in percent, their
    differences in percentage points. `[low, high]` and ± are 95 % intervals over seeds.
    """
    summary = source if isinstance(source, dict) else summarise(read_experiment(source))
    first, *others = summary["panels"]
    rows, design = [], Design.of(summary)
    arms = summary["arms"].values()
    sizes = [s for s in ("parameters", "macs") if len({facts.get(s) for facts in arms}) > 1]
    for arm, facts in summary["arms"].items():
        row = _lead(design, arm) | {"n": _runs(facts)} | _result(first, arm, summary)
        row |= _difference(first, arm, design, brief=True)
        for panel in others:
            row |= _result(panel, arm, summary)
        for size in sizes:
            row["MACs" if size == "macs" else size] = (
                NOTHING if facts[size] is None else f"{facts[size]:,}"
            )
        row["time (s)"] = _seconds(facts["wall_seconds"])
        for field in tuned_fields(summary):
            chosen = (facts["tuning"] or {}).get("chosen") or {}
            row[short(field)] = level(chosen[field]) if field in chosen else NOTHING
        rows.append(row)
    return rows


def panel_table(panel: dict[str, Any], summary: dict[str, Any]) -> Rows:
    """Tabulate one panel: mean, interval, standard deviation and the test against the baseline."""
    rows, design = [], Design.of(summary)
    for arm, entry in panel["arms"].items():
        row = _lead(design, arm) | {"n": str(entry["n"])} | _result(panel, arm, summary)
        deviation = entry["sd"]
        row["sd"] = NOTHING if deviation is None else number(deviation * _scale(panel["metric"]), 2)
        rows.append(row | _difference(panel, arm, design, brief=False))
    return rows


def effects_table(panel: dict[str, Any], summary: dict[str, Any]) -> Rows:
    """Tabulate the main effects and interactions of a panel; none for a design without them."""
    design, scale = Design.of(summary), _scale(panel["metric"])
    unit = " (pp)" if is_share(panel["metric"]) else ""
    return [
        {
            "effect": term(effect["levels"], design),
            "order": str(len(effect["levels"])),
            f"averaged{unit}": _estimate(effect, scale),
            "p (Holm)": _p(effect["p_holm"]),
            f"at the baseline{unit}": _estimate(effect["at_baseline"], scale),
        }
        for effect in panel["effects"] or []
    ]


def term(levels: dict[str, Any], design: Design) -> str:
    """Name an effect: "norm batch × skip identity"."""
    return " × ".join(f"{design.label(field)} {level}" for field, level in levels.items())


def map_tables(summary: dict[str, Any]) -> dict[str, Rows]:
    """Tabulate the first panel of a design with two axes: a table for each group."""
    design, panel = Design.of(summary), summary["panels"][0]
    y, x = design.axes
    tables = {}
    for group in design.groups:
        tables[design.describe(group)] = [
            {f"{design.label(y)} \\ {design.label(x)}": f"{row:g}"}
            | {
                f"{column:g}": NOTHING
                if (arm := design.find(group, (row, column))) is None
                else next(iter(_result(panel, arm, summary).values()))
                for column in design.levels(x)
            }
            for row in design.levels(y)
        ]
    return tables


def tuning_table(summary: dict[str, Any]) -> Rows:
    """Tabulate the validation metric of each arm at each point of the grid; a star: chosen."""
    if not tuned_fields(summary):
        return []
    metric, rows = summary["tune"].get("select", "validation/accuracy"), []
    design = Design.of(summary)
    for arm, facts in summary["arms"].items():
        tuning = facts["tuning"] or {"grid": [], "chosen": None}
        row = _lead(design, arm)
        for tried in tuning["grid"]:
            score = (tried.get("metrics") or {}).get(metric)
            text = NOTHING if score is None else number(score * _scale(metric), 4)
            if tried.get("status") == "diverged":
                text = "diverged"
            column = " / ".join(
                level(value) if field in tried["point"] else NOTHING
                for field in tuned_fields(summary)
                for value in [tried["point"].get(field)]
            )
            row[column] = f"{text} *" if tried["point"] == tuning["chosen"] else text
        rows.append(row)
    columns = dict.fromkeys(column for row in rows for column in row)
    return [{column: row.get(column, NOTHING) for column in columns} for row in rows]


def tuned_fields(summary: dict[str, Any]) -> list[str]:
    """The fields whose values were chosen on validation, by any arm."""
    points = (summary.get("tune") or {}).get("grid", [])
    return list(dict.fromkeys(field for point in points for field in point))


def runs_table(experiment: Experiment, summary: dict[str, Any]) -> Rows:
    """Tabulate every run: how it ended, its metrics, its time and its parameters' digest."""
    rows = []
    for run in experiment.runs:
        result = run.result or {"status": "no result yet"}
        row = _lead(experiment.design, run.arm) | {"seed": str(run.seed)}
        row["status"] = str(result.get("status"))
        row["steps"] = str(result.get("steps", NOTHING))
        for panel in summary["panels"]:
            value = finite(run.metrics.get(panel["metric"]))
            digits = 1 if _counts(panel["metric"]) else 4
            text = NOTHING if value is None else number(value * _scale(panel["metric"]), digits)
            row[with_unit(panel["metric"], summary)] = text
        row["time (s)"] = _seconds(finite(result.get("wall_seconds")))
        row["resumed from"] = ", ".join(map(str, result.get("resumed_from") or [])) or NOTHING
        row["parameters"] = str(result.get("params_digest") or NOTHING).split(":")[-1][:10]
        rows.append(row)
    return rows


def utilization_table(summary: dict[str, Any]) -> Rows:
    """Tabulate what the arms' runs made of their devices, their medians; none where not recorded.

    Of what is 0 in all arms, such as the communication of single devices, there is no column.
    """
    arms = {arm: facts.get("utilization") or {} for arm, facts in summary["arms"].items()}
    names = dict.fromkeys(name for found in arms.values() for name, value in found.items() if value)
    if not names:
        return []
    return [
        _lead(Design.of(summary), arm)
        | {
            with_unit(name, summary): NOTHING
            if name not in found
            else number(found[name] * _scale(name))
            if name in found
            else NOTHING
            for name in names
        }
        for arm, found in arms.items()
    ]


def markdown(rows: Rows) -> str:
    """Lay rows out as a Markdown table; the first column to the left, the others to the right."""
    lines = [list(rows[0]), [":--"] + ["--:"] * (len(rows[0]) - 1), *(row.values() for row in rows)]
    escaped = ([str(cell).replace("|", "\\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)


def print_table(source: str | Path | dict[str, Any]) -> None:
    """Print `table` and its notes; plain text where there is no terminal.

    Columns that a narrow terminal has no room for follow in a second table, whole.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    summary = source if isinstance(source, dict) else summarise(read_experiment(source))
    rows = table(summary)
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console = Console(highlight=False, markup=False, width=240)  # a file has no width
    widths, lead = _widths(rows), list(_lead(Design.of(summary), next(iter(summary["arms"]))))
    for columns in _side_by_side(widths, lead, console.width):
        grid = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
        for column in columns:
            side = "left" if column in lead else "right"
            grid.add_column(column, justify=side, width=widths[column])
        for row in rows:
            grid.add_row(*(row[column] for column in columns))
        console.print(grid)
    for note in notes(summary):
        console.print(note)


def _widths(rows: Rows) -> dict[str, int]:
    """Characters that each column needs: its widest cell; a heading may fold between words."""
    return {
        column: max(len(text) for text in [*column.split(), *(row[column] for row in rows)])
        for column in rows[0]
    }


def _side_by_side(widths: dict[str, int], lead: list[str], room: int) -> list[list[str]]:
    """Pack columns, in order, into as few tables as fit `room`, each opening with the lead."""
    tables = [[*lead]]
    for column in list(widths)[len(lead) :]:
        taken = (
            sum(widths[c] + 2 for c in [*tables[-1], column]) + 2
        )  # 2 between, an edge each side
        if taken > room and len(tables[-1]) > len(lead):
            tables.append([*lead])
        tables[-1].append(column)
    return tables


def _result(panel: dict[str, Any], arm: str, summary: dict[str, Any]) -> dict[str, str]:
    entry, scale = panel["arms"][arm], _scale(panel["metric"])
    column = with_unit(panel["metric"], summary)
    if entry["mean"] is None:
        return {column: NOTHING}
    mean, interval = entry["mean"] * scale, entry["ci95"]
    if interval is None:
        return {column: f"{number(mean, 1 if _counts(panel['metric']) else 3)} (1 seed)"}
    half = (interval[1] - interval[0]) / 2 * scale
    if panel["metric"] == "diverged":  # its interval is not symmetric
        low, high = (bound * scale for bound in interval)
        return {column: f"{mean:.0f} [{low:.0f}, {high:.0f}]"}
    places = 0 if _counts(panel["metric"]) else decimals(half or mean, 2 if half else 3)
    part = f" ({entry['reached']}/{entry['ended']})" if _partly_reached(entry) else ""
    return {column: f"{mean:.{places}f} ± {half:.{places}f}{part}"}


def _lead(design: Design, arm: str) -> dict[str, str]:
    """The columns that name an arm: its levels, or itself where no factors are declared."""
    return {design.label(field): level(levels[arm]) for field, levels in design.factors.items()}


def _difference(panel: dict[str, Any], arm: str, design: Design, brief: bool) -> dict[str, str]:
    """Difference to the baseline and its corrected p; without a baseline there are no columns."""
    if design.base is None:
        return {}
    baseline = design.base_name
    unit = " (pp)" if is_share(panel["metric"]) else ""
    columns = (f"Δ {baseline}{unit}" if brief else f"difference from {baseline}{unit}", "p (Holm)")
    difference, metric = panel["arms"][arm]["difference"], panel["metric"]
    if not brief and metric != "diverged":
        columns += (f"detectable{unit}",)
    if difference is None:
        return dict.fromkeys(columns, NOTHING)
    scale = _scale(metric)
    text = _estimate(difference, scale)
    seen = difference.get("detectable")
    cells = (text, _p(difference["p_holm"]), NOTHING if seen is None else number(seen * scale, 2))
    return dict(zip(columns, cells, strict=False))


def _estimate(found: dict[str, Any], scale: float) -> str:
    """A difference or an effect with its interval; why, where it has none."""
    mean, interval = found["mean"] * scale, found["ci95"]
    if interval is None:
        why = "1 seed" if found.get("n") == 1 else "the same in every seed, no test"
        return f"{_signed(mean)} ({why})"
    low, high = (bound * scale for bound in interval)
    places = decimals((high - low) / 2 or mean, 2)
    return f"{_signed(mean, places)} [{_signed(low, places)}, {_signed(high, places)}]"


def _p(p: float | None) -> str:
    if p is None:
        return NOTHING
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _counts(metric: str) -> bool:
    """Whether a metric is a whole number, shown without decimals."""
    return metric.startswith("steps_to_")


def _partly_reached(entry: dict[str, Any]) -> bool:
    return "reached" in entry and entry["reached"] < entry["ended"]


def _runs(facts: dict[str, Any]) -> str:
    planned = facts["ended"] + len(facts["missing"])
    text = str(planned) if facts["ended"] == planned else f"{facts['ended']}/{planned}"
    return text + (f" ({len(facts['diverged'])} diverged)" if facts["diverged"] else "")


def _seconds(seconds: float | None) -> str:
    return NOTHING if seconds is None else f"{seconds:.{1 if seconds < 100 else 0}f}"


def _scale(metric: str) -> float:
    return 100.0 if is_share(metric) else 1.0


def _signed(value: float, places: int | None = None) -> str:
    places = decimals(value, 3) if places is None else places
    text = f"{abs(value):.{places}f}"
    sign = "−" if value < 0 else "+"
    return text if float(text) == 0 else sign + text
