"""Decoding: from a model of the next token to sequences of tokens.

The model is any function `step(state, tokens) → (logits, state)`: `tokens` int[N] are those that
came last, `logits` float[N, V] say which come next, and `state` is a pytree of arrays [N, …] with
all that the model remembers of each sequence (for a translation, the encoded source too). Logits
of −∞ forbid a token.

    step = lambda state, tokens: model.apply(variables, state, tokens, method="step")
    decoded = beam_search(step, state, beams=5, length=50, bos=1, eos=2)

A decoder is a pure function with one compiled loop, as long as the longest sequence needs; call it
inside the `jax.jit` that makes the state, so that the variables are arguments and not constants. No
sequence depends on what else is in the batch.

To continue a text, feed all its tokens but the last to `step`, and give the last as `bos`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from research.config import UserError

State = Any
Step = Callable[[State, Array], tuple[Array, State]]


class Decoded(NamedTuple):
    """Sequences, with an axis [K] after [N] if from a beam search, the best first.

    Attributes:
        tokens: int32[N, L]; what comes after `eos` is `pad`.
        scores: float[N], the log-probability under the model, divided by a beam search's length
            penalty.
        lengths: int32[N], the tokens up to `eos`, which counts; L where none came.
    """

    tokens: Array
    scores: Array
    lengths: Array


def greedy(
    step: Step, state: State, *, length: int, bos: int | Array, eos: int | None, pad: int = 0
) -> Decoded:
    """Take the most probable token each time; of equal ones, the lowest.

    Args:
        step: the model of the next token.
        state: before the first token.
        length: L, the most tokens that a sequence has.
        bos: the token to begin with, one for all or int[N]; it is not part of the sequence. Without
            any state, it must be an array.
        eos: the token that ends a sequence; None: all go on to L.
        pad: what fills a sequence that has ended.

    Raises:
        UserError: a length below 1, or an `eos` that is no token of the model.
    """
    return _generate(step, state, lambda logits, _: logits.argmax(-1), length, bos, eos, pad)


def sample(
    step: Step,
    state: State,
    keys: Array,
    *,
    length: int,
    bos: int | Array,
    eos: int | None,
    pad: int = 0,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
) -> Decoded:
    """Draw each token from the model's distribution, or from the likelier part of it.

    Args:
        step, state, length, bos, eos, pad: as in `greedy`.
        keys: N random keys, such as `jax.random.split(key, N)`; a sequence's draws depend on its
            own key alone.
        temperature: the logits are divided by it.
        top_k: draw among the k most probable tokens (Fan et al. 2018); 0: among all.
        top_p: draw among the fewest tokens, the most probable, that have at least this share of
            what top_k left (the nucleus: Holtzman et al. 2020).

    Returns:
        Sequences, scored by the model itself: at temperature 1 and with no token left out.

    Raises:
        UserError: as `greedy`; a temperature or a share that is not positive, a share above 1, or a
            negative top_k.
    """
    if not temperature > 0:
        raise UserError(
            f"--temperature: found {temperature}, expected more than 0, or greedy search"
        )
    if top_k < 0:
        raise UserError(f"--top_k: found {top_k}, expected a number of tokens, or 0 for all")
    if not 0 < top_p <= 1:
        raise UserError(f"--top_p: found {top_p}, expected a share, more than 0 and at most 1")

    def choose(logits: Array, t: Array) -> Array:
        # By rank, so that of equal logits the lower tokens come first, as in a greedy search.
        kept = min(top_k or logits.shape[-1], logits.shape[-1])
        ranked, tokens = jax.lax.top_k(logits / temperature, kept)
        if top_p < 1:
            shares = jax.nn.softmax(ranked)
            likelier = jnp.cumsum(shares, axis=-1) - shares
            ranked = jnp.where(likelier < top_p, ranked, -jnp.inf)
        rank = jax.vmap(lambda key, row: jax.random.categorical(jax.random.fold_in(key, t), row))
        return jnp.take_along_axis(tokens, rank(keys, ranked)[:, None], axis=-1)[:, 0]

    return _generate(step, state, choose, length, bos, eos, pad)


def beam_search(
    step: Step,
    state: State,
    *,
    beams: int,
    length: int,
    bos: int | Array,
    eos: int | None,
    pad: int = 0,
    alpha: float = 0.0,
    offset: float = 5.0,
    early_stop: bool = True,
) -> Decoded:
    """Keep the `beams` best hypotheses, and extend each by every token, until all have ended.

    A hypothesis y scores log p(y) / ((offset + |y|) / (offset + 1))^α: with offset 5, the penalty
    of Wu et al. 2016 (GNMT), equation 14; with offset 0 and α = 1, the mean log-probability of a
    token; with α = 0, log p(y). Ended hypotheses stay in the beam until better ones push them out,
    so a beam of 1 is a greedy search whatever the penalty, and one as wide as there are sequences
    finds them all. Of equal scores the first stays first: the hypothesis that was better before,
    then the lower token. At `length`, a hypothesis counts as it stands.

    A beam may be wider than the vocabulary: it fills as soon as there are as many hypotheses. Those
    that never come to be, or have probability 0, are rows of `pad` with score −∞ and length 0.

    Args:
        step, state, length, bos, eos, pad: as in `greedy`; `step` is called with N·K tokens, and a
            state with that leading axis.
        beams: K.
        alpha: α, the power of the length penalty; 0: none.
        offset: of the length penalty.
        early_stop: whether to stop once no unfinished hypothesis is left in any beam, from where on
            nothing can change; only the time it takes depends on it.

    Returns:
        tokens int32[N, K, L], scores float[N, K] and lengths int32[N, K], the best first.

    Raises:
        UserError: as `greedy`; less than one beam, or a negative penalty.
    """
    if beams < 1:
        raise UserError(f"--beams: found {beams}, expected at least 1")
    for name, value in (("--alpha", alpha), ("offset", offset)):
        if not value >= 0:  # nor is NaN
            raise UserError(f"{name}: found {value}, expected at least 0")
    last = jnp.repeat(_first(state, bos)[:, None], beams, axis=1)  # [N, K]
    n = last.shape[0]

    def running(hypotheses: dict[str, Array]) -> Array:
        return ~hypotheses["ended"] & (hypotheses["log_p"] > -jnp.inf)

    def extend(loop):
        t, old, state = loop
        logits, state = step(state, old["last"].reshape(n * beams))
        vocabulary = _vocabulary(logits, eos)
        log_p = jax.nn.log_softmax(_wide(logits)).reshape(n, beams, vocabulary)
        # The one extension of an ended hypothesis is itself: token 0, at no cost.
        itself = jnp.where(jnp.arange(vocabulary) == 0, 0, -jnp.inf)
        log_p = old["log_p"][..., None] + jnp.where(old["ended"][..., None], itself, log_p)
        lengths = old["lengths"] + ~old["ended"]
        penalty = ((offset + lengths) / (offset + 1)) ** alpha
        scores = (log_p / penalty[..., None]).reshape(n, beams * vocabulary)
        scores, best = jax.lax.top_k(scores, beams)
        parents, token = best // vocabulary, best % vocabulary

        def of_parent(x: Array) -> Array:
            return jnp.take_along_axis(x, parents, axis=1)

        ended = of_parent(old["ended"])
        token = jnp.where(ended, pad, token)
        tokens = jnp.take_along_axis(old["tokens"], parents[..., None], axis=1)
        new = {
            "last": token,
            "tokens": tokens.at[:, :, t].set(token),
            "log_p": jnp.take_along_axis(log_p.reshape(n, -1), best, axis=1),
            "scores": scores,
            "lengths": of_parent(lengths),
            "ended": ended | (token == eos if eos is not None else False),
        }
        rows = (jnp.arange(n)[:, None] * beams + parents).ravel()
        return t + 1, new, jax.tree.map(lambda x: x[rows], state)

    def unfinished(loop):
        t, hypotheses, _ = loop
        return (t < length) & (jnp.any(running(hypotheses)) if early_stop else True)

    state = jax.tree.map(lambda x: jnp.repeat(x, beams, axis=0), state)
    log_p = jnp.where(jnp.arange(beams) == 0, 0, -jnp.inf) * jnp.ones((n, 1))  # one hypothesis: bos
    hypotheses = {
        "last": last,
        "tokens": _padding((n, beams, length), pad),
        "log_p": log_p,
        "scores": log_p,
        "lengths": jnp.zeros((n, beams), jnp.int32),
        "ended": jnp.zeros((n, beams), bool),
    }
    _, found, _ = jax.lax.while_loop(unfinished, extend, (0, hypotheses, state))
    real = found["scores"] > -jnp.inf
    tokens = jnp.where(real[..., None], found["tokens"], pad)
    return Decoded(tokens, found["scores"], jnp.where(real, found["lengths"], 0))


def _generate(step, state, choose, length, bos, eos, pad) -> Decoded:
    """Append the token that `choose(logits[N, V], t)` names, until every sequence has ended."""
    last = _first(state, bos)
    n = last.shape[0]

    def append(loop):
        t, last, decoded, ended, state = loop
        logits, state = step(state, last)
        _vocabulary(logits, eos)
        logits = _wide(logits)
        token = choose(logits, t).astype(jnp.int32)
        log_p = jnp.take_along_axis(jax.nn.log_softmax(logits), token[:, None], axis=-1)[:, 0]
        token = jnp.where(ended, pad, token)
        decoded = Decoded(
            decoded.tokens.at[:, t].set(token),
            decoded.scores + jnp.where(ended, 0, log_p),
            decoded.lengths + ~ended,
        )
        return t + 1, token, decoded, ended | (token == eos if eos is not None else False), state

    def unfinished(loop):
        t, _, _, ended, _ = loop
        return (t < length) & ~jnp.all(ended)

    empty = Decoded(_padding((n, length), pad), jnp.zeros(n), jnp.zeros(n, jnp.int32))
    start = (0, last, empty, jnp.zeros(n, bool), state)
    return jax.lax.while_loop(unfinished, append, start)[2]


def _first(state: State, bos: int | Array) -> Array:
    """The first input of each sequence, int32[N]."""
    leaves = jax.tree.leaves(state)
    n = leaves[0].shape[0] if leaves else jnp.shape(bos)[0]
    return jnp.broadcast_to(jnp.asarray(bos, jnp.int32), (n,))


def _padding(shape: tuple[int, ...], pad: int) -> Array:
    if shape[-1] < 1:
        raise UserError(f"length: found {shape[-1]}, expected at least 1 token to decode")
    return jnp.full(shape, pad, jnp.int32)


def _vocabulary(logits: Array, eos: int | None) -> int:
    """V, of which `eos` is one."""
    if eos is not None and not 0 <= eos < logits.shape[-1]:
        raise UserError(f"eos: found {eos}, expected one of the {logits.shape[-1]} tokens, from 0")
    return logits.shape[-1]


def _wide(logits: Array) -> Array:
    return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
