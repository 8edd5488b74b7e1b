"""Cells whose state is a linear recurrence, computed for all steps at once.

h_t = a_t h_{t−1} + b_t is associative in the pairs (a, b), so that `jax.lax.associative_scan` takes
O(log T) steps one after the other where a scan takes T (Martin & Cundy 2018). The recurrence is
computed in at least float32.
"""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array, lax

from research.models.rnn.cells import INITS, State, gate_by_gate, split
from research.models.rnn.scan import Inputs


def linear_recurrence(
    a: Array, b: Array, start: Array, mask: Array | None = None, *, reverse: bool = False
) -> tuple[Array, Array]:
    """Return h at all steps, h_t = a_t h_{t−1} + b_t, and the last.

    Args:
        a: [B, T, H].
        b: [B, T, H].
        start: h before the first step, [B, H].
        mask: bool[B, T]; where False the state stays as it is. None: all steps count.
        reverse: whether time runs from the last step to the first.
    """
    if mask is not None:
        a, b = jnp.where(mask[..., None], a, 1), jnp.where(mask[..., None], b, 0)
    first, last = (-1, 0) if reverse else (0, -1)
    b = b.at[:, first].add(a[:, first] * start)

    def then(one, other):
        (a1, b1), (a2, b2) = one, other
        return a1 * a2, a2 * b1 + b2

    _, h = lax.associative_scan(then, (a, b), reverse=reverse, axis=1)
    return h, h[:, last]


class ParallelCell(nn.Module):
    """What the cells here share: called with a sequence and a state before it.

    Attributes:
        hidden_size: H.
        use_bias: whether projections have a bias.
        input_init: how the projection's kernel starts, gate by gate: one of `INITS`; None: as in
            the cell's paper.
        reverse: whether time runs from the last step to the first.
        dtype: of the projections and outputs.
        param_dtype: of the parameters.
    """

    states: ClassVar[int] = 1

    hidden_size: int
    use_bias: bool = True
    input_init: str | None = None
    reverse: bool = False
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @staticmethod
    def start(shape: tuple[int, int], dtype: Any) -> State:
        """The state before the first step, all 0, in at least float32."""
        return (jnp.zeros(shape, jnp.promote_types(dtype, jnp.float32)),)

    @nn.nowrap
    def project(self, x: Array, gates: int, own: str = "glorot", bias: bool = True) -> list[Array]:
        """`gates` projections of the input, [B, T, H] each."""
        y = nn.Dense(
            gates * self.hidden_size,
            use_bias=self.use_bias and bias,
            kernel_init=gate_by_gate(INITS[self.input_init or own], gates),
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name="input",
        )(x)
        return split(y.astype(jnp.promote_types(self.dtype, jnp.float32)), gates)

    @nn.nowrap
    def recur(self, a: Array, b: Array, inputs: Inputs, state: State) -> tuple[Array, State]:
        """h at all steps, and the last; see `linear_recurrence`."""
        b = b if inputs.nudge is None else b + inputs.nudge
        h, last = linear_recurrence(a, b, state[0], inputs.mask, reverse=self.reverse)
        return h, (last,)


class MinGRU(ParallelCell):
    """A GRU whose gate and candidate do not see the state (Feng et al. 2024, §3.1).

    z = σ(W x + b), h̃ = W x + b; h' = (1 − z) h + z h̃.
    """

    @nn.compact
    def __call__(self, inputs: Inputs, state: State):
        z, candidate = self.project(inputs.x, 2)
        z = nn.sigmoid(z)
        h, state = self.recur(1 - z, z * candidate, inputs, state)
        return state, (h.astype(self.dtype), {"update_gate": z})


class MinLSTM(ParallelCell):
    """An LSTM whose gates do not see the state, normed to sum to 1 (Feng et al. 2024, §3.2).

    i, f = σ(W x + b), h̃ = W x + b; h' = (f h + i h̃) / (f + i).
    """

    @nn.compact
    def __call__(self, inputs: Inputs, state: State):
        i, f, candidate = self.project(inputs.x, 3)
        # f/(f + i) by the difference of logarithms: where both gates are shut, 0/0 otherwise.
        forget = nn.sigmoid(nn.log_sigmoid(f) - nn.log_sigmoid(i))
        h, state = self.recur(forget, (1 - forget) * candidate, inputs, state)
        return state, (h.astype(self.dtype), {"forget_gate": forget})


class LRU(ParallelCell):
    """The linear recurrent unit (Orvieto et al. 2023, "Resurrecting RNNs", §3).

    x' = λ x + γ (B u), y = Re(C x') + D u, with a complex state x, |λ| = exp(−exp ν) < 1, arg λ =
    exp θ, and γ = √(1 − |λ|²) at the start. All of it is linear, and so would be layers of it: as
    in the paper's blocks what comes out is a gated linear unit's, W₁ g ⊙ σ(W₂ g) with g = GELU(y).

    Attributes:
        r_min: the smallest |λ| at the start.
        r_max: the largest; near 1 it remembers long.
        max_phase: the largest arg λ.
    """

    r_min: float = 0.9
    r_max: float = 0.999
    max_phase: float = 6.28

    @staticmethod
    def start(shape, dtype):
        return (jnp.zeros(shape, jnp.promote_types(dtype, jnp.complex64)),)

    @nn.compact
    def __call__(self, inputs: Inputs, state: State):
        size = (self.hidden_size,)

        def nu_init(key, shape, dtype):
            square = jax.random.uniform(key, shape, dtype, self.r_min**2, self.r_max**2)
            return jnp.log(-0.5 * jnp.log(square))

        def theta_init(key, shape, dtype):
            return jnp.log(jax.random.uniform(key, shape, dtype, 1e-4, self.max_phase))

        nu = self.param("nu", nu_init, size, self.param_dtype)
        theta = self.param("theta", theta_init, size, self.param_dtype)
        gamma = self.param(
            "gamma", lambda key, *_: 0.5 * jnp.log(-jnp.expm1(-2 * jnp.exp(nu))), size
        )
        real = jnp.promote_types(self.dtype, jnp.float32)
        nu, theta, gamma = (v.astype(real) for v in (nu, theta, gamma))
        a = jnp.exp(jax.lax.complex(-jnp.exp(nu), jnp.exp(theta)))
        b = jnp.exp(gamma) * lax.complex(*self.project(inputs.x, 2, "lru", bias=False))
        h, state = self.recur(jnp.broadcast_to(a, b.shape), b, inputs, state)
        parts = jnp.concatenate((h.real, -h.imag), -1).astype(self.dtype)
        dense = {"dtype": self.dtype, "param_dtype": self.param_dtype, "use_bias": False}
        # Of [Re C, Im C]: a variance of 1/H for each of the two.
        c_init = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
        y = nn.Dense(self.hidden_size, kernel_init=c_init, name="output", **dense)(parts)
        y = y + nn.Dense(self.hidden_size, name="skip", **dense)(inputs.x)
        gated = nn.Dense(2 * self.hidden_size, name="glu", **dense)(nn.gelu(y))
        return state, (nn.glu(gated), {})


PARALLEL: dict[str, type[ParallelCell]] = {"min_gru": MinGRU, "min_lstm": MinLSTM, "lru": LRU}
