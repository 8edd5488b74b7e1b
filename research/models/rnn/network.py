"""Recurrent networks with a first and a last layer: from tokens or features to answers."""

from typing import Any, ClassVar

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from research.config import UserError, unknown
from research.models.rnn.padded import check_tokens
from research.models.rnn.recurrent import Recurrent

READOUTS = ("last", "mean", "max", "steps")


class RecurrentNetwork(Recurrent):
    """`Recurrent` between an embedding of tokens, where there are some, and an output layer.

        tagger = RecurrentNetwork(num_classes=12, vocabulary_size=5000, readout="steps")
        variables = tagger.init(key, tokens, lengths)
        outputs, endpoints = tagger.apply(variables, tokens, lengths)  # [B, T, 12]

    Attributes:
        num_classes: the width of the output.
        vocabulary_size: of tokens; None: the inputs are features.
        embedding_size: of a token's vector; None: the hidden size.
        tied: whether the output layer is the embedding's transpose (Press & Wolf 2017), whose size
            is then that of what it reads.
        readout: what the output layer reads: the output at the sequence's own end, beside it that
            at its start of a layer that runs backward (`last`); the `mean` or `max` over its steps;
            or each step by itself (`steps`).
        input_dropout: the share of what enters the first layer that training drops.
        output_dropout: the same of what the output layer reads. Both are `variational` where
            `dropout` is: the same share at all steps (Gal & Ghahramani 2016).

    Raises:
        UserError: on construction, for a switch that cannot be; on calling, for inputs that are not
            tokens of the vocabulary (see `check_tokens`), or not features.
    """

    input_shape: ClassVar[tuple[int, int]] = (128, 64)  # features as it is shown with: T, D
    paper: ClassVar[str] = "Hochreiter & Schmidhuber 1997; Cho et al. 2014"

    cell: str = "lstm"
    hidden_size: int = 64
    num_classes: int = 10
    vocabulary_size: int | None = None
    embedding_size: int | None = None
    tied: bool = False
    readout: str = "last"
    input_dropout: float = 0.0
    output_dropout: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        if self.readout not in READOUTS:
            raise unknown("model.readout", self.readout, READOUTS)
        if self.tied:
            self._check_tied()

    @nn.compact
    def __call__(
        self,
        inputs: Array,
        lengths: Array | None = None,
        initial_state: Any = None,
        *,
        side: Array | None = None,
        train: bool = False,
        record: bool = False,
    ) -> tuple[Array, dict[str, Any]]:
        """Answer.

        Args:
            inputs: int[B, T] or [B, T, D].
            lengths: as `Recurrent` takes them.
            initial_state: the same.
            side: [B, M], features of the sequence as a whole, which the output layer reads beside
                the sequence; None: there are none.
            train: whether to drop out, with the key `dropout`.
            record: see `Recurrent`.

        Returns:
            Outputs, [B, num_classes] or with the readout `steps` [B, T, num_classes], in at least
            float32, and the endpoints of `Recurrent` with `embedded`, `readout` and `logits`.
        """
        over = (1,) if self.variational else ()
        x, embed = inputs, None
        if self.vocabulary_size:
            check_tokens(inputs, self.vocabulary_size)
            embed = nn.Embed(
                self.vocabulary_size,
                self.embedding_size or self.hidden_size,
                # Small enough for logits of a tied one, in which it is the kernel.
                embedding_init=nn.initializers.normal(0.1),
                dtype=self.dtype,
                param_dtype=self.param_dtype,
                name="embedding",
            )
            x = embed(inputs)
        x = nn.Dropout(self.input_dropout, broadcast_dims=over, name="input_dropout")(
            x, deterministic=not train
        )
        hidden, endpoints = super().__call__(x, lengths, initial_state, train=train, record=record)
        read = self._read(hidden, lengths)
        read = nn.Dropout(
            self.output_dropout,
            broadcast_dims=over if self.readout == "steps" else (),
            name="output_dropout",
        )(read, deterministic=not train)
        if side is not None and self.tied:
            raise UserError(
                "model.tied: found True with features beside the sequence, which an embedding's "
                "transpose cannot read; expected False"
            )
        if side is not None:
            beside = jnp.broadcast_to(
                jnp.expand_dims(side, range(1, read.ndim - 1)),
                (*read.shape[:-1], side.shape[-1]),
            )
            read = jnp.concatenate([read, beside.astype(read.dtype)], axis=-1)
        if self.tied:
            bias = self.param("bias", nn.initializers.zeros, (self.num_classes,), self.param_dtype)
            logits = embed.attend(read) + bias.astype(self.dtype)
        else:
            logits = nn.Dense(
                self.num_classes, dtype=self.dtype, param_dtype=self.param_dtype, name="head"
            )(read)
        logits = logits.astype(jnp.promote_types(self.dtype, jnp.float32))
        return logits, endpoints | {"embedded": x, "readout": read, "logits": logits}

    def _read(self, hidden: Array, lengths: Array | None) -> Array:
        """What the output layer reads of the outputs [B, T, F], which are 0 beyond the ends."""
        if self.readout == "steps":
            return hidden
        batch, steps, width = hidden.shape
        ends = jnp.full(batch, steps) if lengths is None else lengths
        if self.readout == "mean":
            return hidden.sum(1) / jnp.maximum(ends, 1)[:, None].astype(hidden.dtype)
        if self.readout == "max":
            real = (jnp.arange(steps) < ends[:, None])[..., None]
            return jnp.where(real, hidden, jnp.finfo(hidden.dtype).min).max(1)
        last = jnp.maximum(ends - 1, 0)[:, None, None]
        forward = jnp.take_along_axis(hidden[..., : self.hidden_size], last, axis=1)[:, 0]
        if width == self.hidden_size:
            return forward
        return jnp.concatenate([forward, hidden[:, 0, self.hidden_size :]], axis=-1)

    def _check_tied(self) -> None:
        width = self.hidden_size * (2 if self.bidirectional else 1)
        size = self.embedding_size or self.hidden_size
        if self.vocabulary_size != self.num_classes:
            raise UserError(
                f"model.tied: found True with {self.num_classes} outputs and "
                f"{self.vocabulary_size} tokens, expected as many: a model of the next token"
            )
        if size != width:
            raise UserError(
                f"model.embedding_size: found {size} with model.tied=True, expected {width}, the "
                "width of what the output layer reads"
            )
