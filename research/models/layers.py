"""The parts every network here is made of: norms, activations, pooling, initialisers and skips.

A model takes its switches as fields (`norm`, `activation`, `skip`, `kernel_init`, …), checks them
with `check` and asks `Layers` for the layers they describe, so that an arm of an ablation is one
changed value. Arrays are [N, H, W, C] or [N, C]; parameters are made in `param_dtype`, arithmetic
is done in `dtype`, and every norm's statistics in at least float32.
"""

import dataclasses
import numbers
from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax import Array, lax

from research.config import UserError, unknown

NORMS = ("none", "batch", "layer", "group", "instance", "local_response")

SKIPS = ("identity", "projection", "none", "zero_init")

ACTIVATIONS = {
    "relu": nn.relu,
    "leaky_relu": nn.leaky_relu,  # slope 0.01 below zero
    "elu": nn.elu,
    "gelu": partial(nn.gelu, approximate=False),  # x Φ(x), not its tanh approximation
    "silu": nn.silu,
    "tanh": nn.tanh,
    "sigmoid": nn.sigmoid,
    "linear": lambda x: x,
}

KERNEL_INITS = {
    "he": nn.initializers.he_normal(),  # He et al. 2015, eq. 10
    "glorot": nn.initializers.glorot_uniform(),  # Glorot & Bengio 2010, eq. 16
    "xavier": nn.initializers.glorot_uniform(),  # the same man's other name
    "lecun": nn.initializers.lecun_normal(),  # LeCun et al. 1998, eq. 16
    "orthogonal": nn.initializers.orthogonal(),  # Saxe et al. 2014
    "zeros": nn.initializers.zeros,
}

POOLS = {"average": jnp.mean, "max": jnp.max, "sum": jnp.sum}

DTYPES = ("bfloat16", "float16", "float32", "float64")

CHOICES = {
    "norm": NORMS,
    "activation": tuple(ACTIVATIONS),
    "skip": SKIPS,
    "pool": tuple(POOLS),
    "kernel_init": tuple(KERNEL_INITS),
}


def check(model: nn.Module) -> None:
    """Refuse a switch of `model` whose value is not one of its kind.

    Raises:
        UserError: an unknown name, a count that is not a positive whole number, or a dtype that
            is not floating point.
    """
    for field in dataclasses.fields(model):
        what, value = f"model.{field.name}", getattr(model, field.name)
        if field.name in CHOICES:
            if value not in CHOICES[field.name]:
                raise unknown(what, value, CHOICES[field.name])
        elif field.name in ("dtype", "param_dtype"):
            if dtype_name(value) not in DTYPES:
                raise unknown(what, dtype_name(value), DTYPES)
        elif field.type is int:
            check_count(what, value)


def dtype_name(dtype: Any) -> str:
    """The name of a dtype; of anything else, how it prints."""
    try:
        return "None" if dtype is None else jnp.dtype(dtype).name  # to NumPy None is float64
    except TypeError:
        return str(dtype)


def check_count(what: str, value: Any) -> None:
    """Refuse a `value` that is not a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
        raise UserError(f"{what}: found {value!r}, expected a whole number of at least 1")


def check_groups(channels: int, groups: int) -> None:
    """Refuse a number of `groups` that does not divide a layer's `channels`."""
    if channels % groups:
        divisors = [g for g in range(1, channels + 1) if channels % g == 0]
        nearest = min(divisors, key=lambda g: abs(g - groups))
        raise UserError(
            f"model.norm_groups: found {groups}, expected a divisor of a layer's {channels} "
            f"channels (nearest: {nearest})"
        )


def check_images(x: Array, at_least: int, name: str) -> None:
    """Refuse inputs that are not images [N, H, W, C] of `at_least` that many pixels a side."""
    if x.ndim != 4:
        raise UserError(
            f"model.name: {name!r} takes images [N, H, W, C], found inputs of shape {x.shape}; "
            "'mlp' takes any shape"
        )
    if min(x.shape[1:3]) < at_least:
        raise UserError(
            f"model.name: the strides of {name!r} shrink images of {x.shape[1]}×{x.shape[2]} "
            f"pixels away, expected at least {at_least}×{at_least}"
        )


# ---- norms


def has_affine(norm: str) -> bool:
    """Whether `norm` has a scale and a bias of its own; the layer before it then needs no bias."""
    return norm not in ("none", "local_response")


