"""Encoder and decoder: decoding step by step, padding, scheduled sampling, and a task learned."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from research.config import UserError
from research.decoding import beam_search
from research.models.rnn.seq2seq import Seq2Seq

B, S, T, V = 3, 5, 4, 9
RNG = np.random.default_rng(0)
SOURCE = RNG.integers(0, 7, (B, S))
LENGTHS = np.array([5, 1, 3])
TARGET = RNG.integers(0, V, (B, T))
SIZES = {"source_vocabulary": 7, "target_vocabulary": V, "embedding_size": 6, "hidden_size": 8}

MODELS = {
    "plain": {"attention": "none", "cell": "lstm", "num_layers": 2},
    "one_way": {"attention": "none", "bidirectional": False, "cell": "rnn"},
    "bahdanau": {"attention": "bahdanau"},
    "bahdanau_fed": {"attention": "bahdanau", "cell": "lstm", "input_feeding": True, "tied": True},
    "dot": {"attention": "luong_dot", "bidirectional": False, "num_layers": 2},
    "general": {"attention": "luong_general", "cell": "min_gru", "tied": True},
    "general_fed": {"attention": "luong_general", "cell": "lstm", "input_feeding": True},
    "concat": {"attention": "luong_concat"},
}


def make(name, **fields):
    """A model whose parameters are all large enough to matter."""
    model = Seq2Seq(**SIZES | MODELS[name] | fields)
    shapes = jax.eval_shape(model.init, jax.random.key(0), SOURCE, LENGTHS, target_in=TARGET)
    return model, jax.tree.map(lambda x: RNG.normal(0, 0.7, x.shape).astype(np.float32), shapes)


@pytest.mark.parametrize("name", MODELS)
def test_steps_give_the_logits_of_teacher_forcing(name):
    model, variables = make(name)
    logits, endpoints = jax.jit(model.apply)(variables, SOURCE, LENGTHS, target_in=TARGET)
    assert logits.shape == (B, T, V)
    state = jax.jit(lambda v: model.apply(v, SOURCE, LENGTHS, method="encode"))(variables)
    assert all(leaf.shape[0] == B for leaf in jax.tree.leaves(state))
    step = jax.jit(lambda v, state, tokens: model.apply(v, state, tokens, method="step"))
    for t in range(T):
        now, state = step(variables, state, TARGET[:, t])
        np.testing.assert_allclose(now, logits[:, t], rtol=1e-4, atol=1e-5)
    if model.attention != "none":
        weights = np.asarray(endpoints["attention"])
        np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5)
        beyond = np.broadcast_to(np.arange(S) >= LENGTHS[:, None, None], weights.shape)
        assert np.all(weights[beyond] == 0)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def cell_step(kind, p, x, state):
    """One step of torch's GRU or LSTM: x [D] and states [H] → states."""
    w, u = x @ p["input_kernel"] + p["input_bias"], p["recurrent_bias"]
    u = state[0] @ p["recurrent_kernel"] + u
    if kind == "gru":
        (r_w, z_w, n_w), (r_u, z_u, n_u) = np.split(w, 3), np.split(u, 3)
        z = sigmoid(z_w + z_u)
        return [(1 - z) * np.tanh(n_w + sigmoid(r_w + r_u) * n_u) + z * state[0]]
    i, f, g, o = np.split(w + u, 4)
    c = sigmoid(f) * state[1] + sigmoid(i) * np.tanh(g)
    return [sigmoid(o) * np.tanh(c), c]


def softmax(x):
    return np.exp(x) / np.exp(x).sum()


