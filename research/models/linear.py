"""The linear model of a series."""

from typing import Any, ClassVar

from flax import linen as nn
from jax import Array
from jax import numpy as jnp

from research.config import UserError


class Linear(nn.Module):
    """The future of each channel as a linear map of its past, the same map for every channel.

        model = Linear(num_classes=24 * 7)
        variables = model.init(key, inputs)  # [B, 96, 7]
        future, endpoints = model.apply(variables, inputs)  # [B, 24, 7]

    Attributes:
        num_classes: H·D, the numbers that are asked for, of a series of D channels.
        dtype: of the arithmetic; the future is in at least float32.
        param_dtype: of the parameters.

    References:
        A. Zeng, M. Chen, L. Zhang, Q. Xu, Are Transformers Effective for Time Series Forecasting?,
        AAAI 2023 (their "Linear").
    """

    input_shape: ClassVar[tuple[int, int]] = (96, 1)  # a series as it is shown with: T, D
    paper: ClassVar[str] = "Zeng et al. 2023"

    num_classes: int = 10
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, inputs: Array, lengths: Array | None = None, *, train: bool = False
    ) -> tuple[Array, dict[str, Array]]:
        """Forecast H steps [B, H, D] of a series [B, T, D]; `lengths` and `train` change nothing.

        Raises:
            UserError: a number of outputs that is not H·D.
        """
        channels = inputs.shape[-1]
        if self.num_classes % channels:
            raise UserError(
                f"num_classes: found {self.num_classes} with inputs of {channels} channels, "
                f"expected a multiple of {channels}"
            )
        past = jnp.swapaxes(inputs, 1, 2)
        dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        future = nn.Dense(self.num_classes // channels, name="head", **dtypes)(past)
        future = jnp.swapaxes(future, 1, 2).astype(jnp.promote_types(self.dtype, jnp.float32))
        return future, {"logits": future}
