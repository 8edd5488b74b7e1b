import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.data.stream import Stream
from research.models.rnn.network import RecurrentNetwork
from research.tasks.language_model import LanguageModel

TOKENS = np.random.default_rng(0).integers(4, 12, 81).astype(np.int32)
WHOLE = Stream("text", TOKENS, 40)
CHUNKS = Stream("text", TOKENS, 10)
ROWS = 2


def task_of(cell="lstm", **fields):
    model = RecurrentNetwork(
        cell, 8, num_layers=2, num_classes=12, vocabulary_size=12, tied=True, readout="steps"
    )
    return LanguageModel(model, **fields)


def batches(stream):
    arrays = stream.rows(ROWS, whole=False).arrays()
    for i in range(0, len(arrays["length"]), ROWS):
        yield {k: v[i : i + ROWS] for k, v in arrays.items()} | {"mask": np.ones(ROWS, np.float32)}


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_chunks_with_a_carried_state_are_the_whole_text(cell):
    task, (whole,) = task_of(cell), batches(WHOLE)
    variables = task.init(jax.random.key(0), whole)
    expected, _ = task.evaluate(variables, whole)
    total, now = 0.0, variables
    for batch in batches(CHUNKS):
        sums, left = task.evaluate(now, batch)
        total, now = total + sums["loss"], now | left
    np.testing.assert_allclose(total, expected["loss"], rtol=1e-5)
    alone = sum(task.evaluate(variables, batch)[0]["loss"] for batch in batches(CHUNKS))
    assert abs(alone - total) > 1e-4  # each chunk by itself is another thing
    forgetful = task_of(cell, carried=False)
    assert np.isclose(
        sum(forgetful.evaluate(now, batch)[0]["loss"] for batch in batches(CHUNKS)), alone
    )


def test_a_row_that_starts_forgets_what_was_carried():
    task, (first, *_) = task_of(), batches(CHUNKS)
    variables = task.init(jax.random.key(0), first)
    full = jax.tree.map(jnp.ones_like, variables["carry"])
    first["start"] = np.array([True, False])
    fresh, carried = (
        task.evaluate(variables | {"carry": c}, first)[1]["carry"]["state"][0]
        for c in (variables["carry"], full)
    )
    np.testing.assert_array_equal(fresh[:, 0], carried[:, 0])
    assert np.all(fresh[:, 1] != carried[:, 1])


def test_no_gradient_flows_into_the_chunk_before():
    task, (first, second, *_) = task_of(), batches(CHUNKS)
    variables = task.init(jax.random.key(0), first)

    def both(params):
        _, (collections, _, _) = task.loss(
            {**variables, "params": params}, first, jax.random.key(0)
        )
        return task.loss({"params": params, **collections}, second, jax.random.key(0))[0]

    _, (left, sums, _) = task.loss(variables, first, jax.random.key(0))
    assert sums["count"] == 20

    def last(params):
        return task.loss({"params": params, **left}, second, jax.random.key(0))[0]

    for one, two in zip(
        *(jax.tree.leaves(jax.grad(f)(variables["params"])) for f in (both, last)), strict=True
    ):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-7)


def test_perplexity_and_bits():
    found = task_of().summarize({"loss": np.log(8.0)}, {}).metrics
    assert np.isclose(found["perplexity"], 8) and np.isclose(found["bits"], 3)