@pytest.mark.parametrize("name", ["bahdanau", "general_fed", "plain"])
def test_logits_are_the_papers(name):
    """One layer, in both directions, a sequence and a step at a time, in float64."""
    model, variables = make(name, **({"cell": "gru", "num_layers": 1} if name == "plain" else {}))
    found, _ = jax.jit(model.apply)(variables, SOURCE, LENGTHS, target_in=TARGET)
    p = jax.tree.map(np.float64, variables["params"])
    zeros = [np.zeros(8)] * (2 if model.cell == "lstm" else 1)
    for b in range(B):
        words = p["source_embedding"]["embedding"][SOURCE[b, : LENGTHS[b]]]
        ends, memory = [], []
        for direction, order in (("forward", 1), ("backward", -1)):
            state, outputs = zeros, []
            for word in words[::order]:
                state = cell_step(model.cell, p["encoder"][f"layer1_{direction}"], word, state)
                outputs.append(state[0])
            ends.append(state)
            memory.append(outputs[::order])
        memory = np.concatenate(memory, axis=1)
        bridge = p["bridge"]
        state = [
            np.tanh(
                np.concatenate([ends[0][i], ends[1][i]]) @ bridge["kernel"][i] + bridge["bias"][i]
            )
            for i in range(len(zeros))
        ]
        t = np.zeros(6)
        for token, logits in zip(TARGET[b], found[b], strict=True):
            y = p["target_embedding"]["embedding"][token]
            if name == "bahdanau":
                attend = {k: v["kernel"] for k, v in p["attend"].items()}
                sums = np.tanh(state[0] @ attend["of_query"] + memory @ attend["of_memory"])
                context = softmax(sums @ attend["v"][:, 0]) @ memory
                state = cell_step("gru", p["decoder"]["layer1_forward"], [*y, *context], state)
                t = np.concatenate([state[0], y, context]) @ p["readout"]["kernel"]
                t = np.maximum(t[:6], t[6:])
            elif name == "general_fed":
                state = cell_step("lstm", p["decoder"]["layer1_forward"], [*y, *t], state)
                scores = (memory @ p["attend"]["of_memory"]["kernel"]) @ state[0]
                context = softmax(scores) @ memory
                t = np.tanh(np.concatenate([state[0], context]) @ p["readout"]["kernel"])
            else:
                state = cell_step("gru", p["decoder"]["layer1_forward"], y, state)
                t = np.tanh(state[0] @ p["readout"]["kernel"])
            expected = t @ p["head"]["kernel"] + p["head"]["bias"]
            np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["plain", "bahdanau", "general_fed"])
def test_padding_of_the_source_changes_no_logits_and_no_gradient(name):
    model, variables = make(name)
    one = np.pad(SOURCE, ((0, 0), (0, 3)))
    other = np.where(np.arange(S + 3) < LENGTHS[:, None], one, 6)

    @jax.jit
    def run(variables, source):
        def loss(variables):
            logits, _ = model.apply(variables, source, LENGTHS, target_in=TARGET)
            return jnp.mean(logits**2), logits

        return jax.value_and_grad(loss, has_aux=True)(variables)

    (_, logits), _ = run(variables, one)
    jax.tree.map(np.testing.assert_array_equal, run(variables, one), run(variables, other))
    alone, _ = jax.jit(model.apply)(variables, SOURCE[2:, :3], target_in=TARGET[2:])
    np.testing.assert_allclose(alone[0], logits[2], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["plain", "general_fed"])
def test_scheduled_sampling_reads_what_the_model_predicts(name):
    model, variables = make(name)
    head = variables["params"]["head"]  # so sure of one token that every draw is the likeliest
    variables["params"]["head"] = {"kernel": head["kernel"] * 1e4, "bias": head["bias"]}

    @jax.jit
    def apply(target, sampling):
        rngs = {"sampling": jax.random.key(0)}
        return model.apply(
            variables, SOURCE, LENGTHS, target_in=target, sampling=sampling, rngs=rngs
        )

    teacher = jax.jit(lambda target: model.apply(variables, SOURCE, LENGTHS, target_in=target)[0])
    never, endpoints = apply(TARGET, 0.0)
    np.testing.assert_allclose(never, teacher(TARGET), rtol=1e-4, atol=1)  # logits of 10⁴
    np.testing.assert_array_equal(endpoints["inputs"], TARGET)
    always, endpoints = apply(TARGET, 1.0)
    np.testing.assert_array_equal(endpoints["inputs"][:, 0], TARGET[:, 0])
    np.testing.assert_array_equal(endpoints["inputs"][:, 1:], always.argmax(-1)[:, :-1])
    np.testing.assert_allclose(always, teacher(endpoints["inputs"]), rtol=1e-4, atol=1)


