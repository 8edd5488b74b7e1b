"""Feeds: order, resumption, sharding, the last batch, and resident against streaming."""

import dataclasses
import itertools
import json
import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec, SingleDeviceSharding

from research.config import UserError
from research.data import feed
from research.data.feed import batch_indices, evaluation_batches, make_feed

SIZE = 1257  # of the training split of digits


def single(device=0):
    return SingleDeviceSharding(jax.devices()[device])


def over_devices(count=8):
    mesh = jax.make_mesh(
        (count,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:count]
    )
    return NamedSharding(mesh, PartitionSpec("data"))


def take(batches, count):
    """Return the first batches as NumPy arrays, and close the feed."""
    taken = [jax.device_get(batch) for batch in itertools.islice(batches, count)]
    batches.close()
    return taken


def assert_equal(found, expected):
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys() == {"image", "label", "mask"}
        for key in one:
            assert one[key].dtype == other[key].dtype
            np.testing.assert_array_equal(one[key], other[key])


def stream(steps, *, size=SIZE, batch_size=100, seed=0):
    return np.concatenate(
        [batch_indices(s, size=size, batch_size=batch_size, seed=seed) for s in range(steps)]
    )


@pytest.mark.parametrize(("size", "batch_size"), [(1257, 100), (10, 10), (7, 3), (5, 1)])
def test_every_example_once_per_epoch(size, batch_size):
    epochs = stream(5 * size, size=size, batch_size=batch_size)[: 4 * size].reshape(4, size)
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(size))


def test_shuffle_differs_by_seed_and_epoch_and_repeats():
    first, second = stream(26)[: 2 * SIZE].reshape(2, SIZE)
    other = stream(13, seed=1)[:SIZE]
    # Independent permutations agree in one place, on average.
    for one, two in ((first, second), (first, other), (second, other), (first, np.arange(SIZE))):
        assert (one == two).sum() < 8
    feed._permutation.cache_clear()
    np.testing.assert_array_equal(stream(13)[:SIZE], first)


def test_shuffle_is_global():
    """A batch is drawn from the whole set, not from a window of it."""
    batch = batch_indices(0, size=100_000, batch_size=1000, seed=0)
    counts = np.histogram(batch, bins=5, range=(0, 100_000))[0]
    assert np.abs(counts - 200).max() < 60


def test_any_batch_size_walks_the_same_stream():
    np.testing.assert_array_equal(stream(60, batch_size=50), stream(30, batch_size=100))


@pytest.mark.parametrize("kind", ["resident", "streaming"])
def test_batches_hold_the_chosen_examples(digits, kind):
    images, labels = digits.train.arrays().values()
    batches = make_feed(digits.train, kind=kind, batch_size=100, seed=3, sharding=single())
    for step, batch in enumerate(take(batches, 14)):  # over the border of an epoch
        chosen = batch_indices(step, size=SIZE, batch_size=100, seed=3)
        np.testing.assert_array_equal(batch["image"], images[chosen])
        np.testing.assert_array_equal(batch["label"], labels[chosen])
        np.testing.assert_array_equal(batch["mask"], np.ones(100, np.float32))
        assert (batch["image"].dtype, batch["label"].dtype) == (np.uint8, np.int32)


@pytest.mark.parametrize(("devices", "workers"), [(1, 0), (8, 0), (8, 2)])
def test_resident_equals_streaming(digits, workers, devices):
    sharding = single(1) if devices == 1 else over_devices()
    options = {"batch_size": 64, "seed": 5, "sharding": sharding, "start": 17}
    resident = make_feed(digits.train, kind="resident", **options)
    streaming = make_feed(digits.train, kind="streaming", workers=workers, **options)
    one, other = next(resident), next(streaming)
    for key in one:
        assert one[key].sharding == other[key].sharding == sharding
        assert len(one[key].addressable_shards) == devices
        assert one[key].addressable_data(0).shape[0] == 64 // devices
    assert_equal(take(streaming, 6), take(resident, 6))


