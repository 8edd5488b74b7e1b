"""Recurrent modules of torch: what they computed, their names, and state dicts that do not fit.

`ABLATE_ORACLES` names a folder of `rnn_*.npz`: the names and shapes of a state dict, and what it
computed of packed sequences once refilled from its names.
"""

import ast
import os
import zlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.config import UserError
from research.models.rnn import Recurrent
from research.transfer import rnn_from_torch, rnn_to_torch

ORACLES = ("rnn_rnn1", "rnn_lstm1bi", "rnn_lstm2", "rnn_gru2bi")


def refill(name, shape):
    """A tensor whose every number follows from its name."""
    draw = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
    return (draw / np.sqrt(11)).astype(np.float32)


@pytest.mark.skipif("ABLATE_ORACLES" not in os.environ, reason="ABLATE_ORACLES is not set")
@pytest.mark.parametrize("oracle", ORACLES)
def test_outputs_and_final_states(oracle):
    with np.load(Path(os.environ["ABLATE_ORACLES"]) / f"{oracle}.npz") as file:
        record = {key: file[key] for key in file.files}
    shapes = [ast.literal_eval(shape) for shape in record["shapes"].tolist()]
    state = {n: refill(n, s) for n, s in zip(record["names"].tolist(), shapes, strict=True)}
    variables = rnn_from_torch(state)
    model = Recurrent(
        str(record["cell"]).lower(),
        11,
        num_layers=int(record["layers"]),
        bidirectional=bool(record["bidirectional"]),
    )
    inputs = np.random.RandomState(0).standard_normal((4, 9, 7)).astype(np.float32)
    outputs, endpoints = model.apply(variables, inputs, record["lengths"])
    np.testing.assert_allclose(outputs, record["outputs"], atol=1e-5)
    for b, length in enumerate(record["lengths"]):
        assert (outputs[b, length:] == 0).all()
    final = endpoints["final_state"]
    final = final if isinstance(final, tuple) else (final,)
    expected = [record[name] for name in ("final_h", "final_c") if name in record]
    for ours, its in zip(final, expected, strict=True):
        np.testing.assert_allclose(ours, its, atol=1e-5)

    back = rnn_to_torch(variables)
    assert back.keys() == state.keys()
    for name, tensor in state.items():
        np.testing.assert_array_equal(back[name], tensor, name)


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("use_bias", [False, True])
def test_the_variables_are_those_of_the_network(cell, bidirectional, use_bias):
    model = Recurrent(cell, 5, num_layers=3, bidirectional=bidirectional, use_bias=use_bias)
    fresh = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 2, 3)))
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda p: rng.standard_normal(p.shape).astype(np.float32), fresh)
    state = rnn_to_torch(variables)
    assert len(state) == 3 * (1 + bidirectional) * 2 * (1 + use_bias)
    assert state["weight_ih_l2"].shape[1] == 5 * (1 + bidirectional)
    wrapped = {f"module.{name}": tensor for name, tensor in state.items()}
    for given in (state, wrapped):
        jax.tree.map(np.testing.assert_array_equal, rnn_from_torch(given), variables)
    double = rnn_from_torch({k: v.astype(np.float64) for k, v in state.items()}, jnp.bfloat16)
    assert {leaf.dtype for leaf in jax.tree.leaves(double)} == {jnp.dtype(jnp.bfloat16)}


def lstm():
    """A state dict of a torch.nn.LSTM(3, 5, num_layers=2)."""
    shapes = {"weight_ih_l0": (20, 3), "weight_hh_l0": (20, 5), "weight_ih_l1": (20, 5)}
    shapes |= {"weight_hh_l1": (20, 5)}
    shapes |= {f"bias_{side}_l{layer}": (20,) for side in ("ih", "hh") for layer in (0, 1)}
    return {name: refill(name, shape) for name, shape in shapes.items()}


def without(name, **more):
    return {k: v for k, v in lstm().items() if k != name} | more


@pytest.mark.parametrize(
    ("state", "messages"),
    [
        (without("weight_hh_l1"), [r"of a torch.nn.LSTM\n", r"missing: weight_hh_l1 \[20, 5\]"]),
        (without("bias_hh_l0"), [r"missing: bias_hh_l0 \[20\]"]),
        (
            without("weight_ih_l1", weight_ih_1=np.zeros((20, 5))),
            [
                r"missing: weight_ih_l1 \[20, 5\]; nearest: weight_ih_1 \[20, 5\]",
                r"too many: weight_ih_1 \[20, 5\]; nearest: weight_ih_l1 \[20, 5\]",
            ],
        ),
        (
            lstm() | {"bias_ih_l1": np.zeros(21)},
            [r"misshapen: bias_ih_l1: found \[21\], expected \[20\]"],
        ),
        (lstm() | {"head.weight": np.zeros((2, 5))}, [r"too many: head.weight \[2, 5\]"]),
        (lstm() | {"weight_hr_l0": np.zeros((2, 5))}, ["too many: weight_hr_l0.*of proj_size"]),
        (
            lstm() | {"weight_ih_l1_reverse": np.zeros((20, 5))},
            [r"missing: weight_hh_l0_reverse", r"missing: bias_ih_l1_reverse"],
        ),
        (without("weight_hh_l0"), ["found weight_hh_l0 missing among weight_ih_l0, "]),
        (lstm() | {"weight_hh_l0": np.zeros((10, 5))}, [r"found weight_hh_l0 \[10, 5\]"]),
        ({"lstm." + k: v for k, v in lstm().items()}, ["weight_hh_l0 missing.*torch.nn.RNN, LSTM"]),
        ({}, ["among no tensors"]),
        ([1, 2], ["found a list, expected a mapping"]),
    ],
    ids=range(12),
)
def test_state_dicts_that_do_not_fit(state, messages):
    with pytest.raises(UserError) as error:
        rnn_from_torch(state)
    for message in messages:
        assert error.match(f"(?s){message}")


def test_what_torch_does_not_have():
    for switches in ({"cell": "lstm", "peepholes": True}, {"cell": "min_gru"}):
        model = Recurrent(hidden_size=2, **switches)
        with pytest.raises(UserError, match="no counterpart of params/layer1_forward"):
            rnn_to_torch(model.init(jax.random.key(0), jnp.zeros((1, 2, 3))))
