"""Recurrent cells: what happens at one step of time, as their papers write it.

A cell's equations see x, the projection W x_t + b of the input at that step, which was computed for
all steps at once, and ask for U h + b of the state by `product("h", h)`. Biases are two, as in
torch and cuDNN. Gates lie side by side in the columns of both projections, in torch's order.

A cell of one's own is a class with these members, given an entry in `CELLS`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from research.models.layers import ACTIVATIONS, KERNEL_INITS

State = tuple[Array, ...]  # (h,), or (h, c)
Product = Callable[[str, Array], Array]
Initializer = nn.initializers.Initializer

# How a gate's kernel starts; `Cell` has each cell's own.
INITS: dict[str, Initializer] = KERNEL_INITS | {
    "identity": lambda key, shape, dtype=jnp.float32: jnp.eye(*shape, dtype=dtype),
    "small": nn.initializers.normal(0.001),  # Le et al. 2015, §3
    # The real and the imaginary part of B, a variance of 1/2D each (Orvieto et al. 2023, app. A).
    "lru": nn.initializers.variance_scaling(0.5, "fan_in", "normal"),
}


def gate_by_gate(init: Initializer, gates: int) -> Initializer:
    """Start [D, gates·H] as so many [D, H] side by side, each with a draw of its own."""

    def start(key, shape, dtype=jnp.float32):
        rows, columns = shape
        keys = jax.random.split(key, gates)
        wide = jnp.promote_types(dtype, jnp.float32)  # an orthogonal one cannot be drawn in less
        parts = [init(k, (rows, columns // gates), wide) for k in keys]
        return jnp.concatenate(parts, axis=1).astype(dtype)

    return start


def split(x: Array, count: int) -> list[Array]:
    """The [..., H] gates of [..., count·H]."""
    return jnp.split(x, count, axis=-1)


def layer_norm(x: Array, scale: Array, bias: Array | None, epsilon: float = 1e-5) -> Array:
    """Normalise over the last axis (Ba et al. 2016, eq. 3), in at least float32."""
    y = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    y = y - y.mean(-1, keepdims=True)
    y = y * jax.lax.rsqrt((y * y).mean(-1, keepdims=True) + epsilon)
    y = y * scale
    return (y if bias is None else y + bias).astype(x.dtype)


@dataclasses.dataclass(frozen=True)
class Cell:
    """What the cells here share.

    Attributes:
        gates: the width of both projections, in units of the hidden size H.
        states: how many arrays carry the state: h, or h and c.
        summed: whether `step` sees x and the product with h in their sum only.
        input_init: how W starts, gate by gate: one of `INITS`.
        recurrent_init: how U starts.
    """

    gates: ClassVar[int] = 1
    states: ClassVar[int] = 1
    summed: ClassVar[bool] = True

    input_init: str = "glorot"
    recurrent_init: str = "orthogonal"

    def vectors(self) -> dict[str, Initializer]:
        """Parameters of shape [H] that `step` reads besides: name → how it starts."""
        return {}

    def bias_init(self, key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
        """How the bias [gates·H] of the input's projection starts: at 0."""
        return jnp.zeros(shape, dtype)

    def products(self) -> dict[str, tuple[int, int]]:
        """What `step` multiplies with U, and with which gates' columns: from one up to another."""
        return {"h": (0, self.gates)}

    def start(self, shape: tuple[int, int], dtype: Any) -> State:
        """The state before the first step, all 0: h in `dtype`, c in at least float32."""
        c = (jnp.zeros(shape, jnp.promote_types(dtype, jnp.float32)),)
        return jnp.zeros(shape, dtype), *c * (self.states - 1)

    def step(
        self, product: Product, p: dict[str, Array], x: Array, state: State
    ) -> tuple[State, dict[str, Array]]:
        """Go one step.

        Args:
            product: `product(name, a)` is a U + b, of the columns that `products` gives `name`.
            p: the vectors.
            x: [B, gates·H], the input's projection.
            state: [B, H] each.

        Returns:
            The next state, and the gates [B, H] by name, for diagnostics.
        """
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class RNN(Cell):
    """h' = f(W x + U h + b) (Elman 1990)."""

    activation: str = "tanh"

    def step(self, product, p, x, state):
        (h,) = state
        return (ACTIVATIONS[self.activation](x + product("h", h)),), {}


