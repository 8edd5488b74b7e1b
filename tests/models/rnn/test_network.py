import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.config import UserError, get_config
from research.models import SEQUENCE_MODELS, create_model
from research.models.rnn.network import READOUTS, RecurrentNetwork

RNG = np.random.default_rng(0)
INPUTS = RNG.normal(size=(3, 6, 4)).astype(np.float32)
TOKENS = RNG.integers(0, 9, (3, 6)).astype(np.int32)
LENGTHS = np.array([6, 4, 1], np.int32)
SIDE = {"hidden_size": 4, "num_classes": 5}


def run(model, inputs=INPUTS, **options):
    variables = model.init(jax.random.key(0), inputs, LENGTHS)
    outputs, endpoints = model.apply(variables, inputs, LENGTHS, **options)
    return np.asarray(outputs), endpoints, variables


def sizes(**switches):
    model = RecurrentNetwork(**SIDE | switches)
    inputs = TOKENS if model.vocabulary_size else INPUTS
    shapes = jax.eval_shape(model.init, jax.random.key(0), inputs, LENGTHS)
    return str(shapes)


TOKEN = {"vocabulary_size": 9}
# Switch -> (what makes it matter, its other value).
SIZES = {
    "hidden_size": ({}, 5),
    "num_layers": ({}, 2),
    "bidirectional": ({}, True),
    "embedding_size": (TOKEN, 3),
    "tied": (TOKEN | {"num_classes": 9}, True),
    "layer_norm": ({}, True),
    "batch_norm": ({}, True),
    "peepholes": ({}, True),
    "use_bias": ({}, False),
    "cell": ({}, "gru"),
    "param_dtype": ({}, jnp.bfloat16),
    "vocabulary_size": (TOKEN, 10),
    "num_classes": ({}, 6),
}
VALUES = {
    "readout": ({}, "mean"),
    "residual": ({"hidden_size": 4}, True),
    "reset_after": ({"cell": "gru"}, False),
    "forget_bias": ({}, 0.0),
    "input_init": ({}, "small"),
    "recurrent_init": ({}, "identity"),
    "dtype": ({}, jnp.bfloat16),
}
DROPS = {
    "dropout": {"num_layers": 2},
    "input_dropout": {},
    "recurrent_dropout": {},
    "output_dropout": {},
}
# These change no number: test_recurrent.py.
SAME = {"unroll", "remat"}
OTHERS = {"variational", "parent", "name"}  # below; Flax's own


def test_no_switch_is_forgotten():
    fields = {field.name for field in dataclasses.fields(RecurrentNetwork)}
    assert fields == SIZES.keys() | VALUES.keys() | DROPS.keys() | SAME | OTHERS


def test_the_config_has_every_switch():
    made = {"num_classes", "vocabulary_size", "source_vocabulary", "target_vocabulary"}
    made |= {"dtype", "param_dtype", "parent", "name"}
    for model in SEQUENCE_MODELS.values():
        fields = {field.name for field in dataclasses.fields(model)}
        assert fields - made <= set(get_config().model)


@pytest.mark.parametrize("switch", SIZES)
def test_switches_of_size(switch):
    needs, value = SIZES[switch]
    assert sizes(**needs) != sizes(**needs | {switch: value})


@pytest.mark.parametrize("switch", VALUES)
def test_switches_of_value(switch):
    needs, value = VALUES[switch]
    one, two = (run(RecurrentNetwork(**SIDE | needs | more))[0] for more in ({}, {switch: value}))
    assert np.max(np.abs(one - two)) > 1e-4


@pytest.mark.parametrize("switch", DROPS)
def test_dropout_is_of_training_only(switch):
    model = RecurrentNetwork(**SIDE | DROPS[switch] | {switch: 0.5})
    outputs, _, variables = run(model)
    dropped = [
        model.apply(variables, INPUTS, LENGTHS, train=True, rngs={"dropout": jax.random.key(i)})[0]
        for i in (0, 1)
    ]
    assert np.max(np.abs(dropped[0] - dropped[1])) > 1e-4
    np.testing.assert_array_equal(outputs, model.apply(variables, INPUTS, LENGTHS)[0])


