"""What the units of a recurrent network do over the steps of its sequences."""

import jax
import jax.numpy as jnp
import numpy as np

SHUT, OPEN = 0.1, 0.9


def saturation(gate: jax.Array, real: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return how often each unit's gate is nearly shut (below 0.1), and nearly open (above 0.9).

    Args:
        gate: float[B, T, H], in [0, 1].
        real: float[B, T], 1 for the steps that count.

    Returns:
        Two shares of these steps, [H] each.

    References:
        A. Karpathy, J. Johnson, L. Fei-Fei, Visualizing and understanding recurrent networks,
        2015, §4.2.
    """
    real = real[..., None]
    count = real.sum()
    shut, open_ = jnp.sum((gate < SHUT) * real, (0, 1)), jnp.sum((gate > OPEN) * real, (0, 1))
    return shut / count, open_ / count


def before_end(norms: np.ndarray, real: np.ndarray, backward: bool = False) -> np.ndarray:
    """Return the norm over sequences of a step's norms, by how many steps before the end it is.

    Sequences of several lengths are so one curve, where by their steps they would be one each. Each
    place has the weight of all sequences, however few are so long: where all are equally long these
    are the norms of the steps.

    Args:
        norms: [B, T].
        real: [B, T], 1 for the steps that count, which each row begins with.
        backward: whether the last step that a layer reads is the first.

    Returns:
        [T'], for 0, 1, … steps before the last that is read.
    """
    lengths, steps = real.sum(1).astype(int), np.arange(real.shape[1])
    places = np.broadcast_to(steps, real.shape) if backward else lengths[:, None] - 1 - steps
    places, squares = places[real > 0], norms[real > 0] ** 2
    total, count = np.bincount(places, squares), np.bincount(places)
    return np.sqrt(total / count * np.sum(lengths > 0))


def by_peak(states: np.ndarray) -> np.ndarray:
    """Return the order of units [H] by the step at which each is farthest from 0, in [T, H]."""
    return np.argsort(np.abs(states).argmax(0), kind="stable")
