"""Recurrent networks against torch, NumPy's steps and themselves in other forms."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import step_by_step
import torch_gradients
from jax.sharding import NamedSharding, PartitionSpec
from jax.test_util import check_grads

from research.config import UserError
from research.distributed.mesh import make_mesh
from research.models.rnn import Recurrent, check_lengths
from research.models.rnn import recurrent as module
from research.transfer import rnn_from_torch, rnn_to_torch

B, T, D, H = 3, 7, 4, 5
LENGTHS = np.array([7, 4, 1])

# Name of the steps in NumPy → switches.
CELLS = {
    "rnn": {},
    "rnn_relu": {},
    "rnn_sigmoid": {},
    "irnn": {},
    "lstm": {},
    "gru": {},
    "gru_before": {"cell": "gru", "reset_after": False},
    "min_gru": {},
    "min_lstm": {},
    "lru": {},
}
VARIANTS = [
    *CELLS.items(),
    ("lstm", {"peepholes": True}),
    ("rnn", {"layer_norm": True}),
    ("lstm", {"layer_norm": True, "peepholes": True}),
    ("gru", {"layer_norm": True}),
    ("gru_before", {"cell": "gru", "reset_after": False, "layer_norm": True}),
]
IDS = ["-".join([name, *switches]) for name, switches in VARIANTS]
PARALLEL = ("min_gru", "min_lstm", "lru")


def network(name, **switches):
    return Recurrent(**{"cell": name, "hidden_size": H} | switches)


def sequences(steps=T, batch=B, seed=0):
    return np.random.default_rng(seed).standard_normal((batch, steps, D)).astype(np.float32)


def variables_of(model, inputs, seed=0):
    """Random variables, none of them 0 or 1 as they start."""
    fresh = jax.jit(model.init)(jax.random.key(seed), inputs)
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda p: p + 0.3 * rng.standard_normal(p.shape).astype(np.float32), fresh)


def apply(model, *args, **options):
    """`model.apply`, compiled as one program, which is quicker than operation by operation."""
    return jax.jit(partial(model.apply, **options))(*args)


def pair(state):
    return state if isinstance(state, tuple) else (state,)


def total(outputs, endpoints, seed=0):
    """A loss in which every output and every final state counts differently."""
    rng = np.random.default_rng(seed)
    parts = (outputs, *pair(endpoints["final_state"]))
    return sum((jnp.abs(p + 0.1) * rng.standard_normal(p.shape)).sum() for p in parts)


@pytest.mark.parametrize(("name", "switches"), VARIANTS, ids=IDS)
def test_step_by_step(name, switches):
    model, inputs = network(name, **switches), sequences()
    variables = variables_of(model, inputs)
    outputs, endpoints = apply(model, variables, inputs, LENGTHS)
    assert outputs.dtype == jnp.float32
    layer_norm = switches.get("layer_norm", False)
    for b, length in enumerate(LENGTHS):
        params = variables["params"]["layer1_forward"]
        expected, state = step_by_step.run(
            name, params, inputs[b, :length], H, layer_norm=layer_norm
        )
        np.testing.assert_allclose(outputs[b, :length], expected, atol=1e-5, rtol=1e-4)
        assert (outputs[b, length:] == 0).all()
        for found, part in zip(pair(endpoints["final_state"]), state, strict=True):
            np.testing.assert_allclose(found[0, b], part, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("cell", torch_gradients.CELLS)
def test_gradients_of_torch(cell):
    with np.load(torch_gradients.FILE) as file:
        record = {k.removeprefix(f"{cell}/"): file[k] for k in file if k.startswith(f"{cell}/")}
    expected, of_inputs = record.pop("outputs"), record.pop("inputs")
    hidden = torch_gradients.HIDDEN
    state = {k: torch_gradients.draw(k, v.shape) / np.sqrt(hidden) for k, v in record.items()}
    model = Recurrent(cell, hidden, num_layers=torch_gradients.LAYERS, bidirectional=True)

    def loss(variables, inputs):
        outputs, endpoints = model.apply(variables, inputs, torch_gradients.LENGTHS)
        final = pair(endpoints["final_state"])
        parts = {"outputs": outputs, "h": final[0], "c": final[-1]}
        return sum((p * torch_gradients.weight(k)).sum() for k, p in parts.items()), outputs

    inputs = torch_gradients.INPUTS.astype(np.float32)
    gradient = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))
    (_, outputs), (gradients, found) = gradient(rnn_from_torch(state), inputs)
    np.testing.assert_allclose(outputs, expected, atol=1e-5)
    np.testing.assert_allclose(found, of_inputs, atol=1e-4)
    gradients = rnn_to_torch(gradients)
    assert gradients.keys() == record.keys()
    for name, its in record.items():
        np.testing.assert_allclose(gradients[name], its, atol=1e-4, rtol=1e-4, err_msg=name)


@pytest.mark.parametrize(
    ("name", "switches"),
    [*CELLS.items(), ("lstm", {"layer_norm": True}), ("gru", {"batch_norm": True})],
    ids=str,
)
def test_padding_changes_nothing(name, switches):
    """Longer padding, with anything in it: the same results and gradients, and none of its own."""
    model = network(name, bidirectional=True, **switches)
    inputs = sequences()
    mask = np.arange(T) < LENGTHS[:, None]
    variables = variables_of(model, inputs)
    bad = np.full((B, T + 3, D), np.nan, np.float32)
    bad[:, :T][mask] = inputs[mask]
    bad[1, 5] = np.inf

    def loss(params, inputs):
        (outputs, endpoints), _ = model.apply(
            variables | {"params": params}, inputs, LENGTHS, train=True, mutable=["batch_stats"]
        )
        return total(outputs[:, :T], endpoints), (outputs, endpoints["final_state"])

    gradient = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))
    (_, one), of_one = gradient(variables["params"], inputs)
    (_, other), of_other = gradient(variables["params"], bad)
    assert (other[0][:, T:] == 0).all()
    np.testing.assert_allclose(other[0][:, :T], one[0], atol=1e-6, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), one[1], other[1])
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5, rtol=1e-4), of_one[0], of_other[0]
    )
    assert (of_other[1][:, T:] == 0).all() and (of_other[1][:, :T][~mask] == 0).all()
    np.testing.assert_allclose(of_other[1][:, :T], of_one[1], atol=2e-5, rtol=1e-4)
    if "batch_norm" in switches:  # a batch's sequences see each other
        return
    b, length = 1, LENGTHS[1]  # alone, without any padding
    alone, endpoints = apply(model, variables, inputs[b : b + 1, :length])
    np.testing.assert_allclose(one[0][b, :length], alone[0], atol=1e-6, rtol=1e-5)
    for ours, its in zip(pair(one[1]), pair(endpoints["final_state"]), strict=True):
        np.testing.assert_allclose(ours[:, b : b + 1], its, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", CELLS)
def test_both_directions(name):
    """The backward outputs are those of the other direction's parameters on reversed sequences."""
    both, one = (network(name, bidirectional=b, **CELLS[name]) for b in (True, False))
    inputs = sequences()
    variables = variables_of(both, inputs)
    outputs, endpoints = apply(both, variables, inputs)
    for i, direction in enumerate(("forward", "backward")):
        params = {"params": {"layer1_forward": variables["params"][f"layer1_{direction}"]}}
        order = slice(None, None, -1 if i else 1)
        alone, its = apply(one, params, inputs[:, order])
        np.testing.assert_allclose(outputs[..., i * H : (i + 1) * H], alone[:, order], atol=1e-6)
        for a, b in zip(pair(endpoints["final_state"]), pair(its["final_state"]), strict=True):
            np.testing.assert_allclose(a[i], b[0], atol=1e-6)


