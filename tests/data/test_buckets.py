"""Buckets: batches of sequences of about one length, cut to fit."""

import itertools
from collections import Counter

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec, SingleDeviceSharding

from research.config import UserError
from research.data.arrays import Arrays
from research.data.buckets import Buckets
from research.data.dataset import Options
from research.data.feed import make_feed, padding_share
from research.data.sequences import load
from research.train.program import for_each_length


@pytest.fixture(scope="module")
def pairs():
    return load("toy/translation", Options()).train


def take(split, count, *, buckets, seed=0, start=0, kind="resident", sharding=None):
    sharding = sharding or SingleDeviceSharding(jax.devices()[0])
    options = {"kind": kind, "batch_size": 32, "seed": seed, "sharding": sharding}
    feed = make_feed(split, buckets=buckets, start=start, **options)
    taken = [jax.device_get(batch) for batch in itertools.islice(feed, count)]
    feed.close()
    return taken


def examples(batches):
    """Return how often each pair came, as its tokens without padding."""
    return Counter(
        (tuple(i[:m]), tuple(t[:n]))
        for b in batches
        for i, m, t, n in zip(
            *(b[k] for k in ("inputs", "length", "targets", "target_length")), strict=True
        )
    )


def padding(batches):
    """Return the share of the steps read that is padding."""
    read = sum(b["inputs"].size + b["targets"].size for b in batches)
    return 1 - sum(b["length"].sum() + b["target_length"].sum() for b in batches) / read


def test_the_same_examples_with_less_padding(pairs):
    window = len(pairs) // 32  # fewer than the 32 batches that are sorted among themselves
    plain, grouped = (take(pairs, window, buckets=n) for n in (1, 6))
    assert examples(plain) == examples(grouped)
    assert padding(grouped) < padding(plain) / 2
    lengths = [b["inputs"].shape[1] for b in grouped]
    assert len(set(lengths)) > 1 and lengths != sorted(lengths)
    for batch in grouped:
        assert np.all(batch["length"] <= batch["inputs"].shape[1])
        assert np.all(batch["target_length"] <= batch["targets"].shape[1])


def test_the_order_is_a_function_of_seed_and_step(pairs):
    first, later = take(pairs, 70, buckets=4), take(pairs, 30, buckets=4, start=40)
    for one, other in zip(first[40:], later, strict=True):
        jax.tree.map(np.testing.assert_array_equal, one, other)
    other = take(pairs, 1, buckets=4, seed=1)[0]
    assert examples(first[:1]) != examples([other])


def test_streaming_and_sharded_batches_are_the_same(pairs):
    mesh = jax.make_mesh((4,), ("data",), (AxisType.Auto,), devices=jax.devices()[:4])
    sharded = NamedSharding(mesh, PartitionSpec("data"))
    first = take(pairs, 8, buckets=4)
    for others in (
        take(pairs, 8, buckets=4, kind="streaming"),
        take(pairs, 8, buckets=4, sharding=sharded),
    ):
        for one, other in zip(first, others, strict=True):
            jax.tree.map(np.testing.assert_array_equal, one, other)


def test_targets_of_steps_are_cut_and_others_are_not():
    inputs = np.arange(80, dtype=np.int32).reshape(8, 10)
    length = np.array([2, 2, 3, 3, 9, 9, 10, 10], np.int32)
    future = np.ones((8, 12), np.float32)
    tagged = Arrays("tagged", {"inputs": inputs, "length": length, "targets": inputs + 1})
    forecast = Arrays("forecast", {"inputs": inputs, "length": length, "targets": future})
    buckets = Buckets.of(tagged, 3)
    assert buckets.steps == (4, 7, 10)
    assert buckets.fit(np.array([0, 3])) == (("inputs", 4), ("targets", 4))
    assert buckets.fit(np.array([0, 4])) == (("inputs", 10), ("targets", 10))
    assert Buckets.of(forecast, 3).fit(np.array([0, 3])) == (("inputs", 4),)


def test_a_step_for_each_length(pairs):
    """Every batch of the feed finds the step that was made for its shapes, and none is missing."""
    shapes = {
        name: jax.ShapeDtypeStruct((32, *shape), dtype)
        for name, (shape, dtype) in pairs.spec.items()
    }
    made = []

    def compile(batch):
        expected = batch["inputs"].shape, batch["targets"].shape
        made.append(expected)

        def step(state, batch):
            assert (batch["inputs"].shape, batch["targets"].shape) == expected
            return state + 1

        return step

    (step, _), state = for_each_length(compile, shapes, Buckets.of(pairs, 4)), 0
    for batch in take(pairs, 31, buckets=4):
        state = step(state, batch)
    assert state == 31 and len(made) == len(set(made)) == 4


@pytest.mark.parametrize(
    ("name", "count", "message"),
    [
        ("toy/translation", 0, r"data\.buckets: found 0, expected at least 1"),
        ("toy/text", 4, r"data\.buckets: found 4 with data\.name='toy/text', whose examples are"),
    ],
)
def test_what_cannot_be(name, count, message):
    with pytest.raises(UserError, match=message):
        take(load(name, Options()).train, 1, buckets=count)


def test_images_have_no_length(digits):
    with pytest.raises(UserError, match="a set of sequences that each have a length"):
        Buckets.of(digits.train, 2)


def test_the_share_of_padding_is_that_of_the_batches(pairs):
    for buckets in (1, 4):
        batches = take(pairs, len(pairs) // 32, buckets=buckets)
        found = padding_share(pairs, batch_size=32, seed=0, buckets=buckets)
        assert found == pytest.approx(padding(batches))
