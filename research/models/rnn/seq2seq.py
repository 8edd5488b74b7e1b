"""Sequence to sequence: an encoder reads the source, a decoder writes the target.

model = Seq2Seq(source_vocabulary=8000, target_vocabulary=6000)
variables = model.init(key, source, source_lengths, target_in=target_in)
logits, endpoints = model.apply(variables, source, source_lengths, target_in=target_in)

state = model.apply(variables, source, source_lengths, method="encode")
step = lambda state, tokens: model.apply(variables, state, tokens, method="step")
translations = research.decoding.beam_search(step, state, beams=5, length=50, bos=1, eos=2)
"""

from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from research.config import UserError, unknown
from research.models.network import check
from research.models.rnn.attention import ATTENTIONS, Attention
from research.models.rnn.padded import check_tokens
from research.models.rnn.recurrent import ALL_CELLS, Recurrent

CELLS = tuple(cell for cell in ALL_CELLS if cell != "lru")  # whose state is complex
KINDS = ("none", *ATTENTIONS)

State = dict[str, Any]  # {"source": what the decoder reads, "decoder": what it carries on}

# A function of a module and one step, over all steps: the axis 1. Each drops out anew.
over_time = partial(
    nn.scan,
    variable_broadcast="params",
    split_rngs={"params": False, "dropout": True},
    in_axes=1,
    out_axes=1,
)