@pytest.mark.parametrize("name", ["lstm", "gru_before"])
def test_derivatives_in_both_modes_and_of_second_order(name):
    with jax.enable_x64(True):
        switches = CELLS[name] | ({"peepholes": True} if name == "lstm" else {})
        model = network(name, dtype=jnp.float64, param_dtype=jnp.float64, **switches)
        inputs = sequences(3, 2).astype(np.float64)
        variables = variables_of(model, inputs)

        def loss(variables, inputs):
            outputs, endpoints = model.apply(variables, inputs, np.array([3, 2]))
            return (outputs**2).sum() + sum((p**3).sum() for p in pair(endpoints["final_state"]))

        check_grads(
            jax.jit(loss), (variables, inputs), order=2, modes=("fwd", "rev"), atol=1e-5, rtol=1e-5
        )


@pytest.mark.parametrize("name", CELLS)
def test_a_state_is_carried_on(name):
    model, inputs = network(name, num_layers=2, **CELLS[name]), sequences()
    variables = variables_of(model, inputs)
    outputs, endpoints = apply(model, variables, inputs)
    first, middle = apply(model, variables, inputs[:, :3])
    second, end = apply(model, variables, inputs[:, 3:], initial_state=middle["final_state"])
    np.testing.assert_allclose(jnp.concatenate((first, second), 1), outputs, atol=2e-6)
    for a, b in zip(pair(end["final_state"]), pair(endpoints["final_state"]), strict=True):
        assert a.shape == (2, B, H)
        np.testing.assert_allclose(a, b, atol=2e-6)
    given = jax.tree.map(lambda s: s + 0.5, middle["final_state"])
    _, end = apply(model, variables, inputs, LENGTHS * 0 + 1, given)
    _, one = apply(model, variables, inputs[:, :1], initial_state=given)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
        end["final_state"],
        one["final_state"],
    )


