"""A convolution whose weight gradient is fast on a CPU too."""

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.custom_derivatives import SymbolicZero

from research.distributed.platform import is_spread, platform

CHUNK = 32  # images; see tests/benchmarks/convolution_gradient.py


def convolve(x: Array, kernel: Array, *args, **options) -> Array:
    """`lax.conv_general_dilated`, its kernel's gradient on a CPU a sum over chunks of the batch.

    XLA computes that gradient as a convolution with the images for its kernel, on a CPU slowly
    where there are many. The tangent of the output is linear in that of the kernel, and here is put
    together from chunks of `CHUNK` images; its transpose is the sum. A chunk takes every n-th
    image, so that a batch which devices share stays where it is. Where the compiler spreads it over
    several, though, XLA's own gradient is taken: each chunk's would be added up by itself.

    Args:
        x: [N, …]; where N is no multiple of `CHUNK`, XLA's own gradient is taken.
        kernel: as `lax.conv_general_dilated` takes it, like the other arguments.
    """
    rows = x.shape[0] if platform() == "cpu" and not is_spread() else 0
    chunks = rows // CHUNK
    if chunks < 2 or rows % CHUNK:
        return lax.conv_general_dilated(x, kernel, *args, **options)

    @jax.custom_jvp
    def convolution(x, kernel):
        return lax.conv_general_dilated(x, kernel, *args, **options)

    def differentiate(primals, tangents):
        (x, kernel), (dx, dkernel) = primals, tangents
        y = convolution(x, kernel)
        dy = jnp.zeros_like(y)
        if not isinstance(dx, SymbolicZero):
            dy += convolution(dx, kernel)
        if not isinstance(dkernel, SymbolicZero):
            parts = [convolution(x[i::chunks], dkernel) for i in range(chunks)]
            dy += jnp.stack(parts, axis=1).reshape(y.shape)
        return y, dy

    convolution.defjvp(differentiate, symbolic_zeros=True)
    return convolution(x, kernel)
