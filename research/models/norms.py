"""Normalisation by name: every norm is one call, and an ablation of norms one changed string."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from research.config import UserError

NORMS = ("none", "batch", "layer", "group", "instance", "local_response")


def has_affine(norm: str) -> bool:
    """Whether `norm` has a scale and a bias of its own; the layer before it then needs no bias."""
    return norm not in ("none", "local_response")


def normalize(
    x: Array,
    norm: str,
    *,
    train: bool,
    groups: int = 8,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    dtype: Any = jnp.float32,
    param_dtype: Any = jnp.float32,
    name: str | None = None,
) -> Array:
    """Normalise `x` by the norm of that name; call it inside a compact module.

    - none: `x` itself.
    - batch (Ioffe & Szegedy 2015): each channel over the batch and all positions; running
      averages (collection `batch_stats`) when not training.
    - layer (Ba et al. 2016): each example over all positions and channels.
    - group (Wu & He 2018): each example over all positions of each of `groups` channel groups.
    - instance (Ulyanov et al. 2016): each example and channel over all positions.
    - local_response (Krizhevsky et al. 2012): see `local_response`.

    All but the first and the last add `epsilon` to a biased variance and learn one scale and one
    bias per channel.

    Args:
        x: [N, …, C].
        norm: one of `NORMS`.
        train: whether batch norm uses (and averages) the statistics of this batch.
        groups: the number of groups of group norm.
        epsilon: added to the variance.
        momentum: what batch norm's running averages keep of themselves at a step: torch's is one
            minus this.
        dtype: of the result.
        param_dtype: of scale and bias.
        name: of the submodule that holds them.

    Raises:
        UserError: the groups do not divide the channels, or instance norm has one position only.
    """
    if norm == "none":
        return x.astype(dtype)
    if norm == "local_response":
        return local_response(x).astype(dtype)
    # The two-pass variance, E[(x − E[x])²]: the fast one, E[x²] − E[x]², loses every digit when
    # the mean is large against the deviation.
    options = {"epsilon": epsilon, "dtype": dtype, "use_fast_variance": False, "name": name}
    if norm == "batch":
        # Left to itself, Flax starts running averages in float32 and lets the first float64 step
        # change their dtype; told not to force float32, it keeps them in `param_dtype`.
        double = jnp.dtype(dtype) == jnp.float64
        # The switch is an argument of the call, not a field, so that it can be intercepted: frozen
        # norms of a network in training use their averages (`research.transfer.batch_norm`).
        return nn.BatchNorm(
            momentum=momentum,
            param_dtype=dtype if double else param_dtype,
            force_float32_reductions=not double,
            **options,
        )(x, use_running_average=not train)
    if norm == "group":
        check_groups(x.shape[-1], groups)
    if norm == "instance" and x.size == x.shape[0] * x.shape[-1]:
        raise UserError(
            f"model.norm: 'instance' averages over positions, found one position only (a layer of "
            f"shape {x.shape}), which it would turn into zeros; expected larger images, or another "
            "norm such as 'layer'"
        )
    count = {"layer": 1, "group": groups, "instance": x.shape[-1]}[norm]
    return nn.GroupNorm(num_groups=count, param_dtype=param_dtype, **options)(x)


def local_response(
    x: Array, n: int = 5, k: float = 2.0, alpha: float = 1e-4, beta: float = 0.75
) -> Array:
    """Divide each channel by the energy of its `n` neighbours (Krizhevsky et al. 2012, §3.3).

    bᵢ = aᵢ / (k + α Σⱼ aⱼ²)^β, j from i − n/2 to i + n/2 as far as there are channels. As in the
    paper, and unlike torch's, α is not divided by n. [N, …, C] → the same, at least float32.
    """
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    # A banded product: on a CPU 6 times faster than n shifted copies, forward and gradient.
    channel = jnp.arange(x.shape[-1])
    band = (abs(channel[:, None] - channel) <= n // 2).astype(x.dtype)
    energy = jnp.matmul(x * x, band, precision="highest")
    return x * (k + alpha * energy) ** -beta


def check_groups(channels: int, groups: int) -> None:
    """Refuse a number of `groups` that does not divide a layer's `channels`."""
    if channels % groups:
        divisors = [g for g in range(1, channels + 1) if channels % g == 0]
        nearest = min(divisors, key=lambda g: abs(g - groups))
        raise UserError(
            f"model.norm_groups: found {groups}, expected a divisor of a layer's {channels} "
            f"channels (nearest: {nearest})"
        )