@pytest.mark.parametrize(
    ("name", "switches"),
    [
        ("lstm", {"bidirectional": True}),
        ("gru", {"layer_norm": True}),
        ("rnn", {"batch_norm": True}),
    ],
    ids=str,
)
def test_remat_and_unroll_change_no_number(name, switches):
    steps = 11  # 3 segments of 3 and one of 2
    inputs, lengths = sequences(steps), np.array([11, 10, 2])
    plain = network(name, **switches)
    variables = variables_of(plain, inputs)

    def value(model):
        def loss(params, inputs):
            (outputs, endpoints), _ = model.apply(
                variables | {"params": params}, inputs, lengths, train=True, mutable=["batch_stats"]
            )
            return total(outputs, endpoints)

        return jax.jit(jax.value_and_grad(loss, (0, 1)))(variables["params"], inputs)

    expected = value(plain)
    for changed in (plain.clone(remat=True), plain.clone(unroll=3)):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5, rtol=1e-5),
            value(changed),
            expected,
        )


def test_remat_takes_less_memory():
    def temporary(steps, remat):
        model = Recurrent("lstm", 32, remat=remat)
        inputs = jax.ShapeDtypeStruct((4, steps, 2), jnp.float32)
        variables = jax.eval_shape(model.init, jax.random.key(0), inputs)

        def loss(variables, inputs):
            return (model.apply(variables, inputs)[1]["final_state"][0] ** 2).sum()

        compiled = jax.jit(jax.grad(loss)).lower(variables, inputs).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    whole = [temporary(steps, False) for steps in (256, 1024)]
    segments = [temporary(steps, True) for steps in (256, 1024)]
    assert whole[1] > 3.5 * whole[0]
    assert segments[1] < whole[1] / 5
    hidden_and_inputs = 4 * 4 * (32 + 2)  # bytes of a step that do stay
    assert segments[1] - segments[0] < 0.2 * (whole[1] - whole[0]) + 768 * 2 * hidden_and_inputs


