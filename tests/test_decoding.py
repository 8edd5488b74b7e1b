"""Decoding, against the enumeration of every sequence and a beam search of plain lists.

The model here is a small random recurrence, so that what comes next depends on all that came
before; one of its tables is part of the state and differs by sequence.
"""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from research.config import UserError
from research.decoding import Decoded, beam_search, greedy, sample

BOS, EOS, PAD = 0, 2, 9  # the padding is no token of the model, so that none passes for another
SIZE = 4


def random_model(seed: int, vocabulary: int, batch: int = 1):
    """Tables of a recurrence that ends early now and then."""
    rng = np.random.default_rng(seed)
    bias = np.zeros(vocabulary)
    bias[EOS] = rng.normal(0.3, 1)
    tables = {
        "embedding": rng.normal(size=(vocabulary, SIZE)),
        "recurrent": rng.normal(size=(SIZE, SIZE)),
        "output": 2 * rng.normal(size=(SIZE, vocabulary)),
        "bias": bias,
    }
    state = {"h": rng.normal(size=(batch, SIZE)), "own": rng.normal(size=(batch, SIZE))}
    return jax.tree.map(np.float32, (tables, state))


def step_of(tables, np=jnp):
    tables = {name: np.asarray(table) for name, table in tables.items()}

    def step(state, tokens):
        h = np.tanh(state["h"] @ tables["recurrent"] + tables["embedding"][tokens] + state["own"])
        return h @ tables["output"] + tables["bias"], {"h": h, "own": state["own"]}

    return step


def jitted(decode, **options):
    """`decode(tables, state, *arguments)`, compiled once for all tables of a shape."""

    @jax.jit
    def decoded(tables, state, *arguments):
        return decode(step_of(tables), state, *arguments, bos=BOS, eos=EOS, pad=PAD, **options)

    return decoded


def row(tree, n: int):
    return jax.tree.map(lambda x: x[n : n + 1], tree)


def enumerate_all(tables, state, length: int) -> dict[tuple[int, ...], float]:
    """The log-probability of every sequence of one model that ends, or reaches `length`."""
    tables, state = jax.tree.map(np.float64, (tables, state))
    step, found = step_of(tables, np), {}

    def extend(prefix, log_p, state):
        if prefix[-1:] == (EOS,) or len(prefix) == length:
            found[prefix] = log_p
            return
        logits, state = step(state, np.array([prefix[-1] if prefix else BOS]))
        for token, more in enumerate(scipy.special.log_softmax(logits[0])):
            extend((*prefix, token), log_p + more, state)

    extend((), 0.0, state)
    assert np.exp(list(found.values())).sum() == pytest.approx(1)
    return found


def list_beam_search(tables, state, beams: int, length: int, score):
    """The hypotheses (tokens, log-probability) of one model, best first."""
    tables, state = jax.tree.map(np.float64, (tables, state))
    step, hypotheses = step_of(tables, np), [((), 0.0, state)]
    for _ in range(length):
        candidates = []
        for prefix, log_p, state in hypotheses:
            if prefix[-1:] == (EOS,):
                candidates.append((prefix, log_p, state))
                continue
            logits, after = step(state, np.array([prefix[-1] if prefix else BOS]))
            for token, more in enumerate(scipy.special.log_softmax(logits[0])):
                candidates.append(((*prefix, token), log_p + more, after))
        hypotheses = sorted(candidates, key=lambda c: -score(c[1], len(c[0])))[:beams]
    return [(prefix, log_p) for prefix, log_p, _ in hypotheses]


PENALTIES = {
    "none": {},
    "gnmt": {"alpha": 0.6},
    "mean": {"alpha": 1.0, "offset": 0.0},
}
SCORES = {
    "none": lambda log_p, length: log_p,
    "gnmt": lambda log_p, length: log_p / ((5 + length) / 6) ** 0.6,
    "mean": lambda log_p, length: log_p / length,
}


