"""Losses per example; a task weighs, masks and sums them.

Labels are int[N], in [0, K), or float[N, K]: one-hot rows, or shares of several classes, as mixing
images gives them.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax


def softmax_cross_entropy(
    logits: jax.Array, labels: jax.Array, *, smoothing: float = 0.0
) -> jax.Array:
    """Return the cross-entropy of each example, in nats.

    Args:
        logits: float[N, K].
        labels: int[N] or float[N, K].
        smoothing: share of the target spread evenly over the K classes (Szegedy 2015, §7).

    Returns:
        float[N].
    """
    if labels.ndim == 1 and not smoothing:
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    targets = optax.smooth_labels(class_shares(labels, logits), smoothing)
    return optax.softmax_cross_entropy(logits, targets)


def distillation_divergence(logits: jax.Array, teacher: jax.Array, temperature: float) -> jax.Array:
    """Return T²·KL(p ‖ q) of each example, in nats, both softened by the temperature T.

    p = softmax(teacher / T), q = softmax(logits / T). Its gradient is that of the cross-entropy
    with soft targets; as those shrink like 1/T², T² keeps their share beside the labels'.

    Args:
        logits: float[N, K], the student's.
        teacher: float[N, K].
        temperature: T > 0.

    Returns:
        float[N].

    References:
        G. Hinton, O. Vinyals, J. Dean, Distilling the Knowledge in a Neural Network, 2015, §2.
    """
    log_q = jax.nn.log_softmax(logits / temperature)
    log_p = jax.nn.log_softmax(teacher.astype(logits.dtype) / temperature)
    return temperature**2 * jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1)


def sigmoid_cross_entropy(
    logits: jax.Array, labels: jax.Array, *, smoothing: float = 0.0
) -> jax.Array:
    """Return the summed binary cross-entropies of each example, in nats.

    K logits answer K questions, "is it this class or any other?"; a single logit answers one, "is
    it class 1 rather than class 0?".

    Args:
        logits: float[N, K], or float[N, 1] for two classes.
        labels: int[N] or float[N, K].
        smoothing: share of each answer spread evenly over yes and no.

    Returns:
        float[N].
    """
    if logits.shape[-1] > 1:
        targets = class_shares(labels, logits)
    else:
        targets = class_number(labels, logits)[:, None]
    targets = (1 - smoothing) * targets + smoothing / 2
    return optax.sigmoid_binary_cross_entropy(logits, targets).sum(-1)


def squared_error(outputs: jax.Array, labels: jax.Array) -> jax.Array:
    """Return the squared difference of each output and the number of its class.

    Args:
        outputs: float[N, 1].
        labels: int[N], or float[N, K], whose number is the mean over its shares.

    Returns:
        float[N].
    """
    return jnp.square(outputs[:, 0] - class_number(labels, outputs))


def class_shares(labels: jax.Array, like: jax.Array) -> jax.Array:
    """Return the labels as shares of each class, [N, K], of the shape and type of `like`."""
    if labels.ndim == 1:
        return jax.nn.one_hot(labels, like.shape[-1], dtype=like.dtype)
    return labels.astype(like.dtype)


def class_number(labels: jax.Array, like: jax.Array) -> jax.Array:
    """Return the labels as numbers, [N], of the type of `like`; of shares their mean."""
    if labels.ndim == 2:
        labels = labels @ jnp.arange(labels.shape[-1], dtype=labels.dtype)
    return labels.astype(like.dtype)


def balanced_weights(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Return the weight of each class that gives all classes the same sum of weights, float64[K].

    The mean weight of an example is 1, so that the loss keeps its scale. A class without examples
    has the weight 0.

    Args:
        labels: int[N], of the training split.
        num_classes: K.

    References:
        G. King, L. Zeng, Logistic Regression in Rare Events Data, Political Analysis 2001.
    """
    counts = np.bincount(labels, minlength=num_classes)
    present = counts > 0
    return np.where(present, len(labels) / (present.sum() * np.maximum(counts, 1)), 0.0)


def example_weights(class_weights: jax.Array, labels: jax.Array) -> jax.Array:
    """Return the weight of each example [N] by its class, or by its shares of classes."""
    return class_weights[labels] if labels.ndim == 1 else labels @ class_weights


def masked_mean(values: jax.Array, mask: jax.Array) -> jax.Array:
    """Return the mean of `values` [N] where `mask` [N] is 1."""
    return jnp.sum(jnp.where(mask > 0, values, 0)) / jnp.maximum(jnp.sum(mask), 1)