def test_a_sharded_batch():
    model = network("lstm", num_layers=2, bidirectional=True)
    inputs, lengths = sequences(batch=16), np.arange(16) % T + 1
    variables = variables_of(model, inputs)
    apply = jax.jit(lambda *args: model.apply(*args))
    gradient = jax.jit(jax.grad(lambda *args: total(*model.apply(*args))))
    expected, of_one = apply(variables, inputs, lengths), gradient(variables, inputs, lengths)
    mesh = make_mesh(jax.devices())
    assert mesh.size == 8
    batch = NamedSharding(mesh, PartitionSpec("data"))
    sharded = [jax.device_put(x, batch) for x in (inputs, lengths)]
    everywhere = jax.device_put(variables, NamedSharding(mesh, PartitionSpec()))
    found, of_eight = apply(everywhere, *sharded), gradient(everywhere, *sharded)
    assert len(found[0].sharding.device_set) == 8
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found, expected)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-3), of_eight, of_one)


@pytest.mark.parametrize("name", CELLS)
def test_bfloat16(name):
    model, inputs = network(name, num_layers=2, **CELLS[name]), sequences()
    variables = variables_of(model, inputs)
    half = model.clone(dtype=jnp.bfloat16)
    outputs, endpoints = apply(half, variables, inputs, LENGTHS)
    assert outputs.dtype == jnp.bfloat16
    if name == "lstm":
        assert endpoints["final_state"][1].dtype == jnp.float32
    expected, _ = apply(model, variables, inputs, LENGTHS)
    np.testing.assert_allclose(outputs.astype(np.float32), expected, atol=0.03, rtol=0.05)
    gradient = jax.jit(
        jax.grad(lambda v: total(*half.apply(v, inputs, LENGTHS)).astype(jnp.float32))
    )
    for leaf in jax.tree.leaves(gradient(variables)):
        assert leaf.dtype == jnp.float32 and np.isfinite(leaf).all() and leaf.any()


def copier(**switches):
    """Two layers that each pass on their input, so that outputs are what dropout left of 1."""
    model = Recurrent("rnn_relu", 40, num_layers=2, **switches)
    layer = {
        "input_kernel": jnp.eye(40),
        "input_bias": jnp.zeros(40),
        "recurrent_kernel": jnp.zeros((40, 40)),
        "recurrent_bias": jnp.zeros(40),
    }
    return model, {"params": {"layer1_forward": layer, "layer2_forward": dict(layer)}}


@pytest.mark.parametrize("variational", [False, True])
def test_dropout_between_layers(variational):
    model, variables = copier(dropout=0.25, variational=variational)
    ones = jnp.ones((8, 6, 40))

    @jax.jit
    def trained(key):
        return model.apply(variables, ones, train=True, rngs={"dropout": key})

    outputs, endpoints = trained(jax.random.key(0))
    assert (endpoints["layer1"] == 1).all()
    values = np.unique(outputs)
    np.testing.assert_allclose(values, [0, 1 / 0.75], rtol=1e-6)
    assert (outputs == 0).mean() == pytest.approx(0.25, abs=0.05)
    assert (outputs == outputs[:, :1]).all() == variational
    assert (outputs != outputs[:1]).any() and (outputs != trained(jax.random.key(1))[0]).any()
    assert (model.apply(variables, ones)[0] == 1).all()


def test_recurrent_dropout_is_the_same_at_all_steps():
    model, variables = copier(recurrent_dropout=0.5)
    eye = {"recurrent_kernel": jnp.eye(40)}
    variables["params"]["layer1_forward"] |= eye
    ones = jnp.ones((8, 4, 40))
    _, endpoints = apply(model, variables, ones, train=True, rngs={"dropout": jax.random.key(0)})
    h = np.asarray(endpoints["layer1"])  # h' = 1 + 2h where U sees the unit, 1 where it does not
    seen = h[:, -1] > 1
    assert 0.4 < seen.mean() < 0.6
    np.testing.assert_array_equal(h, np.where(seen[:, None], [[[1], [3], [7], [15]]], 1))
    _, endpoints = apply(model, variables, ones)
    np.testing.assert_array_equal(endpoints["layer1"][0, :, 0], [1, 2, 3, 4])


