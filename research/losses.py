"""Losses per example; a task masks and sums them."""

import jax
import jax.numpy as jnp
import optax


def softmax_cross_entropy(
    logits: jax.Array, labels: jax.Array, *, smoothing: float = 0.0
) -> jax.Array:
    """Return the cross-entropy of each example, in nats.

    Args:
        logits: float[N, K].
        labels: int[N], in [0, K).
        smoothing: share of the target spread evenly over the K classes (Szegedy 2015, §7).

    Returns:
        float[N].
    """
    if not smoothing:
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    targets = optax.smooth_labels(
        jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype), smoothing
    )
    return optax.softmax_cross_entropy(logits, targets)


def masked_mean(values: jax.Array, mask: jax.Array) -> jax.Array:
    """Return the mean of `values` [N] where `mask` [N] is 1."""
    return jnp.sum(jnp.where(mask > 0, values, 0)) / jnp.maximum(jnp.sum(mask), 1)
