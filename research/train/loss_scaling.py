"""Training in float16: the loss is scaled so that its gradient neither vanishes nor overflows."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

INITIAL = 2.0**15
INTERVAL = 2000  # finite steps in a row after which the scale doubles


class LossScaleState(NamedTuple):
    """Of `dynamic_loss_scaling`.

    Attributes:
        loss_scale: float32 scalar, what the next step's loss is to be multiplied with.
        good_steps: int32 scalar, finite steps since the scale last changed.
        finite: bool scalar, whether the last gradient was; where not, its step was skipped.
        inner: the optimiser's own state.
    """

    loss_scale: jax.Array
    good_steps: jax.Array
    finite: jax.Array
    inner: Any


def dynamic_loss_scaling(
    inner: optax.GradientTransformation, *, initial: float = INITIAL, interval: int = INTERVAL
) -> optax.GradientTransformation:
    """Skip the steps whose gradient is not finite, and say by what the next loss is to be scaled.

    The scale halves at a gradient with an infinity or a NaN, and doubles after `interval` finite
    ones in a row. Of a skipped step nothing is left: the update is 0, and `inner` keeps its state,
    the count of a schedule among it. It takes the gradient with the scale already taken out.

    Args:
        inner: the optimiser.
        initial: the first scale; a power of two, by which multiplying is exact.
        interval: see above.

    References:
        P. Micikevicius et al., Mixed Precision Training, ICLR 2018, §3.2; the rule and its numbers
        are those of NVIDIA's Apex and of `torch.amp.GradScaler`, but for the first scale's half.
    """

    def init(params):
        return LossScaleState(
            jnp.asarray(initial, jnp.float32), jnp.int32(0), jnp.asarray(True), inner.init(params)
        )

    def update(gradient, state, params=None):
        finite = jnp.stack([jnp.isfinite(g).all() for g in jax.tree.leaves(gradient)]).all()
        updates, new = inner.update(gradient, state.inner, params)
        updates = jax.tree.map(lambda u: jnp.where(finite, u, 0), updates)
        good_steps = jnp.where(finite, state.good_steps + 1, 0)
        grows = good_steps >= interval
        factor = jnp.where(finite, jnp.where(grows, 2.0, 1.0), 0.5)
        return updates, LossScaleState(
            loss_scale=state.loss_scale * factor,
            good_steps=jnp.where(grows, 0, good_steps),
            finite=finite,
            inner=where_finite(finite, new, state.inner),
        )

    return optax.GradientTransformation(init, update)


def where_finite(finite: jax.Array, new: Any, old: Any) -> Any:
    """Return `new` where the step counts, else `old`, trees of the same arrays."""
    return jax.tree.map(lambda n, o: jnp.where(finite, n, o), new, old)
