"""The pictures of an inspection: each of the numbers that stand beside it as JSON."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from research.report.plots.inspection.curves import (
    dead_units,
    gradient_flow,
    invariance,
    landscape,
)
from research.report.plots.inspection.maps import (
    features,
    kernels,
    occlusion,
    receptive_field,
    saliency,
)
from research.report.plots.inspection.sequences import attention, gates, state_gradient, states

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PLOTS: dict[str, Callable[[dict[str, Any], str], "Figure"]] = {
    plot.__name__: plot
    for plot in (
        kernels,
        features,
        receptive_field,
        occlusion,
        saliency,
        invariance,
        dead_units,
        gradient_flow,
        landscape,
        states,
        gates,
        state_gradient,
        attention,
    )
}