def test_residual_layers_and_endpoints():
    model, inputs = network("gru", num_layers=3, residual=True, hidden_size=H), sequences()
    variables = variables_of(model, inputs)
    outputs, endpoints = apply(model, variables, inputs, LENGTHS)
    assert endpoints.keys() == {"layer1", "layer2", "layer3", "final_state"}
    np.testing.assert_array_equal(outputs, endpoints["layer3"])
    one = network("gru")
    hidden = inputs
    for i in (1, 2, 3):
        params = {"layer1_forward": variables["params"][f"layer{i}_forward"]}
        above, _ = apply(one, {"params": params}, hidden, LENGTHS)
        hidden = above if i == 1 else hidden + above  # the first is wider than its input
        np.testing.assert_allclose(endpoints[f"layer{i}"], hidden, atol=1e-6)


def test_batch_norm_counts_the_steps_of_sequences_only():
    model, inputs = network("rnn", batch_norm=True), sequences()
    variables = variables_of(model, inputs)
    _, updates = model.apply(variables, inputs, LENGTHS, train=True, mutable=["batch_stats"])
    mask = np.arange(T) < LENGTHS[:, None]
    projected = inputs[mask] @ variables["params"]["layer1_forward"]["input_kernel"]
    old, new = (v["batch_stats"]["layer1_forward"]["norm"] for v in (variables, updates))
    np.testing.assert_allclose(
        new["mean"], 0.9 * old["mean"] + 0.1 * projected.mean(0), atol=1e-6, rtol=1e-5
    )
    np.testing.assert_allclose(
        new["var"], 0.9 * old["var"] + 0.1 * projected.var(0), atol=1e-6, rtol=1e-5
    )


def test_gates_are_recorded_on_demand():
    inputs = sequences()
    for name in ("lstm", "gru", "min_gru", "min_lstm"):
        model = network(name, bidirectional=True)
        variables = variables_of(model, inputs)
        outputs, plain = apply(model, variables, inputs, LENGTHS)
        again, endpoints = apply(model, variables, inputs, LENGTHS, record=True)
        np.testing.assert_array_equal(outputs, again)
        gates = {k: v for k, v in endpoints.items() if k not in plain}
        assert gates and all(k.startswith("layer1_") for k in gates)
        for gate, value in gates.items():
            assert value.shape == (B, T, H) and (value[2, 1:] == 0).all()
            if gate.endswith("gate"):
                assert value[0].min() > 0 and value[0].max() < 1
        if name == "lstm":
            last = endpoints["layer1_forward/cell"][np.arange(B), LENGTHS - 1]
            np.testing.assert_array_equal(last, endpoints["final_state"][1][0])


@pytest.mark.parametrize("name", ["lstm", "gru", "min_gru"])
def test_the_gradient_by_a_hidden_state(name):
    """∂loss/∂h_t is the gradient by the initial state of what comes after step t."""
    model, inputs = network(name), sequences()
    variables = variables_of(model, inputs)

    def loss(inputs, state=None, nudge=None):
        nudged = {} if nudge is None else {"perturbations": {"layer1_forward": nudge}}
        outputs, _ = model.apply(variables | nudged, inputs, initial_state=state)
        return (outputs[:, -1] ** 2).sum()

    found = jax.jit(jax.grad(lambda nudge: loss(inputs, nudge=nudge)))(jnp.zeros((B, T, H)))
    for t in (0, 3):
        _, middle = model.apply(variables, inputs[:, : t + 1])
        state = middle["final_state"]
        expected = pair(jax.grad(lambda s: loss(inputs[:, t + 1 :], s))(state))[0][0]  # noqa: B023
        np.testing.assert_allclose(found[:, t], expected, atol=1e-6, rtol=1e-4)


