"""What every model here has: the switches that all share, and the checks of their values."""

import dataclasses
import numbers
from typing import Any, ClassVar

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from research.config import UserError, unknown
from research.models.layers import ACTIVATIONS, KERNEL_INITS, PADDINGS, SKIPS
from research.models.norms import NORMS
from research.models.pooling import POOLS

DTYPES = ("bfloat16", "float16", "float32", "float64")

CHOICES = {
    "norm": NORMS,
    "activation": tuple(ACTIVATIONS),
    "skip": SKIPS,
    "pool": tuple(POOLS),
    "padding": tuple(PADDINGS),
    "kernel_init": tuple(KERNEL_INITS),
}


class Network(nn.Module):
    """What every model here has: the switches that all share, checked on construction.

    A model sets its paper's defaults by naming a field again, and adds switches of its own: `skip`,
    `pool` and `padding` where it has skips, pooling and convolutions. It is called with images
    [N, H, W, C], or arrays [N, …] that it flattens, and returns `(output, endpoints)`.

    Attributes:
        num_classes: the width of the output.
        norm: one of `NORMS`, after every convolution; see `normalize`.
        norm_groups: of group norm.
        norm_epsilon: what every norm with moments adds to a variance.
        norm_momentum: the share of batch norm's running averages that a step keeps.
        activation: one of `ACTIVATIONS`.
        use_bias: whether convolutions and hidden dense layers have a bias; None: exactly where no
            norm with a bias of its own follows. The last layer always has one.
        dropout: the share of units that dropout (Srivastava et al. 2014) zeroes in training.
        kernel_init: one of `KERNEL_INITS`.
        dtype: of the arithmetic.
        param_dtype: of the parameters.

    Raises:
        UserError: on construction, for a switch that cannot be; on calling, for inputs that the
            layers shrink away.
    """

    input_shape: ClassVar[tuple[int, int, int]] = (224, 224, 3)  # the paper's images
    paper: ClassVar[str] = ""
    aux_weights: ClassVar[dict[str, float]] = {}  # endpoint → the share of its loss in training

    num_classes: int = 1000
    norm: str = "none"
    norm_groups: int = 8
    norm_epsilon: float = 1e-5
    norm_momentum: float = 0.9
    activation: str = "relu"
    use_bias: bool | None = None
    dropout: float = 0.0
    kernel_init: str = "he"
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    def __post_init__(self):
        check(self)
        for field in dataclasses.fields(self):
            if isinstance(value := getattr(self, field.name), list):
                object.__setattr__(self, field.name, tuple(value))  # a list could not be hashed
        super().__post_init__()


def check(model: nn.Module) -> None:
    """Refuse a switch of `model` whose value is not one of its kind.

    Raises:
        UserError: an unknown name, a count or a width that is not a positive whole number, a share
            outside [0, 1), an epsilon or a multiplier that is not positive, or a dtype that is not
            floating point.
    """
    for field in dataclasses.fields(model):
        what, value = f"model.{field.name}", getattr(model, field.name)
        if field.name in CHOICES:
            if value not in CHOICES[field.name]:
                raise unknown(what, value, CHOICES[field.name])
        elif field.name in ("dtype", "param_dtype"):
            if dtype_name(value) not in DTYPES:
                raise unknown(what, dtype_name(value), DTYPES)
        elif field.name.endswith(("dropout", "momentum")):
            if not (isinstance(value, numbers.Real) and 0 <= value < 1):
                raise UserError(f"{what}: found {value!r}, expected a share in [0, 1)")
        elif field.name == "hidden":
            check_widths(what, value)
        elif field.name.endswith(("epsilon", "multiplier")):
            if not (isinstance(value, numbers.Real) and value > 0):
                raise UserError(f"{what}: found {value!r}, expected a number above 0")
        elif field.type is bool or field.type == bool | None:
            if not (isinstance(value, bool) or (value is None and field.type is not bool)):
                raise UserError(f"{what}: found {value!r}, expected True or False")
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


def check_widths(what: str, value: Any, length: int | None = None) -> None:
    """Refuse a `value` that is not a tuple (or list) of `length` widths, of any length if None."""
    if not isinstance(value, (tuple, list)) or (length and len(value) != length):
        example = (256, 256) if length is None else tuple(2**i * 8 for i in range(length))
        raise UserError(f"{what}: found {value!r}, expected widths, as {example}")
    for width in value:
        check_count(what, width)


def check_images(x: Array) -> None:
    """Refuse inputs that are not images [N, H, W, C]."""
    if x.ndim != 4:
        raise UserError(
            "model.name: a convolutional network takes images [N, H, W, C], found inputs of shape "
            f"{x.shape}; 'mlp' takes any shape"
        )
