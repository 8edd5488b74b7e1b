"""Padded batches of sequences: what their lengths can be, and what stands beyond them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from research.config import UserError


def check_sequences(inputs: Any, lengths: Any, axes: str = "[B, T, D]") -> tuple[int, int]:
    """Refuse inputs that have not these axes, or no steps; return (B, T).

    Raises:
        UserError: another rank, no steps, or lengths for which see `check_lengths`.
    """
    if jnp.ndim(inputs) != axes.count(",") + 1:
        raise UserError(
            f"inputs: found shape {jnp.shape(inputs)}, expected {axes}: sequences of T steps; "
            "tokens are embedded first, and one sequence is a batch of 1"
        )
    batch, steps = inputs.shape[:2]
    if not steps:
        raise UserError(
            f"inputs: found shape {jnp.shape(inputs)}, sequences of no steps, expected at least 1"
        )
    if lengths is not None:
        check_lengths(lengths, batch, steps)
    return batch, steps


def check_lengths(lengths: Any, batch: int, steps: int) -> None:
    """Refuse lengths that are not one whole number from 1 to T for each sequence.

    What values there are can be seen before a `jit` only, so check them where a batch is made;
    inside, the shape and the dtype are checked.

    Args:
        lengths: int[B].
        batch: B.
        steps: T.

    Raises:
        UserError: naming the first length that cannot be.
    """
    if not hasattr(lengths, "dtype"):
        raise UserError(f"lengths: found {lengths!r}, expected an array, int[{batch}]")
    if jnp.shape(lengths) != (batch,) or not jnp.issubdtype(jnp.result_type(lengths), jnp.integer):
        raise UserError(
            f"lengths: found {jnp.result_type(lengths)}{list(jnp.shape(lengths))}, expected one "
            f"whole number for each sequence, int[{batch}]"
        )
    if isinstance(lengths, jax.core.Tracer):
        return
    values = np.asarray(lengths)
    for i in np.flatnonzero((values < 1) | (values > steps))[:1]:
        why = "an empty sequence has no last step" if values[i] < 1 else "longer than its padding"
        raise UserError(f"lengths[{i}]: found {values[i]}, expected from 1 to T = {steps}: {why}")


def check_tokens(inputs: Any, size: int, what: str = "inputs", axes: str = "[B, T]") -> None:
    """Refuse what are not tokens of a vocabulary: whole numbers from 0 to its size − 1.

    As with lengths, values can be seen before a `jit` only. Inside, an id past the vocabulary is
    embedded as NaN, and one below 0 counts from its end.

    Raises:
        UserError: another rank or dtype, or naming the first id that is out of range.
    """
    rank = axes.count(",") + 1
    if jnp.ndim(inputs) != rank or not jnp.issubdtype(jnp.result_type(inputs), jnp.integer):
        raise UserError(
            f"{what}: found {jnp.result_type(inputs)}{list(jnp.shape(inputs))} for a vocabulary of "
            f"{size}, expected tokens int{axes}"
        )
    if isinstance(inputs, jax.core.Tracer):
        return
    values = np.asarray(inputs)
    for place in np.argwhere((values < 0) | (values >= size))[:1]:
        raise UserError(
            f"{what}{place.tolist()}: found the id {values[tuple(place)]}, expected from 0 to "
            f"{size - 1}, in a vocabulary of {size}"
        )


def within(mask: Array | None, x: Array) -> Array:
    """`x` [B, T, …] where `mask` [B, T] is True, 0 elsewhere, whatever stands there."""
    if mask is None:
        return x
    return jnp.where(mask.reshape(*mask.shape, *(1,) * (x.ndim - 2)), x, 0)