@pytest.mark.parametrize("kind", ["resident", "streaming"])
def test_resumed_is_the_tail_of_unbroken(digits, kind):
    options = {"kind": kind, "batch_size": 100, "seed": 0, "sharding": single()}
    unbroken = take(make_feed(digits.train, **options), 15)
    for start in (1, 12, 13):  # within an epoch, in the batch that straddles two, after it
        resumed = make_feed(digits.train, start=start, **options)
        assert_equal(take(resumed, 15 - start), unbroken[start:])


def test_the_global_batch_does_not_depend_on_the_devices(digits):
    options = {"kind": "resident", "batch_size": 32, "seed": 0}
    expected = take(make_feed(digits.train, sharding=single(), **options), 3)
    for count in (2, 8):
        found = take(make_feed(digits.train, sharding=over_devices(count), **options), 3)
        assert_equal(found, expected)


@pytest.mark.parametrize("kind", ["resident", "streaming"])
@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize("batch_size", [48, 64, 360, 400])
def test_evaluation_shows_each_example_once(digits, kind, devices, batch_size):
    images, labels = digits.test.arrays().values()
    sharding = single() if devices == 1 else over_devices()
    batches = evaluation_batches(digits.test, batch_size=batch_size, sharding=sharding, kind=kind)
    taken = take(batches, 1000)
    assert len(taken) == -(-360 // batch_size)
    joined = {key: np.concatenate([batch[key] for batch in taken]) for key in taken[0]}
    np.testing.assert_array_equal(joined["mask"], np.arange(len(joined["mask"])) < 360)
    np.testing.assert_array_equal(joined["image"][:360], images)
    np.testing.assert_array_equal(joined["label"][:360], labels)
    assert not joined["image"][360:].any() and not joined["label"][360:].any()


def test_masked_counts_are_exact(digits):
    """The number of sevens, counted over padded batches on the device."""
    batches = evaluation_batches(digits.test, batch_size=64, sharding=over_devices())
    count = sum(float(((batch["label"] == 7) * batch["mask"]).sum()) for batch in batches)
    assert count == (digits.test.arrays()["label"] == 7).sum()


def test_threads_share_and_do_not_disturb(digits):
    """One feed per thread and device at once gives each what it gives alone."""
    split = dataclasses.replace(digits.train)  # remembers nothing yet

    def run(device):
        options = {"batch_size": 50, "seed": device, "sharding": single(device)}
        kind = "resident" if device % 2 else "streaming"
        return take(make_feed(split, kind=kind, **options), 10)

    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(run, range(8)))
    images, labels = digits.train.arrays().values()
    for seed, batches in enumerate(together):
        for step, batch in enumerate(batches):
            chosen = batch_indices(step, size=SIZE, batch_size=50, seed=seed)
            np.testing.assert_array_equal(batch["image"], images[chosen])
            np.testing.assert_array_equal(batch["label"], labels[chosen])


def test_runs_on_one_device_share_one_upload(digits, monkeypatch):
    split = dataclasses.replace(digits.train)
    uploads = []
    place = jax.make_array_from_process_local_data

    def count(sharding, array, shape):
        uploads.append(len(array) == SIZE)
        return place(sharding, array, shape)

    monkeypatch.setattr(jax, "make_array_from_process_local_data", count)
    for seed in range(3):
        options = {"batch_size": 8, "seed": seed, "sharding": single()}
        take(make_feed(split, kind="resident", **options), 2)
    assert sum(uploads) == 2  # images and labels
    take(make_feed(split, kind="resident", batch_size=8, seed=0, sharding=single(1)), 1)
    assert sum(uploads) == 4


def test_auto_is_resident_while_the_split_fits(digits, monkeypatch):
    options = {"kind": "auto", "batch_size": 8, "seed": 0, "sharding": single()}

    def remembers():
        split = dataclasses.replace(digits.train)
        take(make_feed(split, **options), 1)
        return "arrays" in split._memory

    assert remembers()
    monkeypatch.setattr(feed, "RESIDENT_BYTES", digits.train.nbytes - 1)
    assert not remembers()


