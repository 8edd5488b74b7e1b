import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import optax

from research.train.optimizer import hyperparams
from research.train.program import batch_shapes, pure_functions
from research.train.state import TrainState, params_digest


def initial(config, dataset, seed=0):
    init, _, _ = pure_functions(config, dataset)
    return jax.jit(init)(jax.random.key(seed), hyperparams(config.optimizer))


def test_digest_is_of_the_bytes_in_path_order():
    a, b, c = np.float32([1, 2]), np.float64([[3]]), np.int32(4)
    expected = hashlib.sha256(a.tobytes() + b.tobytes() + c.tobytes()).hexdigest()
    assert params_digest({"z": c, "b": {"y": b, "x": a}}) == expected
    assert params_digest({"b": {"x": a, "y": b}, "z": c}) == expected


def test_digest_sees_a_single_bit():
    a = np.ones(1000, np.float32)
    b = a.copy()
    b[500] = np.nextafter(b[500], np.float32(2))
    assert params_digest({"a": a}) != params_digest({"a": b})


def test_initial_state(tiny, digits):
    config = tiny({"model.norm": "batch", "train.ema": 0.9, "optimizer.clip.kind": "value"})
    state = initial(config, digits)
    assert int(state.step) == 0
    assert set(state.collections) == {"batch_stats"}
    assert np.float32(optax.tree.get(state.opt_state, "learning_rate")) == np.float32(0.1)
    assert float(optax.tree.get(state.opt_state, "clip_threshold")) == 1.0
    jax.tree.map(np.testing.assert_array_equal, state.ema, state.params)
    # Weights and later draws must not come from the same bits.
    assert not np.array_equal(
        jax.random.key_data(state.key), jax.random.key_data(jax.random.key(0))
    )
    assert params_digest(initial(config, digits, 1).params) != params_digest(state.params)


def test_the_averaged_parameters_are_evaluated():
    state = TrainState(jnp.zeros((), jnp.int32), {"w": 1}, {"batch_stats": 2}, (), None)
    assert state.variables == {"params": {"w": 1}, "batch_stats": 2}
    assert state.replace(ema={"w": 3}).variables == {"params": {"w": 3}, "batch_stats": 2}


def test_precision_of_the_parameters(tiny, digits):
    for precision, dtype in (("bfloat16", "float32"), ("float32", "float32")):
        config = tiny({"train.precision": precision, "model.norm": "batch"})
        _, step, _ = pure_functions(config, digits)
        state = initial(config, digits)
        after, metrics = jax.eval_shape(step, state, batch_shapes(digits, 32))
        for part in (state.params, after.params, after.collections, after.opt_state):
            floats = [x for x in jax.tree.leaves(part) if jnp.issubdtype(x.dtype, jnp.floating)]
            assert {str(x.dtype) for x in floats} == {dtype}
        assert metrics["examples"]["loss"].dtype == jnp.float32
