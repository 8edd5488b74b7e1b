"""The ConvLSTM: an LSTM over feature maps, for video."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array, lax

from research.config import UserError
from research.models.layers import KERNEL_INITS
from research.models.network import check
from research.models.rnn.cells import split
from research.models.rnn.padded import check_sequences, within


class ConvLSTM(nn.Module):
    """Layers of an LSTM whose products are convolutions (Shi et al. 2015, eq. 3).

    i, f, o = σ(W * x + U * h + b), g = tanh(W * x + U * h + b); c' = f c + i g; h' = o tanh(c').

        outputs, endpoints = ConvLSTM(16).apply(variables, frames, lengths)

    Called as `Recurrent`, with frames in place of vectors: padding changes nothing, and outputs
    beyond a sequence's length are 0.

    Attributes:
        features: F, the filters of each gate.
        kernel_size: the side of both kernels in pixels, odd: maps keep their size, zeros around.
        num_layers: each above the first reads the outputs of the one below.
        peepholes: whether the gates see the cell, through one weight for each of its numbers: i and
            f the old one, o the new. The number of pixels is fixed then.
        forget_bias: where the forget gate's bias starts.
        kernel_init: one of `KERNEL_INITS`, of each kernel.
        dtype: of the arithmetic; c is in at least float32.
        param_dtype: of the parameters.

    Raises:
        UserError: on construction, for a switch that cannot be; on calling, for inputs that are not
            [B, T, height, width, channels], or lengths that cannot be.
    """

    features: int
    kernel_size: int = 3
    num_layers: int = 1
    peepholes: bool = False
    forget_bias: float = 1.0
    kernel_init: str = "glorot"
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    def __post_init__(self):
        check(self)
        if self.kernel_size % 2 == 0:
            raise UserError(
                f"model.kernel_size: found {self.kernel_size}, expected an odd number: an even "
                "kernel has no middle, and moves a map by half a pixel at each step"
            )
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        inputs: Array,
        lengths: Array | None = None,
        initial_state: tuple[Array, Array] | None = None,
        *,
        train: bool = False,
    ) -> tuple[Array, dict[str, Any]]:
        """Run over sequences of frames.

        Args:
            inputs: [B, T, height, width, channels].
            lengths: int[B], from 1 to T; None: all are T.
            initial_state: a pair (h, c), [layers, B, height, width, F] each; None: zeros.
            train: nothing here depends on it.

        Returns:
            The last layer's outputs, [B, T, height, width, F], and the endpoints: `layer1`, …, each
            layer's outputs, and `final_state`, as `initial_state`, each at its sequence's own end.
        """
        batch, steps = check_sequences(inputs, lengths, "[B, T, height, width, channels]")
        shape = (self.num_layers, batch, *inputs.shape[2:4], self.features)
        wide = jnp.promote_types(self.dtype, jnp.float32)
        if initial_state is None:
            initial_state = jnp.zeros(shape, self.dtype), jnp.zeros(shape, wide)
        elif [jnp.shape(part) for part in initial_state] != [shape, shape]:
            raise UserError(
                f"initial_state: found shapes {[jnp.shape(part) for part in initial_state]}, "
                f"expected a pair (h, c) of arrays {list(shape)}"
            )
        h, c = (part.astype(d) for part, d in zip(initial_state, (self.dtype, wide), strict=True))
        mask = None if lengths is None else jnp.arange(steps) < lengths[:, None]
        x, endpoints, finals = within(mask, inputs.astype(self.dtype)), {}, []
        for i in range(self.num_layers):
            final, x = self._layer(f"layer{i + 1}", x, mask, (h[i], c[i]))
            x = endpoints[f"layer{i + 1}"] = within(mask, x)
            finals.append(final)
        endpoints["final_state"] = tuple(jnp.stack(part) for part in zip(*finals, strict=True))
        return x, endpoints

    @nn.nowrap
    def _layer(self, name: str, x: Array, mask: Array | None, state: tuple[Array, Array]):
        """[B, T, height, width, C] → the last state, and h at all steps."""
        init, side, width = KERNEL_INITS[self.kernel_init], self.kernel_size, 4 * self.features

        def learned(what, init, *shape):
            return self.param(f"{name}_{what}", init, shape, self.param_dtype).astype(self.dtype)

        def bias_init(key, shape, dtype):
            forget = slice(self.features, 2 * self.features)
            return jnp.zeros(shape, dtype).at[forget].set(self.forget_bias)

        w = learned("input_kernel", init, side, side, x.shape[-1], width)
        u = learned("recurrent_kernel", init, side, side, self.features, width)
        b = learned("bias", bias_init, width)
        peephole = dict.fromkeys("ifo", 0)
        if self.peepholes:
            peephole = {
                gate: learned(f"peephole_{gate}", nn.initializers.zeros, *state[1].shape[1:])
                for gate in "ifo"
            }

        def convolve(x, kernel):
            return lax.conv_general_dilated(
                x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )

        def step(state, now):
            x, mask = now
            h, c = state
            i, f, g, o = split(x + convolve(h, u), 4)
            i = nn.sigmoid(i + peephole["i"] * c)
            f = nn.sigmoid(f + peephole["f"] * c)
            new_c = f * c + i * jnp.tanh(g)
            o = nn.sigmoid(o + peephole["o"] * new_c)
            new = (o * jnp.tanh(new_c)).astype(h.dtype), new_c
            if mask is not None:
                mask = mask[:, None, None, None]
                new = tuple(jnp.where(mask, n, s) for n, s in zip(new, state, strict=True))
            return new, new[0]

        batch, steps = x.shape[:2]
        # All frames at once: what of a gate does not see the state needs no order.
        frames = convolve(x.reshape(-1, *x.shape[2:]), w) + b
        frames = frames.reshape(batch, steps, *frames.shape[1:])
        times = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), (frames, mask))
        state, h = lax.scan(step, state, times)
        return state, jnp.swapaxes(h, 0, 1)