def test_how_parameters_start():
    inputs = sequences()

    def init(name, **switches):
        model = network(name, hidden_size=64, **switches)
        return jax.jit(model.init)(jax.random.key(0), inputs)

    lstm = init("lstm")["params"]["layer1_forward"]
    biases = np.split(lstm["input_bias"], 4)
    assert [b.mean() for b in biases] == [0, 1, 0, 0] and not lstm["recurrent_bias"].any()
    assert init("lstm", forget_bias=-2.0)["params"]["layer1_forward"]["input_bias"].sum() == -128
    kernels = np.split(np.asarray(lstm["recurrent_kernel"]), 4, axis=1)
    for u in kernels:
        np.testing.assert_allclose(u @ u.T, np.eye(64), atol=1e-5)
    assert np.abs(kernels[0] - kernels[1]).max() > 0.1
    bound = np.sqrt(6 / (D + 64))  # Glorot's, of each gate by itself
    assert 0.9 * bound < np.abs(lstm["input_kernel"]).max() <= bound
    irnn = init("irnn")["params"]["layer1_forward"]
    np.testing.assert_array_equal(irnn["recurrent_kernel"], np.eye(64))
    assert irnn["input_kernel"].std() == pytest.approx(0.001, rel=0.2)
    lru = init("lru")["params"]["layer1_forward"]
    size = np.exp(-np.exp(lru["nu"]))
    assert 0.9 <= size.min() < 0.93 and 0.99 < size.max() <= 0.999
    np.testing.assert_allclose(np.exp(lru["gamma"]), np.sqrt(1 - size**2), rtol=1e-3)
    switched = init("gru", recurrent_init="identity", input_init="zeros", use_bias=False)
    gru = switched["params"]["layer1_forward"]
    assert gru.keys() == {"input_kernel", "recurrent_kernel"} and not gru["input_kernel"].any()


def test_seeds_side_by_side():
    model, inputs = network("gru"), sequences()
    seeds = [variables_of(model, inputs, seed) for seed in (0, 1)]
    both = jax.tree.map(lambda *leaves: jnp.stack(leaves), *seeds)
    gradient = jax.grad(lambda v: total(*model.apply(v, inputs, LENGTHS)))
    found = jax.jit(jax.vmap(gradient))(both)
    alone = [jax.jit(gradient)(variables) for variables in seeds]
    expected = jax.tree.map(lambda *leaves: jnp.stack(leaves), *alone)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found, expected)


@pytest.mark.parametrize(
    ("switches", "message"),
    [
        ({"cell": "lsmt"}, "model.cell: found 'lsmt'.*did you mean 'lstm'"),
        ({"hidden_size": 0}, "model.hidden_size: found 0"),
        ({"num_layers": 0}, "model.num_layers: found 0"),
        ({"dropout": 1.0}, r"model.dropout: found 1.0, expected a share in \[0, 1\)"),
        ({"recurrent_dropout": -0.1}, "model.recurrent_dropout"),
        ({"bidirectional": 2}, "model.bidirectional: found 2"),
        ({"unroll": 0}, "model.unroll: found 0"),
        ({"cell": "gru", "peepholes": True}, "model.peepholes: found True.*'gru'.*among lstm"),
        ({"cell": "rnn", "forget_bias": 0.0}, "model.forget_bias"),
        ({"cell": "lstm", "reset_after": False}, "model.reset_after"),
        ({"cell": "lru", "remat": True}, "model.remat: found True with model.cell='lru'"),
        ({"recurrent_init": "orthogonl"}, "model.recurrent_init.*did you mean 'orthogonal'"),
        ({"layer_norm": True, "batch_norm": True}, "model.batch_norm.*one norm at most"),
        ({"dtype": jnp.int32}, "model.dtype"),
    ],
    ids=str,
)
def test_switches_that_cannot_be(switches, message):
    with pytest.raises(UserError, match=message):
        network(**{"name": "lstm"} | switches)


