"""What a plan says of a step: where its time goes, and how it scales."""

from typing import Any

from research.report.plots.style import Plot, grid_lines, legend, new_figure, styles

PARTS = {"compute": "arithmetic", "memory traffic": "memory", "network": "network"}


def draw_plan(report: dict[str, Any]) -> Plot:
    """Two panels: seconds of each arm's step by what takes them, and its scaling.

    Args:
        report: what `plan.json` holds.
    """
    arms = {arm: each for arm, each in report["arms"].items() if each["fits"]}
    figure = new_figure(1.9 + 0.32 * len(arms))
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.2))
    rows: list[dict[str, Any]] = []
    height = 0.8 / len(PARTS)
    shades = ("0.25", "0.55", "0.8")
    for i, (arm, planned) in enumerate(arms.items()):
        for j, (name, shade) in enumerate(zip(PARTS, shades, strict=True)):
            milliseconds = 1e3 * planned["figures"][name]["value"]
            left.barh(i + (j - 1) * height, milliseconds, height, color=shade)
            rows.append(_row(arm, f"{PARTS[name]} (ms)", None, milliseconds))
    left.set_yticks(range(len(arms)), list(arms))
    left.invert_yaxis()
    left.set(xlabel="milliseconds of a step, each by itself")
    grid_lines(left, "x")
    style = styles(list(arms), next(iter(arms)))
    for arm, planned in arms.items():
        for kind in ("weak", "strong"):
            points = planned["scaling"][kind]
            chips = [point["chips"] for point in points]
            percent = [100 * point["efficiency"] for point in points]
            look = style[arm] | ({} if kind == "weak" else {"alpha": 0.4})
            right.plot(chips, percent, markersize=3.5, **look)
            rows += [
                _row(arm, f"{kind} scaling (%)", n, share)
                for n, share in zip(chips, percent, strict=True)
            ]
    right.set_xscale("log", base=2)
    right.set_ylim(0, 105)
    right.set(xlabel=f"chips ({report['topology']})", ylabel="efficiency (%)")
    right.xaxis.set_major_formatter(lambda n, _: f"{n:,.0f}")
    grid_lines(right, "y")
    named = {arm: style[arm] for arm in arms}
    bars = ", ".join(f"{what}" for what in PARTS.values())
    legend(figure, named, "", f"bars from above: {bars}; pale lines: one batch for all (strong)")
    return figure, rows


def _row(arm: str, what: str, chips: int | None, value: float) -> dict[str, Any]:
    return {"arm": arm, "what": what, "chips": chips, "value": value}
