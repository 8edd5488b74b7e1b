"""Metrics as sums and counts: they add over batches, devices and hosts; a ratio is taken last.

A metric sum is a dict that holds `count` beside the sums, so that its means are `sum / count`.
"""

from collections.abc import Iterable, Mapping

import jax
import jax.numpy as jnp
import numpy as np


def classification_sums(
    loss: jax.Array, logits: jax.Array, labels: jax.Array, mask: jax.Array
) -> dict[str, jax.Array]:
    """Return the sums of loss and accuracy over the examples where `mask` is 1.

    Args:
        loss: float[N], per example.
        logits: float[N, K].
        labels: int[N].
        mask: float[N], 0 for padding.
    """
    correct = jnp.argmax(logits, axis=-1) == labels
    return {
        "loss": jnp.sum(jnp.where(mask > 0, loss, 0)),
        "accuracy": jnp.sum(correct * mask),
        "count": jnp.sum(mask),
    }


def mean(sums: Iterable[Mapping[str, np.ndarray]], prefix: str = "") -> dict[str, float]:
    """Add metric sums (on the host, in float64) and divide by their count.

    Example:
        >>> mean([{"loss": 3.0, "count": 2}, {"loss": 1.0, "count": 2}], "train/")
        {'train/loss': 1.0}
    """
    sums = list(sums)
    total = {name: sum(np.float64(s[name]) for s in sums) for name in sums[0]}
    count = total.pop("count")
    return {prefix + name: float(value / count) for name, value in total.items()}