def assert_found(decoded: Decoded, n: int, expected: list[tuple[tuple[int, ...], float]]):
    """Row `n` has the expected (tokens, score), and surplus rows after them."""
    length = decoded.tokens.shape[-1]
    for k, (tokens, score) in enumerate(expected):
        assert tuple(decoded.tokens[n, k]) == tokens + (PAD,) * (length - len(tokens))
        assert decoded.lengths[n, k] == len(tokens)
        np.testing.assert_allclose(decoded.scores[n, k], score, rtol=1e-5, atol=1e-5)
    assert np.all(decoded.tokens[n, len(expected) :] == PAD)
    assert np.all(decoded.scores[n, len(expected) :] == -np.inf)
    assert np.all(decoded.lengths[n, len(expected) :] == 0)


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize(("vocabulary", "length"), [(3, 4), (4, 3)])
def test_a_full_beam_finds_every_sequence_in_order(vocabulary, length, penalty):
    beams = vocabulary**length  # more than there are, for some end early
    search = jitted(partial(beam_search, beams=beams, length=length, **PENALTIES[penalty]))
    for seed in range(5):
        tables, state = random_model(seed, vocabulary, batch=2)
        decoded = jax.tree.map(np.asarray, search(tables, state))
        for n in range(2):
            every = enumerate_all(tables, row(state, n), length)
            scored = [(y, SCORES[penalty](log_p, len(y))) for y, log_p in every.items()]
            assert_found(decoded, n, sorted(scored, key=lambda pair: -pair[1]))


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("beams", [2, 3])
def test_a_narrow_beam_prunes_as_a_search_of_lists_does(beams, penalty):
    score = SCORES[penalty]
    search = jitted(partial(beam_search, beams=beams, length=7, **PENALTIES[penalty]))
    pruned = 0
    for seed in range(20):
        tables, state = random_model(seed, 5)
        expected = list_beam_search(tables, state, beams, 7, score)
        scored = [(y, score(log_p, len(y))) for y, log_p in expected]
        assert_found(jax.tree.map(np.asarray, search(tables, state)), 0, scored)
        best = list_beam_search(tables, state, 500, 7, score)[0]
        pruned += expected[0][0] != best[0]
    assert pruned  # else a full beam would have passed


def test_a_beam_as_wide_as_the_vocabulary_is_exact_over_two_tokens():
    tables, state = random_model(3, 6)
    decoded = jitted(partial(beam_search, beams=6, length=2))(tables, state)
    every = sorted(enumerate_all(tables, state, 2).items(), key=lambda pair: -pair[1])
    assert_found(jax.tree.map(np.asarray, decoded), 0, every[:6])


def test_one_beam_one_token_or_hardly_any_share_is_greedy():
    greedily = jitted(partial(greedy, length=8))
    draws = [jitted(partial(sample, length=8, **only)) for only in ({"top_k": 1}, {"top_p": 1e-6})]
    beams = {
        penalty: jitted(partial(beam_search, beams=1, length=8, **options))
        for penalty, options in PENALTIES.items()
    }
    lengths = []
    for seed in range(5):
        tables, state = random_model(seed, 6, batch=4)
        keys = jax.random.split(jax.random.key(seed), 4)
        expected = greedily(tables, state)
        for draw in draws:
            jax.tree.map(np.testing.assert_array_equal, draw(tables, state, keys), expected)
        for penalty, search in beams.items():
            found = search(tables, state)
            np.testing.assert_array_equal(found.tokens[:, 0], expected.tokens)
            np.testing.assert_array_equal(found.lengths[:, 0], expected.lengths)
            scores = SCORES[penalty](expected.scores, expected.lengths)
            np.testing.assert_allclose(found.scores[:, 0], scores, rtol=1e-5)
        lengths.extend(expected.lengths.tolist())
    assert min(lengths) < 8 and max(lengths) == 8  # some ended, some were cut


def test_greedy_takes_the_most_probable_token_each_time():
    tables, state = random_model(1, 6)
    decoded = jitted(partial(greedy, length=8))(tables, state)
    [(tokens, log_p)] = list_beam_search(tables, state, 1, 8, SCORES["none"])
    assert_found(jax.tree.map(lambda x: np.asarray(x)[:, None], decoded), 0, [(tokens, log_p)])