def normalize(
    x: Array,
    norm: str,
    *,
    train: bool,
    groups: int = 8,
    dtype: Any = jnp.float32,
    param_dtype: Any = jnp.float32,
    name: str | None = None,
) -> Array:
    """Normalise `x` by the norm of that name; call it inside a compact module.

    - none: `x` itself.
    - batch (Ioffe & Szegedy 2015): each channel over the batch and all positions; running
      averages (momentum 0.9, collection `batch_stats`) when not training.
    - layer (Ba et al. 2016): each example over all positions and channels.
    - group (Wu & He 2018): each example over all positions of each of `groups` channel groups.
    - instance (Ulyanov et al. 2016): each example and channel over all positions.
    - local_response (Krizhevsky et al. 2012): see `local_response`.

    All but the first and the last add 1e-5 to a biased variance and learn one scale and one bias
    per channel.

    Args:
        x: [N, …, C].
        norm: one of `NORMS`.
        train: whether batch norm uses (and averages) the statistics of this batch.
        groups: the number of groups of group norm.
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
    options = {"epsilon": 1e-5, "dtype": dtype, "use_fast_variance": False, "name": name}
    if norm == "batch":
        # Left to itself, Flax starts running averages in float32 and lets the first float64 step
        # change their dtype; told not to force float32, it keeps them in `param_dtype`.
        double = jnp.dtype(dtype) == jnp.float64
        return nn.BatchNorm(
            use_running_average=not train,
            momentum=0.9,
            param_dtype=dtype if double else param_dtype,
            force_float32_reductions=not double,
            **options,
        )(x)
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


# ---- pooling


def pool(
    x: Array, kind: str, size: int, strides: int | None = None, padding: str | int = "VALID"
) -> Array:
    """Pool windows of `size`×`size` pixels: [N, H, W, C] → [N, H', W', C].

    Args:
        x: images.
        kind: one of `POOLS`. Padding never wins a maximum and never counts in an average.
        size: of the window, in pixels.
        strides: pixels between windows; `size` where not given.
        padding: 'VALID', 'SAME', or pixels on every side.
    """
    strides = strides or size
    sides = padding if isinstance(padding, str) else ((padding, padding),) * 2
    window = {"window_shape": (size, size), "strides": (strides, strides), "padding": sides}
    if kind == "max":
        return nn.max_pool(x, **window)
    total = nn.pool(x, 0.0, lax.add, **window)
    if kind == "sum":
        return total
    return total / nn.pool(jnp.ones_like(x[:1, :, :, :1]), 0.0, lax.add, **window)


def global_pool(x: Array, kind: str) -> Array:
    """Pool all positions: [N, H, W, C] → [N, C], by the pool of that name."""
    return POOLS[kind](x, axis=(1, 2))


# ---- layers


@dataclasses.dataclass(frozen=True)
class Layers:
    """The layers that a model's switches describe; its methods make submodules where called.

    A kernel is followed by a bias exactly where the norm after it has none of its own.
    """

    norm: str
    norm_groups: int
    activation: str
    kernel_init: str
    dtype: Any
    param_dtype: Any
    train: bool

    @classmethod
    def of(cls, model: nn.Module, train: bool) -> "Layers":
        """The layers of `model`, which has a field for every switch."""
        names = [f.name for f in dataclasses.fields(cls) if f.name != "train"]
        return cls(**{name: getattr(model, name) for name in names}, train=train)

    def conv(
        self, x: Array, features: int, size: int, strides: int = 1, *, name: str, **options: Any
    ) -> Array:
        """Convolve by `size`×`size`, padded alike on both sides: strides of 2 then centre a 3×3
        kernel on the very pixels that subsampling keeps (XLA's 'SAME' would be one pixel off).
        """
        return nn.Conv(
            features,
            (size, size),
            strides,
            padding=options.pop("padding", size // 2),
            use_bias=not has_affine(self.norm),
            kernel_init=KERNEL_INITS[self.kernel_init],
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name=name,
            **options,
        )(x)

    def dense(self, x: Array, features: int, *, name: str) -> Array:
        """A fully connected layer: [N, D] → [N, features]."""
        return nn.Dense(
            features,
            use_bias=not has_affine(self.norm),
            kernel_init=KERNEL_INITS[self.kernel_init],
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name=name,
        )(x)

    def normalize(self, x: Array, *, name: str) -> Array:
        """The norm; see `normalize`."""
        return normalize(
            x,
            self.norm,
            train=self.train,
            groups=self.norm_groups,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name=name,
        )

    def activate(self, x: Array) -> Array:
        """The activation function."""
        return ACTIVATIONS[self.activation](x)

    def logits(self, x: Array, num_classes: int, *, name: str = "head") -> Array:
        """The last layer, always with a bias and in at least float32: [N, D] → [N, num_classes]."""
        return nn.Dense(
            num_classes,
            kernel_init=KERNEL_INITS[self.kernel_init],
            dtype=jnp.promote_types(self.dtype, jnp.float32),
            param_dtype=self.param_dtype,
            name=name,
        )(x)


class Skip(nn.Module):
    """Add what entered a residual branch to what came out of it.

    - identity: no parameters; where the branch changes the shape, its input is subsampled and
      padded with channels of zeros (He et al. 2015, option A).
    - projection: there, a 1×1 convolution and a norm; identity elsewhere (option B).
    - zero_init: identity, and the branch multiplied by one learned scalar, `scale`, that starts
      at 0 (SkipInit: De & Smith 2020).
    - none: the branch alone, a plain network.
    """

    kind: str
    strides: int
    layer: Layers

    @nn.compact
    def __call__(self, x: Array, branch: Array) -> Array:
        if self.kind == "none":
            return branch
        if self.kind == "zero_init":
            scale = self.param("scale", nn.initializers.zeros, (), self.layer.param_dtype)
            branch = branch * scale.astype(branch.dtype)
        features = branch.shape[-1]
        if x.shape == branch.shape:
            shortcut = x
        elif self.kind == "projection":
            shortcut = self.layer.conv(x, features, 1, self.strides, name="conv")
            shortcut = self.layer.normalize(shortcut, name="norm")
        else:
            subsampled = x[:, :: self.strides, :: self.strides]
            extra = features - x.shape[-1]
            shortcut = jnp.pad(subsampled, [(0, 0), (0, 0), (0, 0), (0, extra)])
        return shortcut + branch