@pytest.mark.parametrize(("kind", "workers"), [("resident", 0), ("streaming", 0), ("streaming", 1)])
def test_a_label_out_of_range_reaches_the_user(digits, kind, workers):
    split = dataclasses.replace(digits.train, num_classes=9)
    options = {"batch_size": 500, "seed": 0, "sharding": single(), "workers": workers}
    with pytest.raises(UserError, match=r"digits has the label 9 .* expected 0 to 8"):
        next(make_feed(split, kind=kind, **options))


def test_bad_options(digits):
    options = {"kind": "auto", "batch_size": 64, "seed": 0, "sharding": over_devices()}
    for changed, message in (
        ({"kind": "streeming"}, r"data\.feed: found 'streeming'.*did you mean 'streaming'"),
        ({"batch_size": 1258}, r"data\.batch_size: found 1258, expected 1 to 1257"),
        ({"batch_size": 0}, r"data\.batch_size: found 0, expected 1 to 1257"),
        ({"batch_size": 63}, r"data\.batch_size: 63 does not divide over 8 devices.* 64"),
        ({"batch_size": 2}, r"data\.batch_size: 2 does not divide over 8 devices.* 8"),
    ):
        with pytest.raises(UserError, match=message):
            make_feed(digits.train, **{**options, **changed})  # at once, not at the first batch
    for changed, message in (({"batch_size": 63}, "divide"), ({"batch_size": -1}, "at least 1")):
        with pytest.raises(UserError, match=rf"data\.batch_size.*{message}"):
            evaluation_batches(digits.test, sharding=over_devices(), **changed)


HOST = """
import json, sys
import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from research.data.feed import evaluation_batches, make_feed
from research.data.sources import load_dataset

jax.distributed.initialize(f"localhost:{sys.argv[1]}", 2, int(sys.argv[2]))
digits = load_dataset("digits", sys.argv[3])
mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
sharding = NamedSharding(mesh, PartitionSpec("data"))
rows = []
for kind in ("resident", "streaming"):
    feed = make_feed(digits.train, kind=kind, batch_size=40, seed=2, sharding=sharding, start=30)
    batches = [*(next(feed) for _ in range(3))]
    batches += evaluation_batches(digits.test, batch_size=200, sharding=sharding, kind=kind)
    for number, batch in enumerate(batches):
        for image, label in zip(*(batch[k].addressable_shards for k in ("image", "label"))):
            start = label.index[0].start or 0
            for row, (x, y) in enumerate(zip(np.asarray(image.data), np.asarray(label.data))):
                rows.append([kind, number, start + row, int(x.astype(int).sum()), int(y)])
print(json.dumps(rows))
"""


def test_hosts_hold_the_global_batch_between_them(digits, data_dir):
    """Two real processes of two devices each: the union of their rows is the global batch."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    flags = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    path = os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")])
    hosts = [
        subprocess.Popen(
            [sys.executable, "-c", HOST, str(port), str(host), str(data_dir)],
            env={**os.environ, **flags, "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for host in range(2)
    ]
    outputs = [host.communicate(timeout=100) for host in hosts]
    assert [host.returncode for host in hosts] == [0, 0], outputs
    for _, errors in outputs:  # the feed is left open, and closes at exit without a word
        assert "Exception ignored" not in errors
    rows = [json.loads(output.splitlines()[-1]) for output, _ in outputs]
    for host, held in enumerate(rows):  # each its contiguous half
        assert {row[2] // 20 for row in held if row[1] < 3} == {host}
    (images, labels), (test_images, test_labels) = (
        digits.train.arrays().values(),
        digits.test.arrays().values(),
    )
    expected = []
    for number in range(3):
        for row, i in enumerate(batch_indices(30 + number, size=SIZE, batch_size=40, seed=2)):
            expected.append([number, row, int(images[i].astype(int).sum()), int(labels[i])])
    for i in range(400):
        pixels = int(test_images[i].astype(int).sum()) if i < 360 else 0
        label = int(test_labels[i]) if i < 360 else 0
        expected.append([3 + i // 200, i % 200, pixels, label])
    for kind in ("resident", "streaming"):
        found = sorted(row[1:] for row in rows[0] + rows[1] if row[0] == kind)
        assert found == sorted(expected)
