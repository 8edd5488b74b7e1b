"""A plan as tables: the figures of a chip, its collectives, and how a step scales."""

from typing import Any

from rich.table import Table


def figures(report: dict[str, Any]) -> Table:
    planned = {arm: each for arm, each in report["arms"].items() if each["fits"]}
    title = f"{report['experiment']} on {report['topology']}: {report['chips']} chips, per chip"
    table = Table("", *planned, "", title=title)
    for column in table.columns[1:-1]:
        column.justify = "right"
    for arm in list(planned)[:1]:
        for name, figure in planned[arm]["figures"].items():
            cells = [each["figures"].get(name) for each in planned.values()]
            table.add_row(name, *(spell(c) if c else "–" for c in cells), figure["how"])
    return table


def collectives(arm: str, planned: dict[str, Any]) -> Table:
    table = Table("collective", "axes", "devices", "a step", "bytes", "seconds", title=arm)
    for row in planned["collectives"]:
        table.add_row(
            row["kind"],
            ", ".join(row["axes"]),
            str(row["devices"]),
            f"{row['count']:,}",
            _count(row["bytes"], "B"),
            _count(row["seconds"], "s"),
        )
    return table


def scaling(arm: str, planned: dict[str, Any]) -> Table:
    table = Table("chips", "weak: step", "efficiency", "strong: step", "efficiency", title=arm)
    for weak, strong in zip(planned["scaling"]["weak"], planned["scaling"]["strong"], strict=True):
        cells = [
            cell
            for point in (weak, strong)
            for cell in (_count(point["seconds"], "s"), f"{100 * point['efficiency']:.1f} %")
        ]
        table.add_row(f"{weak['chips']:,}", *cells)
    return table


def spell(figure: dict[str, Any]) -> str:
    """Return a figure as a person reads it.

    Example:
        >>> spell({"value": 0.0213, "unit": "s"})
        '21.3 ms'
    """
    value, unit = figure["value"], figure["unit"]
    if isinstance(value, str):
        return value
    if unit == "%":
        return f"{100 * value:.1f} %"
    if unit == "rows":
        return f"{value:,}"
    return _count(value, "B" if unit == "bytes" else unit)


def _count(value: float, unit: str) -> str:
    """Return a number with a prefix of its unit."""
    for size, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1, ""), (1e-3, "m")):
        if value >= size:
            return f"{value / size:.3g} {prefix}{unit}"
    return f"{value / 1e-6:.3g} µ{unit}" if value else f"0 {unit}"
