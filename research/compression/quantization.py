"""Networks whose weights, and perhaps whose activations, are of few bits.

    small = quantize(params, "int8")  # arrays of eight bits, each beside its scales
    params = dequantize(small)  # float32 again, on the steps of eight bits

A `Quantized` model computes as if it had nothing else, and trains through that.

The numbers are qwix's (`qwix.quantize`, `qwix.QArray`), the interception is not. Its providers put
other functions in the place of `jax.lax`'s while a module is traced: they see no weight inside the
scan of a recurrent layer, and the gradient of their convolutions cannot be that of ours. Here the
parameters are exchanged before the model is called, which holds for every model alike, and products
are those of floats, in which sums of up to 1,040 products of eight bits by eight are exact.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import qwix
from flax import linen as nn

from research.compression.calibration import (
    RANGES,
    each_input,
    fresh_ranges,
    quantize_inputs,
    range_of,
)

FLOATS = {"float32": jnp.float32, "bfloat16": jnp.bfloat16, "float16": jnp.float16}
INTEGERS = {"int8": jnp.int8, "int4": jnp.int4}  # per output channel, from −max|w| to max|w|
SIGNS = ("binary", "xnor")


def quantize(params: Any, kind: str) -> Any:
    """Return `params` in few bits: kernels as `qwix.QArray`, of which a row is as the kind says.

    - float32, bfloat16, float16: all parameters so;
    - int8, int4: kernels in so many bits, a scale for each output channel;
    - binary: kernels as signs, times the deviation that Glorot gives them (BinaryConnect);
    - xnor: kernels as signs, times the mean magnitude of each output channel.

    Kernels are all arrays of two axes and more; an embedding's channels are its rows. What is not a
    kernel stays as it is, but in the floats; so does what is quantised already.

    References:
        M. Courbariaux et al., BinaryConnect, NeurIPS 2015, eq. 1 (and H of its code); M. Rastegari
        et al., XNOR-Net, ECCV 2016, §3.1 (Binary-Weight-Networks).
    """

    def one(path, w):
        if kind in FLOATS:
            return w.astype(FLOATS[kind])
        if is_quantized(w) or not is_kernel(w):
            return w
        axis = _channels(path, w)
        if kind in INTEGERS:
            return qwix.quantize(w, INTEGERS[kind], channelwise_axes=(axis,))
        others = tuple(i for i in range(w.ndim) if i != axis)
        scale = jnp.abs(w).mean(others, keepdims=True)
        if kind == "binary":
            scale = jnp.full((1,) * w.ndim, glorot(w.shape), w.dtype)
        return qwix.QArray(jnp.where(w >= 0, 1, -1).astype(jnp.int8), scale)

    return jax.tree_util.tree_map_with_path(one, params, is_leaf=is_quantized)


def dequantize(params: Any) -> Any:
    """Return what `quantize` made in float32; floats that need no more are left as they are."""

    def one(w):
        if is_quantized(w):
            return qwix.dequantize(w)
        return w.astype(jnp.promote_types(w.dtype, jnp.float32))

    return jax.tree.map(one, params, is_leaf=is_quantized)


def is_quantized(w: Any) -> bool:
    """Whether a leaf of parameters is a `QArray`."""
    return isinstance(w, qwix.QArray)


def is_kernel(w: Any) -> bool:
    """Whether a parameter is one of those that are quantised."""
    return w.ndim > 1


def glorot(shape: tuple[int, ...]) -> float:
    """Return √(1.5 / (fan in + fan out)) of a kernel [*window, in, out]."""
    *window, rows, columns = shape
    return math.sqrt(1.5 / (math.prod(window) * (rows + columns)))


def _channels(path: Any, w: Any) -> int:
    return 0 if path[-1].key == "embedding" else w.ndim - 1


@jax.custom_jvp
def straight_through(w: jax.Array, seen: jax.Array) -> jax.Array:
    """Return `seen`, with the gradient of `w` (Bengio et al. 2013)."""
    return seen


straight_through.defjvp(lambda primals, tangents: (primals[1], tangents[0]))


@dataclasses.dataclass(frozen=True)
class Quantized:
    """A model whose parameters, and perhaps whose layers' inputs, are quantised when it is called.

    It is called as the model is, and its parameters are the same, floats that training moves: what
    is computed with them is `dequantize(quantize(params))`, exactly. Parameters that `quantize` has
    been given already are dequantised only. Beside them lie the ranges of the inputs.

    Attributes:
        model: a Flax module.
        kind: as `quantize` takes it.
        inputs: whether the inputs of layers are quantised to eight bits, over their ranges.
    """

    model: nn.Module
    kind: str
    inputs: bool

    def init(self, *args, **kwargs) -> dict[str, Any]:
        """Return fresh variables: the model's and, of 0, the ranges."""
        paths = []

        def look(path, x):
            paths.append(path)
            return x

        with each_input(look):
            variables = self.model.init(*args, **kwargs)
        return variables | ({RANGES: fresh_ranges(paths)} if self.inputs else {})

    def apply(self, variables: dict[str, Any], *args, **kwargs) -> Any:
        """Return what the model does of quantised parameters and inputs."""
        params, ranges = variables["params"], variables.get(RANGES, {})
        if any(map(is_quantized, jax.tree.leaves(params, is_leaf=is_quantized))):
            seen = dequantize(params)
        else:
            seen = dequantize(quantize(jax.lax.stop_gradient(params), self.kind))
            seen = jax.tree.map(lambda w, s: straight_through(w, s.astype(w.dtype)), params, seen)

        def change(path, x):
            limit = range_of(ranges, path) if self.inputs else None
            return x if limit is None else quantize_inputs(x, limit)

        with each_input(change):
            return self.model.apply(variables | {"params": seen}, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        """Return any other attribute of the model."""
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.model, name)


def within_bounds() -> optax.GradientTransformation:
    """Keep kernels within the magnitude that their signs stand for (BinaryConnect, §2.4)."""

    def clip(update, w):
        limit = glorot(w.shape) if is_kernel(w) else jnp.inf
        return jnp.clip(w + update, -limit, limit) - w

    return optax.stateless(lambda updates, params: jax.tree.map(clip, updates, params))


def signal_to_noise(params: Any, kind: str) -> dict[str, float]:
    """Return by kernel 10 log₁₀ Σw² / Σ(w − ŵ)², in dB, of those that lose anything."""
    found = {}
    exact = jax.tree_util.tree_leaves_with_path(params)
    for (path, w), seen in zip(
        exact, jax.tree.leaves(dequantize(quantize(params, kind))), strict=True
    ):
        w, seen = np.asarray(w, np.float64), np.asarray(seen, np.float64)
        noise = np.sum((w - seen) ** 2)
        if is_kernel(w) and noise > 0:
            found["/".join(p.key for p in path)] = float(10 * np.log10(np.sum(w**2) / noise))
    return found
