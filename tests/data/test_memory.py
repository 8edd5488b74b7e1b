"""Synthetic probes: each answer found again by walking the sequence."""

import numpy as np
import pytest

from research.config import UserError
from research.data.sets.memory import COPY, ORDER
from research.data.sources import load_dataset


def read(name, length, **options):
    dataset = load_dataset(name, length=length, train_size=500, **options)
    assert [len(s) for s in (dataset.train, dataset.validation, dataset.test)] == [500, 2000, 2000]
    one, other = dataset.train.arrays()["inputs"], dataset.validation.arrays()["inputs"]
    assert not np.array_equal(one, other[:500])
    return dataset, dataset.train.arrays()


def test_adding():
    _, data = read("adding", 37)
    assert data["inputs"].shape == (500, 37, 2) and data["inputs"].dtype == np.float32
    assert (data["length"] == 37).all() and data["target"].dtype == np.float32
    for example, target in zip(data["inputs"], data["target"], strict=True):
        marked = np.flatnonzero(example[:, 1])
        assert len(marked) == 2 and marked[0] < 18 <= marked[1]
        assert target == pytest.approx(sum(example[i, 0] for i in marked), abs=1e-6)
    places = data["inputs"][:, :, 1].sum(0)
    assert (places > 5).all()  # of 500/18 each
    assert np.mean((data["target"] - 1) ** 2) == pytest.approx(1 / 6, rel=0.15)


def test_copying():
    dataset, data = read("copying", 30)
    assert dataset.vocabulary is COPY and data["inputs"].shape == (500, 50)
    for inputs, targets in zip(data["inputs"], data["targets"], strict=True):
        symbols = COPY.decode(inputs).split()
        assert symbols[10:39] == ["_"] * 29 and symbols[39:] == [">", *"_" * 10]
        assert {*symbols[:10]} <= {*"12345678"}
        assert COPY.decode(targets).split() == ["_"] * 40 + symbols[:10]
    assert len({*map(tuple, data["inputs"][:, :10])}) == 500


def test_temporal_order():
    dataset, data = read("temporal_order", 100)
    assert dataset.class_names == ("XX", "XY", "YX", "YY")
    assert {*data["length"]} == {*range(100, 111)}
    for inputs, length, label in zip(
        *(data[k] for k in ("inputs", "length", "label")), strict=True
    ):
        assert not inputs[length:].any()
        symbols = ORDER.decode(inputs[:length]).split()
        assert len(symbols) == length and (symbols[0], symbols[-1]) == ("E", "B")
        places = [i for i, symbol in enumerate(symbols) if symbol in "XY"]
        assert len(places) == 2 and 10 <= places[0] <= 20 and 50 <= places[1] <= 60
        assert "".join(symbols[i] for i in places) == dataset.class_names[label]
        assert {*symbols[1:-1]} <= {*"XYabcd"}
    assert np.bincount(data["label"]).min() > 90


def test_parity():
    dataset, data = read("parity", 9)
    assert dataset.class_names == ("even", "odd") and data["inputs"].shape == (500, 9, 1)
    np.testing.assert_array_equal(data["inputs"].sum((1, 2)) % 2, data["label"])
    assert 200 < data["label"].sum() < 300


def test_a_probe_is_the_same_whenever_it_is_made():
    np.random.seed(0)
    one, other = (load_dataset("parity", train_size=50).train.digest() for _ in range(2))
    assert one == other != load_dataset("parity", train_size=50, length=49).train.digest()


def test_what_cannot_be():
    for name, options, message in (
        ("adding", {"length": 1}, r"data\.length: found 1 .*at least 2"),
        ("adding/long", {}, r"data\.name: found 'adding/long'"),
        ("parity", {"classes": (0, 1)}, r"data\.classes: .*of images"),
        ("parity", {"domain": "noisy"}, r"data\.domain: .*of images"),
        ("digits", {"length": 5}, r"data\.length: .*of sequences"),
        ("digits", {"tokens": "char"}, r"data\.tokens: .*of sequences"),
    ):
        with pytest.raises(UserError, match=message):
            load_dataset(name, **options)