@dataclasses.dataclass(frozen=True)
class LSTM(Cell):
    """Long short-term memory with a forget gate (Hochreiter & Schmidhuber 1997; Gers et al. 2000).

    i, f, o = σ(W x + U h + b), g = tanh(W x + U h + b); c' = f c + i g; h' = o tanh(c').

    Attributes:
        forget_bias: where the forget gate's bias starts: at 1 it remembers (Jozefowicz et al.
            2015, §3.3).
        peepholes: whether the gates see the cell through one weight a unit: i and f the old c, o
            the new (Gers & Schmidhuber 2000).
        layer_norm: whether h' = o tanh(LN(c')) (Ba et al. 2016, eq. 22).
    """

    gates: ClassVar[int] = 4
    states: ClassVar[int] = 2

    forget_bias: float = 1.0
    peepholes: bool = False
    layer_norm: bool = False

    def vectors(self):
        zeros, ones = nn.initializers.zeros, nn.initializers.ones
        seen = dict.fromkeys(("peephole_i", "peephole_f", "peephole_o"), zeros)
        return (seen if self.peepholes else {}) | (
            {"cell_scale": ones, "cell_bias": zeros} if self.layer_norm else {}
        )

    def bias_init(self, key, shape, dtype=jnp.float32):
        hidden = shape[0] // 4
        return jnp.zeros(shape, dtype).at[hidden : 2 * hidden].set(self.forget_bias)

    def step(self, product, p, x, state):
        h, c = state
        y = x + product("h", h)
        if self.peepholes:
            none = jnp.zeros_like(c)  # g sees no cell, o the new one
            old = p["peephole_i"] * c, p["peephole_f"] * c, none, none
            y = y + jnp.concatenate(old, axis=-1)
        # One σ of all four, though one goes unused: each by itself, XLA:CPU computes it anew
        # wherever it is read, four times as long in all.
        i, f, _, o = split(nn.sigmoid(y), 4)
        _, _, g, before = split(y, 4)
        c = f * c + i * jnp.tanh(g)
        if self.peepholes:
            o = nn.sigmoid(before + p["peephole_o"] * c)
        seen = layer_norm(c, p["cell_scale"], p["cell_bias"]) if self.layer_norm else c
        h = (o * jnp.tanh(seen)).astype(h.dtype)
        return (h, c), {"input_gate": i, "forget_gate": f, "output_gate": o, "cell": c}


@dataclasses.dataclass(frozen=True)
class GRU(Cell):
    """Gated recurrent unit (Cho et al. 2014, §2.3).

    r, z = σ(W x + U h + b); h' = z h + (1 − z) n, where the candidate is

    - reset_after: n = tanh(W x + r (U h + b)), cuDNN's and torch's form: one product a step;
    - before: n = tanh(W x + U (r h) + b), the paper's.
    """

    gates: ClassVar[int] = 3
    summed: ClassVar[bool] = False

    reset_after: bool = True

    def products(self):
        return {"h": (0, 3)} if self.reset_after else {"h": (0, 2), "r h": (2, 3)}

    def step(self, product, p, x, state):
        (h,) = state
        x_r, x_z, x_n = split(x, 3)
        if self.reset_after:
            h_r, h_z, h_n = split(product("h", h), 3)
            r, z = nn.sigmoid(x_r + h_r), nn.sigmoid(x_z + h_z)
            n = jnp.tanh(x_n + r * h_n)
        else:
            h_r, h_z = split(product("h", h), 2)
            r, z = nn.sigmoid(x_r + h_r), nn.sigmoid(x_z + h_z)
            n = jnp.tanh(x_n + product("r h", r * h))
        return ((1 - z) * n + z * h,), {"reset_gate": r, "update_gate": z}


CELLS: dict[str, Cell] = {
    "rnn": RNN(),
    "rnn_relu": RNN(activation="relu"),
    "rnn_sigmoid": RNN(activation="sigmoid"),
    # U starts as the identity, W small (Le et al. 2015, §3).
    "irnn": RNN(activation="relu", input_init="small", recurrent_init="identity"),
    "lstm": LSTM(),
    "gru": GRU(),
}