def test_scheduled_sampling_tosses_a_coin_for_each_token():
    model, variables = make("plain")
    head = variables["params"]["head"]
    head["bias"] = np.where(np.arange(V) == 0, -1e9, 0).astype(np.float32)  # never predicts a 0
    head["kernel"] = 0 * head["kernel"]
    source, target = np.zeros((200, 2), int), np.zeros((200, 11), int)

    @jax.jit
    def inputs(key, sampling):
        options = {"sampling": sampling, "rngs": {"sampling": key}}
        return model.apply(variables, source, target_in=target, **options)[1]["inputs"]

    tokens = np.asarray(inputs(jax.random.key(0), 0.3))
    replaced = tokens != 0
    assert not replaced[:, 0].any()
    assert abs(replaced[:, 1:].mean() - 0.3) < 4 * np.sqrt(0.3 * 0.7 / 2000)
    assert replaced[:, 1:].mean(0).min() > 0
    counts = np.bincount(tokens[replaced], minlength=V)[1:]  # drawn, not the likeliest
    assert np.all(abs(counts / counts.sum() - 1 / 8) < 0.06)
    assert np.any(tokens != inputs(jax.random.key(1), 0.3))


@pytest.mark.parametrize("name", ["bahdanau_fed", "general"])
def test_dropout_acts_in_training_alone(name):
    model, variables = make(name, dropout=0.5)

    @partial(jax.jit, static_argnums=1)
    def logits(key, train):
        rngs = {"dropout": key}
        return model.apply(variables, SOURCE, LENGTHS, target_in=TARGET, train=train, rngs=rngs)[0]

    one, two = jax.random.split(jax.random.key(0))
    np.testing.assert_array_equal(logits(one, False), logits(two, False))
    np.testing.assert_array_equal(logits(one, True), logits(one, True))
    assert np.all(np.any(logits(one, True) != logits(two, True), axis=-1))


def test_each_step_of_scheduled_sampling_drops_out_anew():
    model, variables = make("bahdanau", dropout=0.5)
    for name in ("source_embedding", "encoder", "bridge", "decoder", "attend"):  # no memory at all
        variables["params"][name] = jax.tree.map(np.zeros_like, variables["params"][name])
    same = np.full_like(TARGET, 3)

    @partial(jax.jit, static_argnums=0)
    def logits(train):
        rngs = {"dropout": jax.random.key(0), "sampling": jax.random.key(1)}
        options = {"sampling": jnp.array(0.0), "train": train, "rngs": rngs}
        return model.apply(variables, SOURCE, LENGTHS, target_in=same, **options)[0]

    kept, dropped = logits(False), logits(True)
    assert np.all(kept == kept[:, :1])
    assert np.all(np.any(dropped[:, 1:] != dropped[:, :-1], axis=-1))


@pytest.mark.parametrize("name", ["bahdanau_fed", "concat"])
def test_bfloat16_decodes_with_logits_in_float32(name):
    model, variables = make(name, dtype=jnp.bfloat16)

    @jax.jit
    def decode(variables):
        state = model.apply(variables, SOURCE, LENGTHS, method="encode")

        def step(state, tokens):
            return model.apply(variables, state, tokens, method="step")

        return beam_search(step, state, beams=2, length=3, bos=1, eos=2)

    assert decode(variables).scores.dtype == jnp.float32
    logits = jax.eval_shape(model.apply, variables, SOURCE, LENGTHS, target_in=TARGET)[0]
    assert logits.dtype == jnp.float32


