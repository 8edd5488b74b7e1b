"""What the outputs of a model mean: how many there are, their loss, and what they predict."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from research import losses


class Head(NamedTuple):
    """The meaning of a model's outputs, float[N, O].

    Attributes:
        outputs: number of classes K → O.
        loss: `(outputs, labels, smoothing=…) → float[N]`; labels are int[N] or float[N, K].
        predict: `outputs → int32[N]`, the class of each example.
        probabilities: `outputs → float[N, K]`, a score of each class in [0, 1]; None where there
            is none.
    """

    outputs: Callable[[int], int]
    loss: Callable[..., jax.Array]
    predict: Callable[[jax.Array], jax.Array]
    probabilities: Callable[[jax.Array], jax.Array] | None

    def answer(self, outputs: jax.Array) -> dict[str, jax.Array]:
        """Return `outputs`, and the `probabilities` that they mean, where there are some."""
        if self.probabilities is None:
            return {"outputs": outputs}
        return {"outputs": outputs, "probabilities": self.probabilities(outputs)}


def _largest(outputs: jax.Array) -> jax.Array:
    return jnp.argmax(outputs, axis=-1).astype(jnp.int32)


def _largest_or_positive(outputs: jax.Array) -> jax.Array:
    if outputs.shape[-1] > 1:
        return _largest(outputs)
    return (outputs[:, 0] > 0).astype(jnp.int32)


def _sigmoid(outputs: jax.Array) -> jax.Array:
    if outputs.shape[-1] > 1:
        return jax.nn.sigmoid(outputs)
    return jax.nn.sigmoid(jnp.concatenate([-outputs, outputs], axis=-1))


def _nearest(outputs: jax.Array) -> jax.Array:
    return jnp.round(outputs[:, 0]).astype(jnp.int32)  # halves to the even number


def _squared_error(outputs: jax.Array, labels: jax.Array, *, smoothing: float = 0.0) -> jax.Array:
    assert not smoothing, "research.checks.validate refuses it"
    return losses.squared_error(outputs, labels)


HEADS = {
    # One distribution over the classes.
    "softmax": Head(lambda k: k, losses.softmax_cross_entropy, _largest, jax.nn.softmax),
    # A yes or no to each class, one against the rest; a single one where there are two classes.
    "sigmoid": Head(
        lambda k: 1 if k == 2 else k, losses.sigmoid_cross_entropy, _largest_or_positive, _sigmoid
    ),
    # The number of the class, which need not be one: a prediction may lie beyond the last.
    "regression": Head(lambda k: 1, _squared_error, _nearest, None),
}