class Seq2Seq(nn.Module):
    """An encoder and a decoder of recurrent layers, with attention or without.

    - none (Sutskever et al. 2014; Cho et al. 2014): the decoder starts from the encoder's last
      state and sees nothing else of the source; t = tanh(W h_t).
    - bahdanau (Bahdanau et al. 2015): attention by the state before the step; its context is part
      of the step's input, and t = maxout of W [h_t; y_{t−1}; c_t] (appendix A.2.2).
    - luong_dot, luong_general, luong_concat (Luong et al. 2015): attention by the state after the
      step; t = tanh(W [h_t; c_t]) (eq. 5).

    The logits are a linear map of t. The decoder starts from the encoder's last state layer by
    layer; from a bidirectional one, from tanh(W [→h; ←h] + b).

    Attributes:
        source_vocabulary: tokens of the source.
        target_vocabulary: V, tokens of the target.
        cell: of both, one of `CELLS`.
        embedding_size: E, of source and target, and of t.
        hidden_size: H, of the decoder, and of the encoder in each direction.
        num_layers: of both.
        bidirectional: whether the encoder is.
        attention: one of `KINDS`; a `luong_dot` wants an encoder as wide as the decoder.
        input_feeding: whether t is part of the next step's input (Luong et al. 2015, §3.3).
        dropout: of the embeddings, between layers, and of t before the logits.
        tied: whether the logits' matrix is the target's embedding (Press & Wolf 2017).
        dtype: of the arithmetic; logits and attention's weights are in at least float32.
        param_dtype: of the parameters.

    Raises:
        UserError: on construction, for a switch that cannot be; on calling, for lengths that cannot
            be, for what are not tokens of the vocabularies (see `check_tokens`), or a `luong_dot`
            between states of other widths.
    """

    input_shape: ClassVar[tuple[int]] = (30,)  # a source as it is shown with: T tokens
    paper: ClassVar[str] = "Sutskever et al. 2014; Bahdanau et al. 2015"

    source_vocabulary: int = 10
    target_vocabulary: int = 10
    cell: str = "gru"
    embedding_size: int = 256
    hidden_size: int = 512
    num_layers: int = 1
    bidirectional: bool = True
    attention: str = "bahdanau"
    input_feeding: bool = False
    dropout: float = 0.0
    tied: bool = False
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    def __post_init__(self):
        check(self)
        if self.cell not in CELLS:
            raise unknown("model.cell", self.cell, CELLS)
        if self.attention not in KINDS:
            raise unknown("model.attention", self.attention, KINDS)
        if self.input_feeding and self.attention == "none":
            raise UserError(
                "model.input_feeding: found True with model.attention='none', which makes nothing "
                f"to feed; expected False, or attention: {', '.join(ATTENTIONS)}"
            )
        super().__post_init__()

    def setup(self):
        dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        layers = {"num_layers": self.num_layers, "dropout": self.dropout} | dtypes
        self.source_embedding = nn.Embed(self.source_vocabulary, self.embedding_size, **dtypes)
        self.target_embedding = nn.Embed(self.target_vocabulary, self.embedding_size, **dtypes)
        self.drop = nn.Dropout(self.dropout)
        self.encoder = Recurrent(
            self.cell, self.hidden_size, bidirectional=self.bidirectional, **layers
        )
        if self.bidirectional:  # a matrix for each layer, and for each of an LSTM's h and c
            self.bridge = nn.DenseGeneral(self.hidden_size, batch_dims=(0,), **dtypes)
        self.decoder = Recurrent(self.cell, self.hidden_size, **layers)
        if self.attention != "none":
            self.attend = Attention(self.attention, self.hidden_size, **dtypes)
        pairs = 2 if self.attention == "bahdanau" else 1  # of which maxout takes the larger
        self.readout = nn.Dense(pairs * self.embedding_size, use_bias=False, **dtypes)
        wide = jnp.promote_types(self.dtype, jnp.float32)
        if self.tied:
            self.head_bias = self.param(
                "head_bias", nn.initializers.zeros, (self.target_vocabulary,), self.param_dtype
            )
        else:
            self.head = nn.Dense(self.target_vocabulary, dtype=wide, param_dtype=self.param_dtype)

    def __call__(
        self,
        source: Array,
        source_lengths: Array | None = None,
        *,
        target_in: Array,
        train: bool = False,
        sampling: float | Array = 0.0,
    ) -> tuple[Array, dict[str, Array]]:
        """Predict each next token of the target from those before it.

        Args:
            source: int[B, S].
            source_lengths: int[B], from 1 to S; None: all are S.
            target_in: int[B, T], the target with its first token, `bos`, and without its last.
            train: whether to drop out, with the key `dropout`.
            sampling: scheduled sampling (Bengio et al. 2015): the chance, for each token after the
                first, that the decoder reads what it draws from its own last prediction instead,
                with the key `sampling`. No gradient flows through the draw. It may follow a
                schedule inside a `jit`; a number 0 is teacher forcing, which is faster.

        Returns:
            Logits [B, T, V], and the endpoints `inputs`, the tokens that the decoder read,
            int[B, T], and, with attention, `attention`, its weights [B, T, S].
        """
        check_tokens(target_in, self.target_vocabulary, "target_in", "[B, T]")
        state = self.encode(source, source_lengths, train=train)
        read, carry = state["source"], state["decoder"]
        inputs = target_in
        if not isinstance(sampling, int | float) or sampling:
            logits, weights, inputs = self._sampled(read, carry, target_in, sampling, train)
        else:
            embedded = self.drop(self.target_embedding(target_in), deterministic=not train)
            if self.attention == "bahdanau" or self.input_feeding:  # steps read what others made

                def advance(self, carry, x):
                    return self._advance(read, carry, x, train)

                _, outputs = over_time(advance)(self, carry, embedded[:, :, None])
                t, weights = jax.tree.map(lambda x: x[:, :, 0], outputs)
            else:
                _, (t, weights) = self._advance(read, carry, embedded, train)
            logits = self._logits(t, train)
        attended = {} if self.attention == "none" else {"attention": weights}
        return logits, {"inputs": inputs} | attended

    def encode(self, source: Array, lengths: Array | None = None, *, train: bool = False) -> State:
        """Return what `step` starts from: arrays [B, …] of the sources int[B, S]."""
        check_tokens(source, self.source_vocabulary, "source", "[B, S]")
        embedded = self.drop(self.source_embedding(source), deterministic=not train)
        memory, endpoints = self.encoder(embedded, lengths, train=train)
        read = {}
        if self.attention != "none":
            steps = jnp.arange(source.shape[1])
            mask = jnp.ones(source.shape, bool) if lengths is None else steps < lengths[:, None]
            read = {"memory": memory, "keys": self.attend.keys(memory), "mask": mask}
        start = endpoints["final_state"]  # [layers·directions, B, H], or two of them
        if self.bidirectional:
            parts, structure = jax.tree.flatten(start)
            forward_backward = jnp.concatenate(parts).reshape(-1, 2, *parts[0].shape[1:])
            joined = jnp.concatenate(jnp.unstack(forward_backward, axis=1), axis=-1)
            bridged = jnp.split(jnp.tanh(self.bridge(joined)), len(parts))
            bridged = [new.astype(old.dtype) for new, old in zip(bridged, parts, strict=True)]
            start = jax.tree.unflatten(structure, bridged)
        carry = {"recurrent": jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), start)}
        if self.input_feeding:
            carry["t"] = jnp.zeros((source.shape[0], 1, self.embedding_size), self.dtype)
        return {"source": read, "decoder": carry}

    def step(self, state: State, tokens: Array) -> tuple[Array, State]:
        """Read one more token int[B] of each target; return the next one's logits [B, V]."""
        check_tokens(tokens, self.target_vocabulary, "tokens", "[B]")
        embedded = self.target_embedding(tokens[:, None])
        carry, (t, _) = self._advance(state["source"], state["decoder"], embedded, train=False)
        return self._logits(t, train=False)[:, 0], {"source": state["source"], "decoder": carry}

    def _advance(self, read: State, carry: State, embedded: Array, train: bool):
        """Take the steps whose inputs [B, T, E] are known: one, where a step reads the last one's.

        Returns:
            What is carried on; and t [B, T, E] and attention's weights, [B, T, S] or None.
        """
        inputs, context, weights = [embedded], [], None
        if self.input_feeding:
            inputs.append(carry["t"])
        if self.attention == "bahdanau":
            h = jax.tree.leaves(carry["recurrent"])[0][:, -1:]  # of the last layer
            c, weights = self.attend(h, read["keys"], read["memory"], read["mask"])
            inputs.append(c)
            context = [embedded, c]
        state = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), carry["recurrent"])
        h, endpoints = self.decoder(jnp.concatenate(inputs, -1), None, state, train=train)
        if self.attention not in ("none", "bahdanau"):
            c, weights = self.attend(h, read["keys"], read["memory"], read["mask"])
            context = [c]
        t = self.readout(jnp.concatenate([h, *context], -1))
        if self.attention == "bahdanau":
            t = jnp.maximum(*jnp.split(t, 2, axis=-1))
        else:
            t = jnp.tanh(t)
        final = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), endpoints["final_state"])
        return {"recurrent": final} | ({"t": t} if self.input_feeding else {}), (t, weights)

    def _logits(self, t: Array, train: bool) -> Array:
        t = self.drop(t, deterministic=not train)
        t = t.astype(jnp.promote_types(self.dtype, jnp.float32))
        if not self.tied:
            return self.head(t)
        embedding = self.target_embedding.embedding
        return t @ embedding.T.astype(t.dtype) + self.head_bias.astype(t.dtype)

    def _sampled(self, read: State, carry: State, target: Array, sampling, train: bool):
        """Logits, weights and inputs where a step may read what was drawn after the last one."""
        coin, draw = jax.random.split(self.make_rng("sampling"))
        coins = jax.random.bernoulli(coin, sampling, target.shape)
        draws = jax.random.split(draw, (1, target.shape[1]))  # time is axis 1

        def advance(self, carry, now):
            (carry, drawn), (token, replaced, key) = carry, now
            token = jnp.where(replaced, drawn, token)
            embedded = self.drop(self.target_embedding(token[:, None]), deterministic=not train)
            carry, (t, weights) = self._advance(read, carry, embedded, train)
            logits = self._logits(t, train)[:, 0]
            drawn = jax.random.categorical(key[0], logits).astype(token.dtype)
            return (carry, drawn), (logits, None if weights is None else weights[:, 0], token)

        start = carry, target[:, 0]  # the first token is read either way
        _, outputs = over_time(advance)(self, start, (target, coins, draws))
        return outputs