@pytest.mark.parametrize("variational", [False, True])
def test_variational_dropout_is_the_same_at_all_steps(variational):
    model = RecurrentNetwork(
        **SIDE, input_dropout=0.5, output_dropout=0.5, variational=variational, readout="steps"
    )
    ones = np.ones((3, 6, 8), np.float32)
    variables = model.init(jax.random.key(0), ones)
    _, endpoints = model.apply(variables, ones, train=True, rngs={"dropout": jax.random.key(0)})
    for name in ("embedded", "readout"):
        kept = np.asarray(endpoints[name]) != 0
        assert np.all(kept == kept[:, :1]) == variational


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("readout", READOUTS)
def test_readouts(readout, bidirectional):
    model = RecurrentNetwork(**SIDE, readout=readout, bidirectional=bidirectional)
    outputs, endpoints, variables = run(model)
    hidden = np.asarray(endpoints["layer1"])
    if readout == "last":  # each direction's own last step
        read = [
            np.concatenate([h[n - 1, :4], h[0, 4:]]) for h, n in zip(hidden, LENGTHS, strict=True)
        ]
    elif readout == "steps":
        read = hidden
    else:
        read = [getattr(np, readout)(h[:n], axis=0) for h, n in zip(hidden, LENGTHS, strict=True)]
    head = variables["params"]["head"]
    expected = np.stack(read) @ np.asarray(head["kernel"]) + np.asarray(head["bias"])
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)


def test_a_tied_output_is_the_embeddings_transpose():
    model = RecurrentNetwork(
        hidden_size=4, num_classes=9, vocabulary_size=9, tied=True, readout="steps"
    )
    outputs, endpoints, variables = run(model, TOKENS)
    embedding = np.asarray(variables["params"]["embedding"]["embedding"])
    np.testing.assert_allclose(endpoints["embedded"], embedding[TOKENS])
    np.testing.assert_allclose(outputs, endpoints["layer1"] @ embedding.T, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("switches", "inputs", "message"),
    [
        ({"readout": "first"}, INPUTS, r"model\.readout: found 'first'"),
        ({"tied": True}, INPUTS, r"model\.tied: found True with 5 outputs and None tokens"),
        (
            {"tied": True, "vocabulary_size": 5, "embedding_size": 3},
            TOKENS,
            r"model\.embedding_size: found 3 .* expected 4",
        ),
        ({"vocabulary_size": 9}, INPUTS, r"inputs: found float32\[3, 6, 4\]"),
        (
            {"vocabulary_size": 9},
            jnp.asarray(TOKENS).at[1, 2].set(9),
            r"inputs\[1, 2\]: found the id 9, expected from 0 to 8, in a vocabulary of 9",
        ),
        (
            {"vocabulary_size": 9},
            jnp.asarray(TOKENS).at[2, 0].set(-1),
            r"inputs\[2, 0\]: found the id -1",
        ),
        ({}, TOKENS, r"inputs: found shape \(3, 6\)"),
    ],
)
def test_what_cannot_be_is_said(switches, inputs, message):
    with pytest.raises(UserError, match=message):
        run(create_model("recurrent", **SIDE | switches), inputs)


def test_an_id_past_the_vocabulary_is_nan_inside_a_jit():
    model = RecurrentNetwork(hidden_size=4, vocabulary_size=9)
    variables = model.init(jax.random.key(0), TOKENS)
    outputs, _ = jax.jit(model.apply)(variables, jnp.asarray(TOKENS).at[1, 2].set(9))
    assert np.isnan(outputs[1]).all() and np.isfinite(outputs[0]).all()


def test_a_tied_model_has_no_place_for_features_beside():
    model = RecurrentNetwork(
        hidden_size=4, num_classes=9, vocabulary_size=9, tied=True, readout="steps"
    )
    with pytest.raises(UserError, match=r"model\.tied: found True with features beside"):
        model.init(jax.random.key(0), TOKENS, side=jnp.zeros((3, 2)))