def test_sequences_that_cannot_be():
    model, inputs = network("lstm"), jnp.asarray(sequences())
    variables = model.init(jax.random.key(0), inputs)

    def refused(message, *args):
        with pytest.raises(UserError, match=message):
            model.apply(variables, *args)

    refused("inputs: found shape .*expected .B, T, D.", inputs[0])
    refused("sequences of no steps", inputs[:, :0])
    refused(r"lengths\[1\]: found 0, expected from 1 to T = 7", inputs, np.array([7, 0, -1]))
    refused(r"lengths\[2\]: found 8, expected from 1 to T = 7", inputs, jnp.array([7, 1, 8]))
    refused(r"lengths: found int.*\[2\], expected .*int\[3\]", inputs, np.array([1, 1]))
    refused(r"lengths: found \[1, 1, 1\], expected an array", inputs, [1, 1, 1])
    refused(r"lengths: found float", inputs, np.array([1.0, 1.0, 1.0]))
    refused(r"initial_state: found shapes .*a pair \(h, c\)", inputs, None, jnp.zeros((1, B, H)))
    refused(r"= \[1, 3, 5\]", inputs, None, (jnp.zeros((1, B, H)), jnp.zeros((2, B, H))))
    with pytest.raises(UserError, match="longer"):
        check_lengths(np.array([3, 9]), 2, 8)


@pytest.mark.parametrize("name", ["lstm", "lru"])
def test_lengths_that_are_traced(name):
    """Nobody sees them: 0 keeps the initial state and has no outputs, more than T is T."""
    model, inputs = network(name), sequences()
    variables = variables_of(model, inputs)
    apply = jax.jit(lambda lengths, state: model.apply(variables, inputs, lengths, state))
    _, plain = model.apply(variables, inputs)
    state = jax.tree.map(lambda s: s * 0 + 0.5, plain["final_state"])
    outputs, endpoints = apply(np.array([0, 99, 3]), state)
    expected, its = model.apply(variables, inputs, np.array([1, 7, 3]), state)
    assert (outputs[0] == 0).all()
    np.testing.assert_allclose(outputs[1:], expected[1:], atol=1e-6)
    finals = map(pair, (endpoints["final_state"], state, its["final_state"]))
    for found, old, new in zip(*finals, strict=True):
        np.testing.assert_array_equal(found[:, 0], old[:, 0])
        np.testing.assert_allclose(found[:, 1:], new[:, 1:], atol=1e-6)
    with pytest.raises(UserError, match="lengths"):
        apply(np.array([1.0, 1.0, 1.0]), state)


@pytest.mark.parametrize("steps", [64, 67])
def test_long_sequences_go_in_segments_and_nothing_changes(steps, monkeypatch):
    """On a CPU; outputs, final states and gradients are those of one scan over all steps."""
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(3, steps, 4)).astype(np.float32)
    lengths = np.array([steps, 9, 40], np.int32)
    model = Recurrent("lstm", 5, bidirectional=True)
    variables = model.init(jax.random.key(0), inputs[:, :4])
    found = []
    for long in (64, 1000):
        monkeypatch.setattr(module, "LONG", long)

        def loss(variables, inputs):
            outputs, endpoints = model.apply(variables, inputs, lengths)
            return (outputs**2).sum(), (outputs, endpoints["final_state"])

        jaxpr = str(jax.make_jaxpr(loss)(variables, inputs))
        found.append(
            (jaxpr.count("scan["), jax.grad(loss, (0, 1), has_aux=True)(variables, inputs))
        )
    (segmented, one), (whole, other) = found
    assert segmented > whole
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), one, other)
