"""What a recurrent network does through time: the gradient at each step, and its gates."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from research.inspection.recurrent import saturation
from research.models.rnn import Recurrent
from research.tasks.sequence import Batch, steps_before

PLACES = 32  # steps at which the gradient is told


def through_time(
    task: Any, variables: dict[str, Any], batch: Batch, key: jax.Array
) -> dict[str, jax.Array]:
    """Return what one training batch shows, as `{"quantity/layer/…": scalar}`.

    - `state_gradient/<layer>/t=<step>`: ‖∂loss/∂h_t‖, the Euclidean norm over sequences and units
      of the gradient of the batch's mean loss, with all that follows from h_t (Pascanu et al. 2013,
      eqs. 3–5), at `PLACES` steps at most, evenly from the first, t = 1, to the last.
    - `gate_below/<layer>/<gate>` and `gate_above/…`: the share of a gate's values below 0.1, nearly
      shut, and above 0.9, nearly open (Karpathy et al. 2015, §4.2), over sequences, their own
      steps, and units.

    A layer is `layer1_forward` and so on. Of a task whose model is not `Recurrent`: {}.
    """
    if not isinstance(getattr(task, "model", None), Recurrent):
        return {}
    slopes, endpoints, real = state_gradients(task, variables, batch, key)
    found, steps = {}, real.shape[1]
    places = np.unique(np.linspace(0, steps - 1, min(steps, PLACES)).round().astype(int))
    for layer, slope in slopes.items():
        norms = jnp.linalg.norm(slope.astype(jnp.float32), axis=(0, 2))
        found |= {f"state_gradient/{layer}/t={t + 1}": norms[t] for t in places}
    for name, gate in endpoints.items():
        if name.endswith("_gate"):
            below, above = saturation(gate, real)
            found[f"gate_below/{name}"], found[f"gate_above/{name}"] = below.mean(), above.mean()
    return found


def state_gradients(
    task: Any, variables: dict[str, Any], batch: Batch, key: jax.Array
) -> tuple[dict[str, jax.Array], dict[str, jax.Array], jax.Array]:
    """Return ∂loss/∂h, [B, T, H] by layer, the endpoints with every step's gates, and [B, T], 1 for
    the steps that count.
    """
    model = task.model
    shape = jax.eval_shape(task.loss, variables, batch, key)[1][2]["layer1"].shape
    size, steps = shape[:2]
    directions = ("forward", "backward") if model.bidirectional else ("forward",)
    layers = [f"layer{i + 1}_{d}" for i in range(model.num_layers) for d in directions]
    zeros = jnp.zeros((size, steps, model.hidden_size), model.dtype)

    def loss(nudges):
        with nn.intercept_methods(_record):
            value, (_, _, endpoints) = task.loss(variables | {"perturbations": nudges}, batch, key)
        return value, endpoints

    slopes, endpoints = jax.grad(loss, has_aux=True)(dict.fromkeys(layers, zeros))
    # A recursive forecast is taught on the future too, which every sequence has.
    lengths = batch["length"] + steps - batch["inputs"].shape[1]
    return slopes, endpoints, steps_before(lengths, steps, batch["mask"])


def _record(call, args, kwargs, context):
    """Have the network's endpoints hold every step's gates, which no task asks for."""
    if isinstance(context.module, Recurrent) and context.method_name == "__call__":
        kwargs = kwargs | {"record": True}
    return call(*args, **kwargs)
