"""The pictures of a report.

Each plot is a function of the experiment and its summary: it returns the figure and the rows of
data behind it, or None where the runs have not logged what it shows. Figures are built without
pyplot, so nothing global is touched; matplotlib is imported when the first one is drawn.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from research.files import write, write_csv
from research.report.plots.along_axis import along_axis
from research.report.plots.clipping import clipping
from research.report.plots.effect_sizes import effect_sizes
from research.report.plots.final_metrics import final_metrics
from research.report.plots.gradient_norms import gradient_norms, gradient_profiles
from research.report.plots.heat_map import heat_map
from research.report.plots.interactions import interactions
from research.report.plots.learning_curves import learning_curves
from research.report.plots.style import STYLE, Plot, png
from research.report.plots.through_time import gates, state_gradients
from research.report.runs import Experiment


def draw(experiment: Experiment, summary: dict[str, Any], directory: Path) -> dict[str, Path]:
    """Write every plot that the runs allow as PNG, its data beside it as CSV; name → PNG."""
    import matplotlib

    plots: dict[str, Callable[[Experiment, dict[str, Any]], Plot | None]] = {}
    for panel in summary["panels"]:
        first = panel is summary["panels"][0]
        if not first and len({entry["mean"] for entry in panel["arms"].values()}) == 1:
            continue  # all alike: nothing to see
        suffix = "" if first else "_" + panel["metric"].replace("/", "_")
        for name, plot in {
            "interactions": interactions,
            "effects": effect_sizes,
            "heat_map": heat_map,
        }.items():
            plots[name + suffix] = partial(plot, panel=panel)
    plots |= {
        "along_axis": along_axis,
        "final": final_metrics,
        "learning_curves": learning_curves,
        "clipping": clipping,
        "gradient_norm": gradient_norms,
        "gradient_profile": gradient_profiles,
        "state_gradient": state_gradients,
        "gates": gates,
    }
    drawn = {}
    for name, plot in plots.items():
        with matplotlib.rc_context(STYLE):
            made = plot(experiment, summary)
            if made is None:
                for kind in ("png", "csv"):  # of an earlier report
                    (directory / f"{name}.{kind}").unlink(missing_ok=True)
                continue
            figure, rows = made
            drawn[name] = write(directory / f"{name}.png", png(figure))
        write_csv(directory / f"{name}.csv", rows)
    return drawn