def test_stopping_early_changes_nothing_but_the_number_of_steps():
    calls = []

    def counted(tables, state, early_stop):
        step = step_of(tables)

        def counting(state, tokens):
            jax.debug.callback(lambda: calls.append(1))
            return step(state, tokens)

        options = {"beams": 3, "length": 30, "bos": BOS, "eos": EOS, "pad": PAD, "alpha": 0.6}
        return beam_search(counting, state, early_stop=early_stop, **options)

    search = jax.jit(counted, static_argnums=2)
    for seed in range(4):
        tables, state = random_model(seed, 5, batch=3)
        tables["bias"][EOS] += 5
        results = []
        for early_stop, steps in ((False, {30}), (True, range(1, 30))):
            calls.clear()
            results.append(jax.block_until_ready(search(tables, state, early_stop)))
            jax.effects_barrier()
            assert len(calls) in steps
        jax.tree.map(np.testing.assert_array_equal, *results)


@pytest.mark.parametrize("kind", ["greedy", "sample", "beam"])
def test_a_batch_is_decoded_as_its_sequences_one_by_one(kind):
    decode = jitted(
        {
            "greedy": partial(greedy, length=8),
            "sample": partial(sample, length=8, temperature=1.5, top_k=4, top_p=0.9),
            "beam": partial(beam_search, beams=3, length=8, alpha=0.6),
        }[kind]
    )
    tables, state = random_model(7, 5, batch=4)
    more = [jax.random.split(jax.random.key(0), 4)] if kind == "sample" else []
    batch = decode(tables, state, *more)
    for n in range(4):
        alone = decode(tables, row(state, n), *row(more, n))
        np.testing.assert_array_equal(alone.tokens[0], batch.tokens[n])
        np.testing.assert_array_equal(alone.lengths[0], batch.lengths[n])
        np.testing.assert_allclose(alone.scores[0], batch.scores[n], rtol=1e-5)
    assert len(np.unique(batch.lengths)) > 1


def test_samples_are_scored_by_the_model_and_padded_after_their_end():
    tables, state = random_model(2, 5, batch=1)
    every = enumerate_all(tables, state, 6)
    state = jax.tree.map(lambda x: np.repeat(x, 50, axis=0), state)
    keys = jax.random.split(jax.random.key(1), 50)
    decoded = jitted(partial(sample, length=6, temperature=2.0, top_k=4))(tables, state, keys)
    assert len(np.unique(decoded.lengths)) > 2
    for tokens, score, length in zip(*jax.tree.map(np.asarray, decoded), strict=True):
        assert EOS not in tokens[: length - 1] and np.all(tokens[length:] == PAD)
        np.testing.assert_allclose(score, every[tuple(tokens[:length])], rtol=1e-4)


LOGITS = np.float32([1.0, -1.0, 0.5, 2.0, 0.0, 1.5])


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({}, [0, 1, 2, 3, 4, 5]),
        ({"temperature": 2.0}, [0, 1, 2, 3, 4, 5]),
        ({"top_k": 3}, [3, 5, 0]),
        ({"top_p": 0.4}, [3]),  # its share is 0.43
        ({"top_p": 0.75}, [3, 5, 0]),  # 0.43, 0.69, 0.85
        ({"top_k": 4, "top_p": 0.75, "temperature": 3.0}, [3, 5, 0]),
        ({"top_k": 99}, [0, 1, 2, 3, 4, 5]),
    ],
)
def test_tokens_are_drawn_as_often_as_their_shares_say(options, kept):
    n = 20_000
    keys = jax.random.split(jax.random.key(5), n)
    state = {"n": jnp.zeros(n)}

    def step(state, tokens):
        return jnp.broadcast_to(LOGITS, (n, 6)), state

    decode = jax.jit(lambda: sample(step, state, keys, length=2, bos=0, eos=None, **options))
    tokens = np.asarray(decode().tokens)
    shares = scipy.special.softmax(np.float64(LOGITS)[kept] / options.get("temperature", 1))
    expected = np.zeros((6, 6))
    expected[np.ix_(kept, kept)] = np.outer(shares, shares) * n
    counts = np.zeros((6, 6))
    np.add.at(counts, tuple(tokens.T), 1)  # of pairs: the second draw knows nothing of the first
    drawn = expected > 0
    assert np.all(counts[~drawn] == 0)
    assert scipy.stats.chisquare(counts[drawn], expected[drawn]).pvalue > 0.01 or len(kept) == 1


