"""Streams of tokens: what is next to what, what is a target, resumption; and padded arrays."""

import itertools
import pickle

import jax
import numpy as np
import pytest

from research.config import UserError
from research.data.arrays import Arrays, padded, steps_of
from research.data.feed import evaluation_batches, make_feed
from research.data.stream import Stream
from research.distributed.mesh import batch_sharding, make_mesh

KINDS = ["resident", "streaming"]


def taken(batches, count=None):
    found = [jax.device_get(batch) for batch in itertools.islice(batches, count)]
    batches.close()
    return found


def text(size, seed=0):
    """Tokens that differ from their neighbours, none of them 0."""
    return np.random.default_rng(seed).permutation(size).astype(np.int32) + 1


@pytest.mark.parametrize("kind", KINDS)
def test_training_rows_go_on_where_they_ended(mesh, kind):
    tokens, batch, chunk = text(1003), 4, 7
    options = {"kind": kind, "batch_size": batch, "seed": 3, "sharding": batch_sharding(mesh)}
    steps = (1002 // batch) // chunk
    batches = taken(make_feed(Stream("t", tokens, chunk), **options), 2 * steps + 1)
    for epoch in (0, steps):
        pass_ = batches[epoch : epoch + steps]
        for row in range(batch):
            begin = row * (1002 // batch)
            inputs = np.concatenate([b["inputs"][row] for b in pass_])
            np.testing.assert_array_equal(inputs, tokens[begin : begin + steps * chunk])
            targets = np.concatenate([b["targets"][row] for b in pass_])
            np.testing.assert_array_equal(targets, tokens[begin + 1 : begin + 1 + steps * chunk])
    for step, b in enumerate(batches):
        assert (b["length"] == chunk).all() and b["mask"].all()
        assert b["start"].dtype == bool and (b["start"] == (step % steps == 0)).all()
    # A pure function of the step: resuming needs no state.
    resumed = taken(make_feed(Stream("t", tokens, chunk), start=steps - 1, **options), 3)
    for one, other in zip(resumed, batches[steps - 1 :], strict=False):
        for name in other:
            np.testing.assert_array_equal(one[name], other[name])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("size", "batch"), [(1003, 4), (1000, 8), (9, 4), (30, 8), (3, 8)])
def test_evaluation_predicts_each_token_once(kind, size, batch):
    tokens, sharding = text(size), batch_sharding(make_mesh(jax.devices()[:4]))
    feed = evaluation_batches(
        Stream("t", tokens, 7), batch_size=batch, sharding=sharding, kind=kind
    )
    seen, last = [], None
    for step, b in enumerate(taken(feed)):
        real = np.arange(7) < b["length"][:, None]
        assert not b["inputs"][~real].any() and not b["targets"][~real].any()
        assert (b["start"] == (step == 0)).all()
        pairs = zip(b["inputs"][real], b["targets"][real], strict=True)
        seen += pairs
        if last is not None:  # what follows is what was predicted last
            goes_on = b["length"] > 0
            np.testing.assert_array_equal(b["inputs"][goes_on, 0], last[goes_on])
        last = b["targets"][:, -1]
    assert sorted(seen) == sorted(zip(tokens[:-1].tolist(), tokens[1:].tolist(), strict=True))


def test_a_stream_is_a_split_of_chunks(mesh):
    stream = Stream("t", text(100), 10)
    whole = stream.arrays()
    assert len(stream) == 9 and {n: (a.shape[1:], a.dtype) for n, a in whole.items()} == stream.spec
    assert stream.nbytes == sum(a.nbytes for a in whole.values())
    np.testing.assert_array_equal(whole["targets"][:, :-1], whole["inputs"][:, 1:])
    assert pickle.loads(pickle.dumps(stream)).digest() == stream.digest()
    assert Stream("t", text(100, seed=1), 10).digest() != stream.digest()
    with pytest.raises(UserError, match=r"data\.batch_size: found 10, expected 1 to 9"):
        make_feed(stream, kind="auto", batch_size=10, seed=0, sharding=batch_sharding(mesh))


def test_arrays_are_padded_and_shuffled_as_images_are(mesh):
    rng = np.random.default_rng(0)
    ragged = [rng.normal(size=(n, 3)).astype(np.float32) for n in rng.integers(1, 9, 20)]
    inputs, length = padded("p", ragged, steps_of("p", 0, {"train": ragged}))
    assert inputs.shape == (20, max(map(len, ragged)), 3) and length.dtype == np.int32
    for row, size, sequence in zip(inputs, length, ragged, strict=True):
        np.testing.assert_array_equal(row[:size], sequence)
        assert not row[size:].any()
    cut, kept = padded("p", ragged, 4)
    np.testing.assert_array_equal(cut, inputs[:, :4])
    np.testing.assert_array_equal(kept, np.minimum(length, 4))
    parts = {"train": ragged[:9], "test": ragged[9:]}
    assert steps_of("p", 4, parts) == 4 and steps_of("p", 99, parts) == inputs.shape[1]
    flag = np.arange(20) % 2 == 0
    split = Arrays("p", {"inputs": inputs, "length": length, "flag": flag})
    options = {"batch_size": 16, "sharding": batch_sharding(mesh)}
    for kind in KINDS:
        (batch,) = taken(make_feed(split, kind=kind, seed=5, **options), 1)
        order = [int(np.flatnonzero((inputs == row).all((1, 2)))[0]) for row in batch["inputs"]]
        assert len({*order}) == 16 and order != sorted(order)
        np.testing.assert_array_equal(batch["flag"], flag[order])
        last = taken(evaluation_batches(split, kind=kind, **options))[1]
        assert last["flag"].dtype == bool and last["mask"].sum() == 4
        assert not last["flag"][4:].any() and not last["length"][4:].any()
    assert split.part([3, 1]).digest() != split.part([1, 3]).digest() == split.part([1, 3]).digest()


def test_what_cannot_be_padded():
    good = np.ones((3, 2), np.float32)
    with pytest.raises(UserError, match=r"p: sequence 1 is empty"):
        padded("p", [good, good[:0]], 3)
    bad = good.copy()
    bad[2, 1] = np.nan
    with pytest.raises(UserError, match=r"p: sequence 1 holds nan at step 2, channel 1"):
        padded("p", [good, bad], 3)
