"""Looks at the parameters of any model."""

import jax
import numpy as np

from research.commands.views.subject import Numbers, Subject
from research.inspection.gradient_flow import layer_norms
from research.inspection.landscape import filter_normalized, landscape

POINTS = np.linspace(-1, 1, 15)  # along each direction of a landscape


def gradient_flow(subject: Subject) -> Numbers:
    """The gradient of the loss by layer, beside the parameters."""
    params = subject.variables["params"]
    slopes = jax.jit(jax.grad(subject.loss))(params, subject.variables, subject.batch)
    slopes, sizes = jax.device_get((layer_norms(slopes), layer_norms(params)))
    used = [layer.name for layer in subject.structure.layers if layer.name in sizes]
    order = [*used, *(name for name in sizes if name not in used)]
    return {
        "layers": order,
        "gradient_norm": [float(slopes[n]) for n in order],
        "parameter_norm": [float(sizes[n]) for n in order],
    }


def loss_landscape(subject: Subject) -> Numbers:
    """The loss around the parameters, along two filter-normalised random directions."""
    params = subject.variables["params"]
    directions = tuple(
        filter_normalized(key, params) for key in jax.random.split(jax.random.key(0))
    )
    watch, operands = subject.watch("landscape"), (subject.variables, subject.batch)
    found = landscape(subject.loss, params, directions, POINTS, *operands, watch=watch)
    return {"at": POINTS, "loss": found}