def test_tied_logits_have_no_matrix_of_their_own():
    count = {}
    for tied in (True, False):
        model = Seq2Seq(**SIZES, tied=tied)
        shapes = jax.eval_shape(model.init, jax.random.key(0), SOURCE, LENGTHS, target_in=TARGET)
        count[tied] = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    assert count[False] - count[True] == 6 * V


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"attention": "luong"}, "model.attention: found 'luong'.*did you mean 'luong_dot'"),
        ({"cell": "lru"}, "model.cell: found 'lru'"),
        ({"attention": "none", "input_feeding": True}, "model.input_feeding: found True"),
        ({"hidden_size": 0}, "model.hidden_size: found 0"),
        ({"tied": 1}, "model.tied: found 1"),
    ],
)
def test_what_cannot_be_is_refused(fields, message):
    with pytest.raises(UserError, match=message):
        Seq2Seq(**SIZES | fields)


def test_what_is_not_in_the_vocabularies_is_refused():
    model = Seq2Seq(**SIZES)
    source, target = jnp.asarray(SOURCE), jnp.asarray(TARGET)
    wrong = model.source_vocabulary, model.target_vocabulary
    for s, t, message in (
        (source.at[0, 1].set(wrong[0]), target, rf"source\[0, 1\]: found the id {wrong[0]}"),
        (source, target.at[1, 0].set(wrong[1]), rf"target_in\[1, 0\]: found the id {wrong[1]}"),
        (source, target.at[1, 0].set(-1), r"target_in\[1, 0\]: found the id -1"),
        (source.astype(float), target, r"source: found float32\[.*expected tokens int\[B, S\]"),
    ):
        with pytest.raises(UserError, match=message):
            model.init(jax.random.key(0), s, LENGTHS, target_in=t)


BOS, EOS, PAD, LONGEST = 1, 2, 0, 5


def reversals(rng, size):
    """Sources of 1 to 5 tokens from 3 on, and the same backwards."""
    lengths = rng.integers(1, LONGEST + 1, size)
    source = rng.integers(3, 11, (size, LONGEST))
    source = np.where(np.arange(LONGEST) < lengths[:, None], source, PAD)
    target = np.zeros((size, LONGEST + 2), int)
    for row, words, length in zip(target, source, lengths, strict=True):
        row[: length + 2] = BOS, *words[:length][::-1], EOS
    return source, lengths, target


def test_a_beam_search_reverses_unseen_sequences_exactly():
    rng = np.random.default_rng(0)
    model = Seq2Seq(11, 11, embedding_size=16, hidden_size=32)
    source, lengths, target = reversals(rng, 2)
    variables = jax.jit(model.init)(jax.random.key(0), source, lengths, target_in=target)
    optimizer = optax.adam(optax.cosine_decay_schedule(0.01, 200))

    @jax.jit
    def train(variables, state, source, lengths, target):
        def loss(variables):
            logits, _ = model.apply(variables, source, lengths, target_in=target[:, :-1])
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, target[:, 1:])
            return jnp.mean(losses, where=target[:, 1:] != PAD)

        value, gradient = jax.value_and_grad(loss)(variables)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(variables, updates), state, value

    @jax.jit
    def translate(variables, source, lengths):
        state = model.apply(variables, source, lengths, method="encode")

        def step(state, tokens):
            return model.apply(variables, state, tokens, method="step")

        options = {"bos": BOS, "eos": EOS, "pad": PAD, "alpha": 0.6}
        return beam_search(step, state, beams=3, length=LONGEST + 1, **options)

    state = optimizer.init(variables)
    for _ in range(200):
        variables, state, _ = train(variables, state, *reversals(rng, 32))
    source, lengths, target = reversals(np.random.default_rng(1), 100)
    decoded = translate(variables, source, lengths)
    np.testing.assert_array_equal(decoded.tokens[:, 0], target[:, 1:])
    np.testing.assert_array_equal(decoded.lengths[:, 0], lengths + 1)
