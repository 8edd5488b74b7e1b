"""Attention, against the papers' formulas written out for one pair of states at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from research.config import UserError
from research.models.rnn.attention import ATTENTIONS, Attention

B, T, S, H, M, A = 3, 2, 5, 4, 6, 7
LENGTHS = np.array([5, 1, 3])
MASK = np.arange(S) < LENGTHS[:, None]
RNG = np.random.default_rng(0)


def states(kind):
    """Queries [B, T, H] and memory [B, S, M], as wide as each other where they are multiplied."""
    size = H if kind == "luong_dot" else M
    return tuple(RNG.normal(size=shape).astype(np.float32) for shape in ((B, T, H), (B, S, size)))


def both(module, queries, memory, mask):
    return module(queries, module.keys(memory), memory, mask)


def make(kind, memory, queries, **fields):
    attention = Attention(kind, H if kind == "luong_general" else A, **fields)
    variables = attention.init(jax.random.key(1), queries, memory, MASK, method=both)
    # v starts small: make every parameter matter.
    variables = jax.tree.map(lambda p: jnp.asarray(RNG.normal(size=p.shape), p.dtype), variables)
    return attention, variables


def score(kind, parameters, h, s):
    """The score of one state of the decoder and one of the encoder."""
    p = {name: np.float64(leaf["kernel"]) for name, leaf in parameters.items()}
    if kind == "bahdanau":
        return p["v"][:, 0] @ np.tanh(p["of_query"].T @ h + p["of_memory"].T @ s)
    if kind == "luong_dot":
        return h @ s
    if kind == "luong_general":
        return h @ p["of_memory"].T @ s
    w = np.concatenate([p["of_query"], p["of_memory"]]).T
    return p["v"][:, 0] @ np.tanh(w @ np.concatenate([h, s]))


@pytest.mark.parametrize("kind", ATTENTIONS)
def test_contexts_are_the_papers(kind):
    queries, memory = states(kind)
    attention, variables = make(kind, memory, queries)
    contexts, weights = attention.apply(variables, queries, memory, MASK, method=both)
    for b in range(B):
        real = memory[b, : LENGTHS[b]].astype(np.float64)
        for t in range(T):
            scores = [score(kind, variables.get("params", {}), queries[b, t], s) for s in real]
            expected = scipy.special.softmax(scores)
            np.testing.assert_allclose(weights[b, t, : LENGTHS[b]], expected, atol=1e-5)
            np.testing.assert_allclose(contexts[b, t], expected @ real, atol=1e-5)
    assert np.all(np.asarray(weights)[np.broadcast_to(~MASK[:, None], weights.shape)] == 0)
    unmasked = attention.apply(variables, queries, memory, None, method=both)
    full = attention.apply(variables, queries, memory, np.ones_like(MASK), method=both)
    jax.tree.map(np.testing.assert_array_equal, unmasked, full)


@pytest.mark.parametrize("kind", ATTENTIONS)
def test_padding_changes_no_result_and_gets_no_gradient(kind):
    queries, memory = states(kind)
    attention, variables = make(kind, memory, queries)

    @jax.jit
    def loss(variables, memory):
        contexts, weights = attention.apply(variables, queries, memory, MASK, method=both)
        return jnp.sum(contexts**2), (contexts, weights)

    run = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))
    one = run(variables, memory)
    other = run(variables, np.where(MASK[..., None], memory, 100))
    jax.tree.map(np.testing.assert_array_equal, one, other)
    assert np.all(np.asarray(one[1][1])[~MASK] == 0) and np.any(one[1][1][0] != 0)


def test_large_scores_and_sources_of_padding_alone_are_finite():
    queries, memory = states("luong_dot")
    attention = Attention("luong_dot", A)

    def attend(scale, mask):
        return attention.apply({}, scale * queries, scale * memory, mask, method=both)

    contexts, weights = attend(1e4, MASK)
    assert np.all(np.isfinite(contexts)) and np.allclose(weights.sum(-1), 1)
    contexts, weights = attend(1, np.zeros_like(MASK))
    assert np.all(np.asarray(contexts) == 0) and np.all(np.asarray(weights) == 0)


@pytest.mark.parametrize("kind", ATTENTIONS)
def test_bfloat16_attends_alike_with_weights_in_float32(kind):
    queries, memory = states(kind)
    attention, variables = make(kind, memory, queries)
    expected = attention.apply(variables, queries, memory, MASK, method=both)
    half = attention.clone(dtype=jnp.bfloat16)
    bf16 = [jnp.asarray(x, jnp.bfloat16) for x in (queries, memory)]
    contexts, weights = half.apply(variables, *bf16, MASK, method=both)
    assert contexts.dtype == jnp.bfloat16 and weights.dtype == jnp.float32
    np.testing.assert_allclose(weights, expected[1], atol=0.1)


def test_what_cannot_be_attended_is_refused():
    with pytest.raises(UserError, match=r"found 'bahdanu'.*did you mean 'bahdanau'"):
        Attention("bahdanu", A)
    queries, memory = states("bahdanau")
    with pytest.raises(UserError, match=r"luong_dot.*\(4 units\).*\(6\)"):
        Attention("luong_dot", A).apply({}, queries, memory, MASK, method=both)
