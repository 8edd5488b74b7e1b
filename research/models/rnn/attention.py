"""Attention: what a decoder reads, at each of its steps, of the states of an encoder.

Scores e_ts of the decoder's state h_t (the query) and the encoder's state h̄_s become weights
α_t = softmax over s of e_ts, and the context is c_t = Σ_s α_ts h̄_s. Where papers differ is the
score; whether h_t is the state before the step (Bahdanau) or after it (Luong), the caller decides.

    attention = Attention("bahdanau", 128)
    keys = attention.keys(memory)  # once for each source sequence
    contexts, weights = attention(queries, keys, memory, mask)
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from research.config import UserError, unknown

ATTENTIONS = ("bahdanau", "luong_dot", "luong_general", "luong_concat")


class Attention(nn.Module):
    """Attention with one of the scores

    - bahdanau: vᵀ tanh(W h_t + U h̄_s) (Bahdanau et al. 2015, appendix A.1.2);
    - luong_dot: h_tᵀ h̄_s (Luong et al. 2015, eq. 8);
    - luong_general: h_tᵀ W h̄_s;
    - luong_concat: vᵀ tanh(W [h_t; h̄_s]), which is Bahdanau's, W being two matrices side by side.

    Attributes:
        kind: one of `ATTENTIONS`.
        size: A, the length of v. A `luong_dot` has none, and a `luong_general` takes that of h_t.
        dtype: of the arithmetic; the softmax is in at least float32.
        param_dtype: of the parameters, v [A, 1] and the rest [·, A], without biases, as in the
            papers.

    Raises:
        UserError: on construction, for an unknown kind; on calling, for queries that do not fit.
    """

    kind: str
    size: int
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    def __post_init__(self):
        if self.kind not in ATTENTIONS:
            raise unknown("model.attention", self.kind, ATTENTIONS)
        super().__post_init__()

    def setup(self):
        def matrix(size: int) -> nn.Dense:
            return nn.Dense(size, use_bias=False, dtype=self.dtype, param_dtype=self.param_dtype)

        if self.kind != "luong_dot":
            self.of_memory = matrix(self.size)
        if self.kind in ("bahdanau", "luong_concat"):
            self.of_query = matrix(self.size)
            self.v = matrix(1)

    def keys(self, memory: Array) -> Array:
        """What the score needs of the encoder's states: [B, S, M] → [B, S, A]."""
        return memory if self.kind == "luong_dot" else self.of_memory(memory)

    def __call__(
        self, queries: Array, keys: Array, memory: Array, mask: Array | None = None
    ) -> tuple[Array, Array]:
        """Attend.

        Args:
            queries: [B, T, H], states of the decoder. All at once, T·S·A numbers of each sequence
                are in memory where the score has a v.
            keys: `keys(memory)`.
            memory: [B, S, M], the states of the encoder.
            mask: bool[B, S], False for padding; None: there is none.

        Returns:
            Contexts [B, T, M] and weights [B, T, S]: at least float32, exactly 0 for padding, and
            all 0 for a source that is nothing else.
        """
        if self.kind in ("bahdanau", "luong_concat"):
            sums = self.of_query(queries)[:, :, None] + keys[:, None]
            scores = self.v(jnp.tanh(sums))[..., 0]
        elif queries.shape[-1] != keys.shape[-1]:
            raise UserError(
                f"model.attention: found {self.kind!r}, whose product wants a decoder's state "
                f"({queries.shape[-1]} units) as wide as what it is multiplied with "
                f"({keys.shape[-1]}); expected that, or 'luong_general', 'luong_concat', 'bahdanau'"
            )
        else:
            scores = jnp.einsum("btd,bsd->bts", queries.astype(self.dtype), keys)
        scores = scores.astype(jnp.promote_types(self.dtype, jnp.float32))
        if mask is None:
            weights = jax.nn.softmax(scores)
        else:
            mask = mask[:, None]
            weights = jax.nn.softmax(jnp.where(mask, scores, jnp.finfo(scores.dtype).min)) * mask
        contexts = jnp.einsum("bts,bsm->btm", weights.astype(self.dtype), memory)
        return contexts.astype(self.dtype), weights