def test_ties_go_to_the_hypothesis_before_and_then_to_the_lower_token():
    def step(state, tokens):
        return jnp.zeros((tokens.shape[0], 3)), state

    options = {"length": 3, "bos": jnp.zeros(1, int), "eos": None}
    decoded = beam_search(step, (), beams=27, **options)
    assert [tuple(y) for y in decoded.tokens[0].tolist()] == [
        *itertools.product(range(3), repeat=3)
    ]
    assert greedy(step, (), **options).tokens.tolist() == [[0, 0, 0]]
    assert beam_search(step, (), beams=2, **options).tokens.tolist() == [[[0, 0, 0], [0, 0, 1]]]


def test_forbidden_tokens_are_no_hypotheses():
    def step(state, tokens):  # 0 → {1, 2}, anything else → the end
        first = (tokens == 0)[:, None]
        logits = jnp.where(first, jnp.array([-jnp.inf, 1.0, 0.0, -jnp.inf]), -jnp.inf)
        return jnp.where(first | (jnp.arange(4) < 3), logits, 0.0), state

    options = {"length": 5, "bos": jnp.zeros(1, int), "eos": 3}
    for early_stop in (True, False):
        decoded = beam_search(step, (), beams=5, early_stop=early_stop, **options)
        decoded = jax.tree.map(lambda x: x[0].tolist(), decoded)
        assert decoded.tokens == [[1, 3, 0, 0, 0], [2, 3, 0, 0, 0]] + [[0] * 5] * 3
        assert decoded.lengths == [2, 2, 0, 0, 0]
        assert decoded.scores[2:] == [-np.inf] * 3


def test_every_sequence_may_begin_with_a_token_of_its_own():
    tables, state = random_model(0, 5, batch=3)
    state = jax.tree.map(lambda x: np.repeat(x[:1], 3, axis=0), state)
    step, options = step_of(tables), {"length": 4, "eos": EOS}
    together = greedy(step, state, bos=jnp.array([0, 1, 3]), **options)
    for n, bos in enumerate((0, 1, 3)):
        alone = greedy(step, row(state, n), bos=bos, **options)
        np.testing.assert_array_equal(together.tokens[n], alone.tokens[0])
    assert len({tuple(y) for y in together.tokens.tolist()}) > 1


@pytest.mark.parametrize(
    ("decode", "options", "message"),
    [
        (greedy, {"length": 0}, "length: found 0"),
        (greedy, {"eos": 5}, "eos: found 5, expected one of the 5 tokens"),
        (beam_search, {"beams": 2, "eos": -1}, "eos: found -1"),
        (beam_search, {"beams": 0}, "beams: found 0"),
        (beam_search, {"beams": 2, "length": 0}, "length: found 0"),
        (beam_search, {"beams": 2, "alpha": -1.0}, "alpha"),
        (beam_search, {"beams": 2, "alpha": float("nan")}, "--alpha: found nan"),
        (sample, {"temperature": 0.0}, "temperature: found 0.0, expected more than 0"),
        (sample, {"top_k": -1}, "top_k: found -1"),
        (sample, {"top_p": 0.0}, "top_p: found 0.0"),
        (sample, {"top_p": 1.1}, "top_p: found 1.1"),
    ],
)
def test_what_cannot_be_decoded_is_refused(decode, options, message):
    tables, state = random_model(0, 5)
    keys = [jax.random.split(jax.random.key(0), 1)] if decode is sample else []
    with pytest.raises(UserError, match=message):
        decode(step_of(tables), state, *keys, **{"bos": 0, "eos": EOS, "length": 3} | options)
